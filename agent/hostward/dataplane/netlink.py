"""One netlink conversation: a request and its answer, or a dump. Sets, links and conntrack speak through it.

It knows headers, sequence numbers and error replies, not what the messages mean. A socket belongs to the network namespace
that the opening thread was in, and to one thread at a time. It is our own because pyroute2's takes 175 us to swap, rename or
destroy a set (this one 6-40), and because an overrun must end a conversation, not be raised for ever (libraries 4).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Final

NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_EXCL: Final = 0x200
NLM_F_DUMP: Final = 0x300

_NLMSG_NOOP, _NLMSG_ERROR, _NLMSG_DONE = 1, 2, 3
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_GET_STRICT_CHK = 270, 10, 12
_SO_RCVBUFFORCE = 33
_HEADER = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
_TIMEOUT = struct.pack("@ll", 10, 0)
_READ = 1 << 17


class RefusedError(Exception):
    """The kernel answered with an error. `code` is a positive errno or a subsystem's own number above 4095."""

    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code) if code < 4096 else f"error {code}")
        self.code = code


class InterruptedDumpError(OSError):
    """What was dumped changed during each of several attempts: entries may be missing. Ask again later."""


class Netlink:
    """A netlink socket of `protocol` (NETLINK_ROUTE, NETLINK_NETFILTER), joined to the multicast `groups` (a bit mask).

    `receive_buffer` is in bytes, beyond the system's limit if we may; 0 leaves the default. Raises OSError.
    """

    def __init__(self, protocol: int, *, groups: int = 0, receive_buffer: int = 0) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0
        try:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
            # The kernel queues its answer before `send` returns. Only an answer lost for want of memory would block a reader.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
            if receive_buffer:
                self._grow(receive_buffer)
            self._socket.bind((0, groups))
        except OSError:
            self._socket.close()
            raise

    def _grow(self, size: int) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
        except PermissionError:  # no CAP_NET_ADMIN in the first user namespace: what net.core.rmem_max allows must do
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def fileno(self) -> int:
        """The file descriptor, for `select`."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes the socket; a second call does nothing."""
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        """Sets a socket option that only one user needs, such as a filter."""
        self._socket.setsockopt(level, option, value)

    def request(self, kind: int, body: bytes, *, flags: int = NLM_F_ACK) -> bytes:
        """Sends one message of type `kind` and waits for its answer: the answer's body, or b"" when it is a plain ack.

        Raises RefusedError when the kernel says no, OSError when the conversation broke (then close this socket).
        """
        sequence = self._send(kind, NLM_F_REQUEST | flags, body)
        while True:
            for reply, reply_kind, reply_sequence, _flags in messages(self._socket.recv(_READ)):
                if reply_sequence != sequence:
                    continue
                if reply_kind == _NLMSG_ERROR:
                    _raise_if_error(reply)
                    return b""
                return reply

    def dump(self, kind: int, body: bytes, *, attempts: int = 5, keep: Callable[[bytes], bool] = lambda _: True) -> list[bytes]:
        """Asks for all objects: the bodies of all answers that `keep` says to keep, in order. Starts over when they changed
        meanwhile.

        Raises RefusedError, InterruptedDumpError after that many `attempts`, and OSError (close this socket).
        """
        for _ in range(attempts):
            bodies, whole = self._dump_once(kind, body, keep)
            if whole:
                return bodies
        raise InterruptedDumpError(errno.EINTR, f"the kernel's list changed while it was read, {attempts} times in a row")

    def _dump_once(self, kind: int, body: bytes, keep: Callable[[bytes], bool]) -> tuple[list[bytes], bool]:
        sequence = self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, body)
        bodies: list[bytes] = []
        whole = True
        while True:
            for reply, reply_kind, reply_sequence, flags in messages(self._socket.recv(_READ)):
                if reply_sequence != sequence:
                    continue
                whole &= not flags & NLM_F_DUMP_INTR
                if reply_kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    _raise_if_error(reply)
                    return bodies, whole
                if reply_kind != _NLMSG_NOOP and keep(reply):
                    bodies.append(reply)

    def receive(self) -> list[tuple[int, bytes]]:
        """The multicast messages that one datagram brings, as (type, body); [] when none waits. Raises OSError (ENOBUFS)."""
        try:
            data = self._socket.recv(_READ, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        return [(kind, body) for body, kind, _sequence, _flags in messages(data)]

    def _send(self, kind: int, flags: int, body: bytes) -> int:
        self._sequence = self._sequence % 0xFFFFFFFF + 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        return self._sequence


def _raise_if_error(body: bytes) -> None:
    if len(body) >= _ERROR.size and (code := -_ERROR.unpack_from(body)[0]):
        raise RefusedError(code)


def messages(data: bytes) -> list[tuple[bytes, int, int, int]]:
    """Splits a datagram into (body, type, sequence number, flags); a cut-off rest is left out."""
    found = []
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            break
        found.append((data[offset + _HEADER.size : offset + length], kind, sequence, flags))
        offset += (length + 3) & ~3
    return found


def attributes(data: bytes, offset: int = 0) -> list[tuple[int, bytes]]:
    """The attributes from `offset` to the end of `data`, as (type without flag bits, value)."""
    found = []
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4 or offset + length > len(data):
            break
        found.append((kind & 0x3FFF, data[offset + 4 : offset + length]))
        offset += (length + 3) & ~3
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes. `kind` carries the flag bits NESTED and NET_BYTEORDER."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


NESTED: Final = 0x8000
NET_BYTEORDER: Final = 0x4000
