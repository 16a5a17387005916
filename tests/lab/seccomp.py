"""Syscall filters as systemd makes them of a unit's settings, as programs for the kernel. By libseccomp, as systemd does.

Knows systemd's groups (`systemd-analyze syscall-filter`), not what a unit is for.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final

_ALLOW: Final = 0x7FFF0000
_LESS, _EQUAL, _GREATER, _MASKED = 2, 4, 6, 7
_NAMESPACES: Final = (0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
_SET_ID: Final = (0o4000, 0o2000)
_ALWAYS: Final = "@default"  # every list of what is allowed holds it


class _Compare(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def _fails(number: int) -> int:
    return 0x00050000 | number


class _Filter:
    """One program; `default` is what happens to a call that no rule names."""

    def __init__(self, default: int) -> None:
        self._lib = ctypes.CDLL("libseccomp.so.2")
        self._lib.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._lib.seccomp_init(ctypes.c_uint32(default)))
        assert self._context, "libseccomp knows no filter for this machine"

    def add(self, action: int, call: str, *comparisons: tuple[int, int, int, int]) -> None:
        """A rule; each comparison is an argument's number, how it is compared, and with what. Unknown calls are left out."""
        number = self._lib.seccomp_syscall_resolve_name(call.encode())
        if number < 0:  # of another architecture
            return
        array = (_Compare * len(comparisons))(*(_Compare(*one) for one in comparisons))
        done = self._lib.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, ctypes.c_uint(len(comparisons)), array
        )
        assert done == 0, f"{call}: {errno.errorcode.get(-done, done)}"

    def program(self) -> bytes:
        """The program, and the end of it all."""
        with tempfile.TemporaryFile() as file:
            assert self._lib.seccomp_export_bpf(self._context, file.fileno()) == 0
            self._lib.seccomp_release(self._context)
            file.seek(0)
            return file.read()


@cache
def calls(group: str) -> frozenset[str]:
    """The syscalls of a group, or the one of that name."""
    if not group.startswith("@"):
        return frozenset({group})
    done = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, timeout=30, check=True)
    words = [line.strip() for line in done.stdout.splitlines() if line.startswith("    ")]
    return frozenset().union(*(calls(word) for word in words if not word.startswith("#")))


def allowed(filters: Sequence[str]) -> frozenset[str]:
    """What the values of SystemCallFilter= leave, in their order: the first says what is allowed, `~` takes away."""
    assert filters, "nothing is filtered"
    assert not filters[0].startswith("~"), "a list of what is forbidden"
    found = set(calls(_ALWAYS))
    for line in filters:
        named = frozenset().union(*(calls(word) for word in line.removeprefix("~").split()))
        found = found - named if line.startswith("~") else found | named
    return frozenset(found)


def syscall_filter(filters: Sequence[str], number: int = errno.EPERM) -> bytes:
    """SystemCallFilter=, with SystemCallErrorNumber=."""
    program = _Filter(_fails(number))
    for call in sorted(allowed(filters)):
        program.add(_ALLOW, call)
    return program.program()


def address_families(names: Iterable[str]) -> bytes:
    """RestrictAddressFamilies= with these."""
    families = sorted(int(getattr(socket, name)) for name in names)
    program, refused = _Filter(_ALLOW), _fails(errno.EAFNOSUPPORT)
    program.add(refused, "socket", (0, _LESS, families[0], 0))
    program.add(refused, "socket", (0, _GREATER, families[-1], 0))
    for family in set(range(families[0], families[-1])) - set(families):
        program.add(refused, "socket", (0, _EQUAL, family, 0))
    return program.program()


def restrictions() -> bytes:
    """RestrictNamespaces=, RestrictSUIDSGID= and LockPersonality=, all of them yes."""
    program, refused = _Filter(_ALLOW), _fails(errno.EPERM)
    program.add(refused, "setns")
    program.add(_fails(errno.ENOSYS), "clone3")
    for flag in _NAMESPACES:
        for call in ("unshare", "clone"):
            program.add(refused, call, (0, _MASKED, flag, flag))
    for mode in _SET_ID:
        for call, argument in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mkdir", 1), ("mkdirat", 2)):
            program.add(refused, call, (argument, _MASKED, mode, mode))
    program.add(refused, "personality", (0, _GREATER, 0, 0))
    return program.program()
