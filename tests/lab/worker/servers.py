"""Echo servers: TCP, UDP, and raw protocols (SCTP INIT among them). Answers name the asker's address."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque
from functools import partial
from typing import Any

from tests.lab.worker.loop import Loop
from tests.lab.worker.packets import sctp_init

IP_PKTINFO = 8  # <linux/in.h>; the socket module names it only from 3.14 on
EVERYWHERE = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))  # noqa: S104 # a server of a namespace of its own


def server(family: int, kind: int, protocol: int = 0) -> socket.socket:
    """An unbound server socket for one family only."""
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6 and kind != socket.SOCK_RAW:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setblocking(False)
    return sock


class Servers:
    """All servers of this namespace."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.heard: deque[str] = deque(maxlen=10_000)

    def listen(self, tcp: list[int], udp: list[int], protocols: list[int]) -> dict[str, Any]:
        """Opens both families of every port and protocol; OSError when one is taken."""
        for family, any_address in EVERYWHERE:
            for port in tcp:
                sock = server(family, socket.SOCK_STREAM)
                sock.bind((any_address, port))
                sock.listen(128)
                self.loop.watch(sock, partial(self.accept, sock))
            for port in udp:
                sock = server(family, socket.SOCK_DGRAM)
                self.want_destination(sock)
                sock.bind((any_address, port))
                self.loop.watch(sock, partial(self.echo_datagrams, sock))
            for protocol in protocols:
                sock = server(family, socket.SOCK_RAW, protocol)
                self.loop.watch(sock, partial(self.echo_raw, sock, protocol))
        return {}

    @staticmethod
    def want_destination(sock: socket.socket) -> None:
        """An answer must leave from the address that was asked, or the asker's kernel drops it."""
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)

    def accept(self, listener: socket.socket, _event: int) -> None:
        with contextlib.suppress(BlockingIOError):
            sock, peer = listener.accept()
            sock.setblocking(False)
            self.loop.watch(sock, partial(self.echo_stream, sock, peer))

    def echo_stream(self, sock: socket.socket, peer: Any, _event: int) -> None:
        """Answers each line with the line and the asker's address; stays open until the asker ends it."""
        try:
            data = sock.recv(4096)
            if not data:
                self.loop.forget(sock)
                return
            self.heard.append(data.strip().decode("ascii", "replace"))
            sock.sendall(data.strip() + b" " + peer[0].encode() + b"\n")
        except OSError:
            self.loop.forget(sock)  # the asker's own end of the connection says how it went

    def echo_datagrams(self, sock: socket.socket, _event: int) -> None:
        for _ in range(64):
            try:
                data, control, _flags, peer = sock.recvmsg(2048, 256)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error for an answer that we sent earlier
            self.heard.append(data.decode("ascii", "replace"))
            with contextlib.suppress(OSError):  # an answer that the host's policy forbids is the asker's timeout
                sock.sendmsg([data + b" " + peer[0].encode()], self.reply_control(control), 0, peer)

    @staticmethod
    def reply_control(control: list[Any]) -> list[Any]:
        reply: list[Any] = []
        for level, kind, value in control:
            if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
                reply.append((level, kind, struct.pack("=I4s4s", 0, value[8:12], bytes(4))))
            elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
                reply.append((level, kind, value[:16] + bytes(4)))
        return reply

    def echo_raw(self, sock: socket.socket, protocol: int, _event: int) -> None:
        for _ in range(64):
            try:
                data, peer = sock.recvfrom(2048)
            except OSError:
                return
            if sock.family == socket.AF_INET:
                data = data[(data[0] & 15) * 4 :]
            answer = None
            if protocol == 132 and len(data) >= 20 and data[12] == 1:
                source, target = struct.unpack("!HH", data[:4])
                self.heard.append(data[16:20].hex())
                answer = sctp_init(target, source, data[16:20], answer=True)
            elif data.startswith(b"ask:"):
                self.heard.append(data[4:].decode("ascii", "replace"))
                answer = b"got:" + data[4:]
            if answer is not None:
                with contextlib.suppress(OSError):
                    sock.sendto(answer, (peer[0], 0))
