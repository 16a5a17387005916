"""When to look for tampering next, and when to try again: pure timing, clock given. Engine thread only."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

MOST_OF_A_CORE: Final = 0.05
MOST_FOR_COUNTS: Final = 0.01
FIRST_RETRY, LAST_RETRY = 0.1, 10.0
SOON: Final = 1.0  # seconds
TICK: Final = 1.0
COUNT_INTERVAL: Final = 5.0
NEVER: Final = float("inf")


class Checks(Struct):
    """Looks at the kernel at `interval` seconds, or as far apart as keeps them under a share of a core."""

    interval: float
    share: float = MOST_OF_A_CORE
    due: float = 0.0
    current: float = 0.0
    delay: float = FIRST_RETRY

    def done(self, now: float, seconds: float) -> None:
        """A check that took `seconds` of CPU ended just now."""
        self.current = max(self.interval, seconds / self.share)
        self.due = now + self.current
        self.delay = FIRST_RETRY

    def failed(self, now: float) -> None:
        """A check failed just now: the next one doesn't wait for an interval that may be an hour."""
        self.due = now + self.delay
        self.delay = min(self.delay * 2, LAST_RETRY)

    def follow(self, interval: float, now: float) -> None:
        """Takes another interval, which counts from now."""
        if interval != self.interval:
            self.interval, self.due = interval, min(self.due, now + interval)


class Every(Struct):
    """Something that happens once in so many seconds; 0 for never."""

    seconds: float
    due: float = 0.0

    def is_due(self, now: float) -> bool:
        """Whether it is time; if so, the next time is set."""
        if not self.seconds or now < self.due:
            return False
        self.due = now + self.seconds
        return True

    def follow(self, seconds: float, now: float) -> None:
        """Takes another interval, which counts from now."""
        if seconds != self.seconds:
            self.seconds, self.due = seconds, now + seconds


class Retry(Struct):
    """Backoff after failures, doubling from 0.1 s to 10 s. `due` is never while nothing failed.

    `soon`: somebody else was in the way, who may be gone in a moment, and an attempt waits for that by itself: to 1 s only.
    """

    due: float = NEVER
    delay: float = FIRST_RETRY

    @property
    def pending(self) -> bool:
        """Whether something is left to try again."""
        return self.due != NEVER

    def failed(self, now: float, *, soon: bool = False) -> None:
        """Something failed just now."""
        self.due = now + (min(self.delay, SOON) if soon else self.delay)
        self.delay = min(self.delay * 2, LAST_RETRY)

    def succeeded(self) -> None:
        """Nothing is left to try again."""
        self.due, self.delay = NEVER, FIRST_RETRY
