"""Where the C library takes large blocks from: from its heap, or from the system, which makes their pages anew each time.

libiptc needs several as large as its table for a moment, one commit after another. All others are rare, and holes in the heap
when they are freed. Any thread.
"""

from __future__ import annotations

import ctypes as ct
from typing import Final

_MMAP_THRESHOLD: Final = -3  # malloc.h
_SMALL: Final = 64 << 10
_LARGEST: Final = 32 << 20  # the most that glibc takes
_MALLOPT: Final = getattr(ct.CDLL(None), "mallopt", None)  # another C library without it does as it does


def tune(parameter: int, value: int) -> None:
    """Sets one of malloc's parameters."""
    if _MALLOPT is not None:
        _MALLOPT(parameter, value)


def from_system() -> None:
    """Blocks of 64 KiB and more are the system's, and go back to it when they are freed."""
    tune(_MMAP_THRESHOLD, _SMALL)


def from_heap() -> None:
    """Blocks are the heap's, which keeps them when they are freed as long as it may."""
    tune(_MMAP_THRESHOLD, _LARGEST)
