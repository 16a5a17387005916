"""Folds repeats: of equal warnings and errors one passes per interval, and the next one says how many it stands for.

The clock is given. One `Fold` may be used by any thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

INTERVAL: Final = 30.0
MAX_KINDS: Final = 1000


class Fold:
    """Remembers what passed. `folded` counts what didn't. At most `max_kinds` kinds are remembered, the oldest forgotten."""

    def __init__(self, clock: Callable[[], float], interval: float = INTERVAL, max_kinds: int = MAX_KINDS) -> None:
        self.folded = 0
        self._clock = clock
        self._interval = interval
        self._max = max_kinds
        self._seen: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def admit(self, kind: Hashable) -> int | None:
        """None to fold this one; else let it pass, with the number of equal ones that were folded before it."""
        now = self._clock()
        with self._lock:
            passed, folded = self._seen.get(kind, (None, 0))
            if passed is not None and now - passed < self._interval:
                self._seen[kind] = (passed, folded + 1)
                self.folded += 1
                return None
            self._seen[kind] = (now, 0)
            self._seen.move_to_end(kind)
            if len(self._seen) > self._max:
                self._seen.popitem(last=False)
            return folded
