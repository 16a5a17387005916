"""The capabilities that this process may use, in use: by itself, and by the programs that it starts.

In a container that isn't root, they are only permitted (docs/install.md). The main thread, before there is another, as they
are each thread's own. It knows no capability by name.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_VERSION_3: Final = 0x20080522
_HEADER, _SETS = struct.Struct("=Ii"), struct.Struct("=6I")


def take_up() -> None:
    """Makes every permitted capability effective, inheritable and ambient. Nothing for root, who has them in any case, nor
    where they are so already: a service's filter of system calls may forbid to change them.

    OSError where the kernel refuses; what is then missing, its use will tell.
    """
    if os.geteuid() == 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _HEADER.pack(_VERSION_3, 0), ctypes.create_string_buffer(_SETS.size)
    _checked(libc.capget(header, sets))
    _, low, _, _, high, _ = _SETS.unpack(sets.raw)
    wanted = _SETS.pack(low, low, low, high, high, high)
    if sets.raw != wanted:
        _checked(libc.capset(header, wanted))
    for number in range(64):
        if (high << 32 | low) >> number & 1:
            _checked(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0))


def _checked(result: int) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
