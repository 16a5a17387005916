"""When to ask an API server again: clock, chance and waiting as one value, and the back-off of failed tries. Any thread."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

FIRST: Final = 1.0  # seconds
LAST: Final = 30.0
HEALTHY: Final = 10.0  # seconds without an error after which the next one counts as the first
LONGEST_RETRY_AFTER: Final = 300.0  # seconds; no server may send us away for a day


def _wait(stop: threading.Event, seconds: float) -> None:
    stop.wait(seconds)


class Pace(Struct, frozen=True):
    """Where time and chance come from. `wait` returns after so many seconds, or when the event is set."""

    now: Callable[[], float] = time.monotonic
    uniform: Callable[[float, float], float] = random.uniform
    wait: Callable[[threading.Event, float], None] = _wait


class Backoff:
    """How long to wait after a failure (statements.md kubernetes 4.2 rule 6). Used by one thread."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._tries = 0
        self._well_since: float | None = None

    def answered(self) -> None:
        """The server gave what was asked for."""
        if self._well_since is None:
            self._well_since = self._pace.now()

    def failed(self, retry_after: float | None) -> float:
        """Seconds until the next try: with full jitter, but no less than the server asked for."""
        if self._well_since is not None and self._pace.now() - self._well_since >= HEALTHY:
            self._tries = 0
        self._well_since = None
        longest = min(LAST, FIRST * 2.0 ** min(self._tries, 10))
        self._tries += 1
        return max(self._pace.uniform(0.0, longest), min(retry_after or 0.0, LONGEST_RETRY_AFTER))
