"""One attempt to reach an address: TCP with an answered line, a UDP echo, a ping, an SCTP INIT, any raw protocol."""

from __future__ import annotations

import errno
import os
import secrets
import select
import socket
import struct
import time

from tests.lab.worker.loop import Loop
from tests.lab.worker.packets import inet_checksum, sctp_init

NAMES = {"icmp": socket.IPPROTO_ICMP, "icmpv6": socket.IPPROTO_ICMPV6, "sctp-init": 132}
OUTCOMES = {
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ECONNREFUSED: "refused",
    errno.EPERM: "denied",
    errno.EACCES: "denied",
    errno.EADDRNOTAVAIL: "no address",
    errno.ETIMEDOUT: "timeout",
}

ANSWER_SECONDS = 3.0  # for the answer on a connection that is open


class Attempt:
    """One attempt to reach an address: made, waited for, judged once."""

    def __init__(  # a command's fields, always passed by name
        self,
        loop: Loop,
        address: str,
        port: int = 0,
        proto: str | int = "tcp",
        source: str | None = None,
        source_port: int = 0,
        timeout: float = 0.4,
        icmp_type: int = 8,
        mark: int = 0,
        knock: bool = False,
    ) -> None:
        self.loop, self.address, self.port, self.proto = loop, address, port, proto
        self.bind_to, self.timeout, self.icmp_type, self.mark = (source or "", source_port), timeout, icmp_type, mark
        self.knock = knock
        self.deadline = 0.0
        self.family: int = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.token = secrets.token_bytes(4).hex()
        self.outcome: str | None = None
        self.seen = ""
        self.sock: socket.socket | None = None

    def start(self) -> None:
        self.deadline = time.monotonic() + self.timeout
        try:
            if self.proto == "tcp":
                self.open(socket.SOCK_STREAM)
                error = self.opened.connect_ex((self.address, self.port))
                if error not in (0, errno.EINPROGRESS):
                    self.fail(OSError(error, os.strerror(error)))
                    return
                self.loop.watch(self.opened, self.connected, select.POLLOUT)
            elif self.proto == "udp":
                self.open(socket.SOCK_DGRAM)
                self.opened.connect((self.address, self.port))
                self.opened.send(self.token.encode())
                self.loop.watch(self.opened, self.answered)
            else:
                protocol = NAMES[self.proto] if isinstance(self.proto, str) else self.proto
                if self.family == socket.AF_INET6 and protocol == socket.IPPROTO_ICMP:
                    protocol = socket.IPPROTO_ICMPV6
                self.open(socket.SOCK_RAW, protocol)
                self.opened.sendto(self.packet(protocol), (self.address, 0))
                self.loop.watch(self.opened, lambda _event: self.answered_raw(protocol))
        except OSError as error:
            self.fail(error)

    @property
    def opened(self) -> socket.socket:
        assert self.sock is not None  # a programming error of this very file, not a condition of the world
        return self.sock

    def open(self, kind: int, protocol: int = 0) -> None:
        self.sock = socket.socket(self.family, kind, protocol)
        self.sock.setblocking(False)
        if self.mark:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.mark)
        if kind != socket.SOCK_RAW:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind != socket.SOCK_RAW or self.bind_to[0]:
            self.sock.bind(self.bind_to if kind != socket.SOCK_RAW else (self.bind_to[0], 0))

    def packet(self, protocol: int) -> bytes:
        token = bytes.fromhex(self.token)
        if protocol == 132:
            source = self.bind_to[1] or 20_000 + secrets.randbelow(40_000)
            return sctp_init(source, self.port, token)
        if protocol == socket.IPPROTO_ICMPV6:
            kind = 128 if self.icmp_type == 8 else self.icmp_type
            return struct.pack("!BBH4s", kind, 0, 0, token)  # the kernel fills the checksum of ICMPv6
        if protocol == socket.IPPROTO_ICMP:
            rest = token + (struct.pack("!III", 0, 0, 0) if self.icmp_type == 13 else b"")
            checksum = inet_checksum(struct.pack("!BBH", self.icmp_type, 0, 0) + rest)
            return struct.pack("!BBH", self.icmp_type, 0, checksum) + rest
        return b"ask:" + self.token.encode()

    def connected(self, _event: int) -> None:
        try:
            error = self.opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self.fail(OSError(error, os.strerror(error)))
                return
            if self.knock:
                self.end("ok")
                return
            # Policy has let it through; the answer waits for the server's turn on a busy machine.
            self.deadline = max(self.deadline, time.monotonic() + ANSWER_SECONDS)
            self.opened.send(self.token.encode() + b"\n")
            self.loop.forget_handler(self.opened)
            self.loop.watch(self.opened, self.answered)
        except OSError as error:
            self.fail(error)

    def answered(self, _event: int) -> None:
        try:
            words = self.opened.recv(2048).decode("ascii", "replace").split()
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(error)
            return
        if len(words) == 2 and words[0] == self.token:
            self.seen = words[1]
            self.end("ok")
        elif self.proto == "tcp":
            self.end("closed" if not words else "strange answer")

    def answered_raw(self, protocol: int) -> None:
        for _ in range(64):
            if self.outcome is not None:
                return
            try:
                data, peer = self.opened.recvfrom(2048)
            except BlockingIOError:
                return
            except OSError as error:
                self.fail(error)
                return
            if self.family == socket.AF_INET:
                data = data[(data[0] & 15) * 4 :]
            if peer[0] == self.address and self.is_answer(protocol, data):
                self.end("ok")

    def is_answer(self, protocol: int, data: bytes) -> bool:
        token = bytes.fromhex(self.token)
        if protocol == 132:
            return len(data) >= 20 and data[12] == 2 and data[16:20] == token
        if protocol == socket.IPPROTO_ICMPV6:
            return len(data) >= 8 and data[0] == 129 and data[4:8] == token
        if protocol == socket.IPPROTO_ICMP:
            return len(data) >= 8 and data[0] == {8: 0, 13: 14}.get(self.icmp_type) and data[4:8] == token
        return data == b"got:" + self.token.encode()

    def fail(self, error: OSError) -> None:
        self.end(OUTCOMES.get(error.errno or 0, f"error {error}"))

    def end(self, outcome: str) -> None:
        self.outcome = outcome
        if self.sock is not None:
            if self.proto == "tcp" and outcome == "ok":
                # A reset leaves no TIME_WAIT behind: thousands of probes must not run out of ports.
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.loop.forget(self.sock)
