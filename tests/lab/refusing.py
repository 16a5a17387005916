"""A kernel that lacks something: runs a command under a seccomp filter that refuses some system calls with an errno.

    python -m tests.lab.refusing getsockopt,1=0,2=64:ENOPROTOOPT -- COMMAND…

refuses getsockopt whose argument 1 is 0 and argument 2 is 64, as a kernel without legacy iptables for IPv4 does. What the
filter can't see is what pointers point to. Root, or no_new_privs, which it sets.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

NUMBERS = {
    "x86_64": {"socket": 41, "getsockopt": 55},
    "aarch64": {"socket": 198, "getsockopt": 209},
}
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def _one(rule: str) -> list[tuple[int, int, int, int]]:
    """The instructions of one rule; where it doesn't hold they end behind the last."""
    call, _, code = rule.partition(":")
    name, *arguments = call.split(",")
    tests = [(0, NUMBERS[platform.machine()][name])]
    for argument in arguments:
        index, _, value = argument.partition("=")
        tests.append((16 + 8 * int(index), int(value)))
    steps = [step for at, value in tests for step in ((_LOAD, 0, 0, at), (_EQUAL, 0, None, value))]
    last = len(steps)
    done = [(op, t, last - at if f is None else f, k) for at, (op, t, f, k) in enumerate(steps)]
    return [*done, (_RETURN, 0, 0, _ERRNO | getattr(errno, code))]


def refuse(rules: list[str]) -> None:
    """Refuses from now on, in this process and those that it starts."""
    steps = [step for rule in rules for step in _one(rule)] + [(_RETURN, 0, 0, _ALLOW)]
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("@HP", len(steps), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    split = sys.argv.index("--")
    refuse(sys.argv[1:split])
    os.execvp(sys.argv[split + 1], sys.argv[split + 1 :])  # noqa: S606 # the command that we were given
