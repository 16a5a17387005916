"""The kernel's socket options for tables and sets: a table as one blob, the name behind a set's index, the index of a name.

It knows structures, not what is in a table. Sockets belong to the network namespace of the calling thread; the engine thread
runs it. Python's own getsockopt can't pass a request in, so the C library's is called.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
import socket
import struct
from types import TracebackType
from typing import Final, Literal, Self

from msgspec import Struct

from hostward.dataplane.kernel import KernelError
from hostward.render.ruleset import Family, TableId

HOOK_NAMES: Final = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
_LEVELS: Final[dict[Family, int]] = {4: 0, 6: 41}  # SOL_IP, SOL_IPV6
_GET_INFO, _GET_ENTRIES = 64, 65
Kind = Literal["match", "target"]
_GET_REVISION: Final[dict[Family, dict[Kind, int]]] = {4: {"match": 66, "target": 67}, 6: {"match": 68, "target": 69}}
_INFO: Final = struct.Struct("=32sI5I5III")
_ENTRIES_HEADER: Final = 40
_SET_OPTION: Final = 83  # SO_IP_SET
_SET_REQUEST: Final = struct.Struct("=II32s")
_SET_BY_NAME, _SET_BY_INDEX, _SET_PROTOCOL = 6, 7, 6
_NO_INDEX: Final = 0xFFFF
_READS: Final = 20
_libc: Final = ct.CDLL(None, use_errno=True)


class TableInfo(Struct, frozen=True):
    """What the kernel says about a table: where its kernel chains and their policies are, number of entries, size in bytes."""

    valid_hooks: int
    hook_entries: tuple[int, ...]
    underflows: tuple[int, ...]
    entries: int
    size: int


class _Asking:
    """A raw socket that asks. Use it in a `with`."""

    _domain: socket.AddressFamily = socket.AF_INET

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(self._domain, socket.SOCK_RAW, socket.IPPROTO_RAW)
        except OSError as error:
            hint = ": the agent needs CAP_NET_ADMIN and CAP_NET_RAW" if error.errno == errno.EPERM else ""
            version = "IPv4" if self._domain == socket.AF_INET else "IPv6"
            raise KernelError(f"cannot open a raw {version} socket: {error.strerror}{hint}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def _get(self, level: int, option: int, request: bytearray) -> int:
        """Fills `request` with the answer; 0 or an errno."""
        length = ct.c_uint32(len(request))
        # By its first byte: a type for each length would be made anew each time, kilobytes that only a collection frees.
        start = ct.c_char.from_buffer(request)
        failed = _libc.getsockopt(self._socket.fileno(), level, option, ct.byref(start), ct.byref(length))
        return ct.get_errno() if failed else 0


class TableSocket(_Asking):
    """Asks about tables of one family."""

    def __init__(self, family: Family) -> None:
        self._family: Family = family
        self._level = _LEVELS[family]
        self._domain = socket.AF_INET if family == 4 else socket.AF_INET6
        super().__init__()

    def read(self, table: TableId) -> tuple[TableInfo, bytearray]:
        """A table's present entries. Raises KernelError, with `retry` when it changed too often while it was read."""
        for _ in range(_READS):
            info = self.info(table)
            # Zeroed each time: the kernel leaves bytes behind the ends of names as they were in this buffer.
            blob = bytearray(_ENTRIES_HEADER + info.size)
            struct.pack_into("=32sI", blob, 0, table.name.encode(), info.size)
            code = self._get(self._level, _GET_ENTRIES, blob)
            if code == errno.EAGAIN:
                continue
            if code:
                raise _refused(table, code)
            if self.info(table) == info:
                del blob[:_ENTRIES_HEADER]
                return info, blob
        raise KernelError(f"table {table} changed each of the {_READS} times that it was read: who writes to it?", retry=True)

    def info(self, table: TableId) -> TableInfo:
        """A table's outline. Loads the table if it isn't loaded yet. Raises KernelError."""
        request = bytearray(_INFO.size)
        struct.pack_into("32s", request, 0, table.name.encode())
        code = self._get(self._level, _GET_INFO, request)
        if code:
            raise _refused(table, code)
        _, valid, *rest = _INFO.unpack(request)
        return TableInfo(valid, tuple(rest[:5]), tuple(rest[5:10]), rest[10], rest[11])

    def knows(self, kind: Kind, name: str, revision: int) -> bool:
        """Whether the kernel has a match or target in a revision; it loads the module if it may."""
        request = bytearray(struct.pack("29sB", name.encode(), revision))
        return not self._get(self._level, _GET_REVISION[self._family][kind], request)


class SetSocket(_Asking):
    """Asks for sets by name or index, as the set match's own user-space part does."""

    def name(self, index: int) -> str:
        """The name of the set that has an index, "" if none has."""
        answer = self._ask(_SET_BY_INDEX, struct.pack("=H", index))
        return answer.partition(b"\0")[0].decode(errors="replace")

    def index(self, name: str) -> int:
        """The index of a set. Raises KernelError when there is no such set: it may have been destroyed just now."""
        (index,) = struct.unpack_from("=H", self._ask(_SET_BY_NAME, name.encode()))
        if index == _NO_INDEX:
            raise KernelError(f"set {name}, which a rule names, is not in the kernel: somebody destroyed it", retry=True)
        return int(index)

    def _ask(self, operation: int, key: bytes) -> bytes:
        request = bytearray(_SET_REQUEST.pack(operation, _SET_PROTOCOL, key))
        code = self._get(_LEVELS[4], _SET_OPTION, request)
        if code:
            hint = ": is the module ip_set loaded?" if code == errno.ENOPROTOOPT else ""
            raise KernelError(f"cannot ask the kernel for a set: {os.strerror(code)}{hint}")
        return bytes(request[8:])


def _refused(table: TableId, code: int) -> KernelError:
    module = "ip_tables" if table.family == 4 else "ip6_tables"
    hints = {
        errno.ENOPROTOOPT: f": the kernel has no legacy iptables (module {module})",
        errno.ENOENT: f": the kernel has no such table (module {module.replace('_tables', 'table')}_{table.name})",
        errno.EPERM: ": the agent needs CAP_NET_ADMIN",
    }
    return KernelError(f"cannot read table {table}: {os.strerror(code)}{hints.get(code, '')}", retry=code == errno.EAGAIN)
