"""One open handle of a table: libiptc's copy of it, edited in memory, committed at once or dropped.

The libraries are those that python-iptables loaded, bound anew: its own bindings misspell `argtypes`, so that nothing checks
arguments, and lose errno. A handle is made for one edit and never kept, so none is ever stale (libraries 1.3, fault 12), and
nothing commits by itself. Knows bytes, not rules. The engine thread runs it.
"""

from __future__ import annotations

import ctypes as ct
import errno
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final

from hostward.dataplane.kernel import KernelError
from hostward.dataplane.xtables import blocks, compat
from hostward.dataplane.xtables.layout import LAYOUTS, OFFSETS, PART_HEADER, TO_CHAIN, TO_VERDICT, Layout
from hostward.render.ruleset import Family, TableId

_PREFIXES: Final[dict[Family, str]] = {4: "iptc_", 6: "ip6tc_"}
_HANDLE, _TEXT, _ENTRY, _NUMBER = ct.c_void_p, ct.c_char_p, ct.c_void_p, ct.c_uint
_SIGNATURES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "init": (_HANDLE, (_TEXT,)),
    "free": (None, (_HANDLE,)),
    "commit": (ct.c_int, (_HANDLE,)),
    "is_chain": (ct.c_int, (_TEXT, _HANDLE)),
    "first_chain": (_TEXT, (_HANDLE,)),
    "next_chain": (_TEXT, (_HANDLE,)),
    "first_rule": (_ENTRY, (_TEXT, _HANDLE)),
    "next_rule": (_ENTRY, (_ENTRY, _HANDLE)),
    "get_target": (_TEXT, (_ENTRY, _HANDLE)),
    "create_chain": (ct.c_int, (_TEXT, _HANDLE)),
    "delete_chain": (ct.c_int, (_TEXT, _HANDLE)),
    "flush_entries": (ct.c_int, (_TEXT, _HANDLE)),
    "get_references": (ct.c_int, (ct.POINTER(_NUMBER), _TEXT, _HANDLE)),
    "append_entry": (ct.c_int, (_TEXT, _ENTRY, _HANDLE)),
    "insert_entry": (ct.c_int, (_TEXT, _ENTRY, _NUMBER, _HANDLE)),
    "delete_num_entry": (ct.c_int, (_TEXT, _NUMBER, _HANDLE)),
    "strerror": (_TEXT, (ct.c_int,)),
}
_HINTS: Final = {
    errno.EAGAIN: ": another program wrote to it without the xtables lock",
    errno.ELOOP: ": chains would jump in a circle",
    errno.EMLINK: ": another rule still jumps to it",
    errno.EPERM: ": the agent needs CAP_NET_ADMIN",
    errno.EINVAL: ": the kernel log (dmesg) may say which match or target it refuses",
    errno.ENOENT: ": the kernel lacks the module of a match or target",
}
_MAY_PASS: Final = (errno.EAGAIN, errno.EMLINK, errno.ENOMEM, errno.EBUSY)


_SLOW: Final = ("init", "commit", "free")
"""These alone let other threads of Python run meanwhile: to get their turn again costs more than the others take."""


def _bind(family: Family) -> dict[str, Any]:
    path = compat.LIBRARY_PATHS[family]
    slow, quick = ct.CDLL(path, use_errno=True), ct.PyDLL(path, use_errno=True)
    functions = {}
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(slow if name in _SLOW else quick, _PREFIXES[family] + name)
        function.restype, function.argtypes = result, arguments
        functions[name] = function
    return functions


_FUNCTIONS: Final[dict[Family, dict[str, Any]]] = {4: _bind(4), 6: _bind(6)}


class Handle:
    """A table's copy in memory. Use it in a `with`; what isn't committed is dropped. Positions count from 0."""

    def __init__(self, table: TableId) -> None:
        self.table = table
        self.layout: Layout = LAYOUTS[table.family]
        self._call = _FUNCTIONS[table.family]
        blocks.from_heap()
        self._handle = self._call["init"](table.name.encode())
        if not self._handle:
            error = self._error("open it")
            blocks.from_system()
            raise error

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._call["free"](self._handle)
        self._handle = None
        blocks.from_system()

    # --- reading -------------------------------------------------------------------------------------------------------
    def chains(self) -> list[str]:
        """All chains, the kernel's first."""
        found = []
        name = self._call["first_chain"](self._handle)
        while name is not None:
            found.append(name.decode(errors="surrogateescape"))
            name = self._call["next_chain"](self._handle)
        return found

    def has_chain(self, chain: str) -> bool:
        """Whether a chain exists."""
        return bool(self._call["is_chain"](_name(chain), self._handle))

    def rules(self, chain: str) -> Iterator[tuple[bytes, bytes | None]]:
        """Each rule of a chain as (copy of its entry, what its standard target stands for as in `layout.content`)."""
        at = self._call["first_rule"](_name(chain), self._handle)
        while at:
            target_offset, length = OFFSETS.unpack(ct.string_at(at + self.layout.offsets, OFFSETS.size))
            entry = ct.string_at(at, length)
            yield entry, self._leads_to(at, entry, target_offset)
            at = self._call["next_rule"](at, self._handle)

    def _leads_to(self, at: int, entry: bytes, target_offset: int) -> bytes | None:
        name: bytes | None = self._call["get_target"](at, self._handle)
        if entry[target_offset + 2] or name is None:
            return None
        if name in (b"ACCEPT", b"DROP", b"QUEUE", b"RETURN") and entry[target_offset + PART_HEADER + 3] & 0x80:
            return TO_VERDICT + name
        return TO_CHAIN + name if name else TO_VERDICT

    def references(self, chain: str) -> int:
        """How many rules jump to a chain."""
        count = _NUMBER(0)
        self._checked("get_references", f"count references to {chain}", ct.byref(count), _name(chain))
        return count.value

    # --- editing -------------------------------------------------------------------------------------------------------
    def create(self, chain: str) -> None:
        """Makes an empty chain."""
        self._checked("create_chain", f"create chain {chain}", _name(chain))

    def flush(self, chain: str) -> None:
        """Removes all rules of a chain."""
        self._checked("flush_entries", f"flush chain {chain}", _name(chain))

    def delete(self, chain: str) -> None:
        """Removes an empty chain that no rule jumps to."""
        self._checked("delete_chain", f"delete chain {chain}", _name(chain))

    def append(self, chain: str, entry: bytes) -> None:
        """Adds a rule at the end; its target may be a chain's name."""
        self._checked("append_entry", f"append a rule to {chain}", _name(chain), entry)

    def insert(self, chain: str, position: int, entry: bytes) -> None:
        """Adds a rule before the one at a position."""
        self._checked("insert_entry", f"insert a rule into {chain}", _name(chain), entry, position)

    def remove(self, chain: str, position: int) -> None:
        """Removes the rule at a position."""
        self._checked("delete_num_entry", f"remove rule {position + 1} of {chain}", _name(chain), position)

    def commit(self) -> None:
        """Puts all edits into the kernel at once. Raises KernelError, with `retry` when somebody else was faster."""
        self._checked("commit", "commit")

    def _checked(self, function: str, what: str, *arguments: Any) -> None:
        if self._call[function](*arguments, self._handle) != 1:
            raise self._error(what)

    def _error(self, what: str) -> KernelError:
        code = ct.get_errno()
        text = self._call["strerror"](code).decode(errors="replace")
        return KernelError(f"table {self.table}: cannot {what}: {text}{_HINTS.get(code, '')}", retry=code in _MAY_PASS)


def _name(chain: str) -> bytes:
    return chain.encode(errors="surrogateescape")
