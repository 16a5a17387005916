"""Waits until every packet that is on its way has come to its end. Any thread.

The kernel carries a packet through its hooks in one go, in which no grace period of RCU ends; `membarrier` waits for one. Only
what this host sends itself may be held up on a preemptible kernel, between OUTPUT and POSTROUTING.
"""

from __future__ import annotations

import ctypes
import platform
import time
from typing import Final

_NUMBERS: Final = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "ppc64le": 365, "s390x": 356}
_GLOBAL: Final = 1
_INSTEAD: Final = 0.05  # seconds, where the kernel can't be asked: many times what a packet takes
_libc = ctypes.CDLL(None, use_errno=True)


def let_pass() -> bool:
    """Takes about 20 ms. Whether the kernel said that it is so; where it can't, some time has gone by."""
    number = _NUMBERS.get(platform.machine())
    if number is not None and _libc.syscall(number, _GLOBAL, 0, 0) == 0:
        return True
    time.sleep(_INSTEAD)
    return False
