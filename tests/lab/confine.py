"""Loads syscall filters and becomes another program: `python confine.py FILTER… -- COMMAND…`. Imports nothing of ours.

The caller has set `no_new_privs`, without which the kernel takes no filter of an unprivileged process.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

PR_SET_SECCOMP, SECCOMP_MODE_FILTER, INSTRUCTION = 22, 2, 8


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def load(code: bytes) -> None:
    """From here on every call goes through this filter, too."""
    memory = ctypes.create_string_buffer(code, len(code))
    program = Program(len(code) // INSTRUCTION, ctypes.cast(memory, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    at = sys.argv.index("--")
    for code in [Path(name).read_bytes() for name in sys.argv[1:at]]:
        load(code)
    os.execvp(sys.argv[at + 1], sys.argv[at + 1 :])  # noqa: S606 # a list of words, not a shell's
