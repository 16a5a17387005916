"""The process's heap: small while nothing changes, kept while changes come, and when garbage is collected.

The C library may give what is freed at the heap's end back to the system at once, or keep it for the next time. A commit of a
large table needs several blocks as large as the table (`dataplane.xtables.blocks`): given back, their pages are made anew by
the next commit, which was a quarter of what a change cost. Kept, they are memory that an idle agent doesn't need. So they are
kept from the first of several changes until there was none for a while.

The main thread runs it; `settle` is the engine's.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from hostward.dataplane.xtables.blocks import from_system, tune

TRIM_SECONDS: Final = 30.0
START_SECONDS: Final = 120.0  # longer than a start takes; an agent may wait for its datastore for days
QUIET_SECONDS: Final = 5.0
_TRIM_THRESHOLD, _ARENA_MAX = -1, -8  # malloc.h
_SMALL: Final = {_TRIM_THRESHOLD: 128 << 10}
_KEPT: Final = {_TRIM_THRESHOLD: 32 << 20}


class Heap:
    """Of this process. `writes` tells how many commits there were so far, `clock` seconds."""

    def __init__(self, writes: Callable[[], int], clock: Callable[[], float]) -> None:
        self._writes = writes
        self._clock = clock
        self._seen = 0
        self._settled = False
        self._quiet_at = 0.0
        self._trim_at = clock() + TRIM_SECONDS
        self._late_at = clock() + START_SECONDS
        self.keeps = False
        """Whether freed blocks are kept now."""

    @staticmethod
    def begin() -> None:
        """For the start: a small heap, few of them for all threads, and no look for garbage until `settle`, or for long.

        Values don't point at each other in circles, and starting makes a million of them.
        """
        gc.set_threshold(50_000, 20, 50)
        gc.disable()
        _tune(_SMALL | {_ARENA_MAX: 2})
        from_system()

    def settle(self) -> None:
        """What the start has made stays: no garbage collection need look at it again; what was needed to make it is freed."""
        gc.collect()
        gc.freeze()
        gc.enable()
        _trim()
        self._seen, self._settled = self._writes(), True

    def look(self) -> None:
        """Sees whether changes come; to be called about twice a second."""
        if not self._settled:
            if self._clock() >= self._late_at:
                gc.enable()  # each attempt to reach a datastore leaves some
            return
        now, writes = self._clock(), self._writes()
        if writes != self._seen:
            self._seen, self._quiet_at = writes, now + QUIET_SECONDS
            if not self.keeps:
                self.keeps = True
                _tune(_KEPT)
        elif self.keeps and now >= self._quiet_at:
            self.keeps, self._trim_at = False, now
            _tune(_SMALL)
        if now >= self._trim_at:
            self._trim_at = now + TRIM_SECONDS
            gc.collect()  # frees the tuples that Python keeps, by size, for the next ones: megabytes after many changes
            _trim()  # also while changes come, or holes between blocks grow; the pages of one commit are little


def _tune(parameters: dict[int, int]) -> None:
    for parameter, value in parameters.items():
        tune(parameter, value)


def _trim() -> None:
    with suppress(OSError, AttributeError):  # a C library without it keeps what it has
        ctypes.CDLL(None).malloc_trim(0)
