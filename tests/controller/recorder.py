"""A sink that keeps what it is told, and time for reflectors that passes only as tests say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from hostward.kube.pace import Pace
from hostward.kube.watching import Name, Object, Resource


def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Returns once the condition holds; fails with `what` if it doesn't within a generous time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)


class Recorder:
    """Everything in order; a strict sink: it insists on what the protocol promises."""

    def __init__(self) -> None:
        self.objects: dict[Name, Object] = {}
        self.lists: list[dict[Name, Object]] = []
        self.events: list[tuple[Name, Object | None]] = []
        self.lost_reasons: list[str] = []
        self.contacts = 0
        self._busy = threading.Lock()

    def replaced(self, resource: Resource, objects: Mapping[Name, Object]) -> None:
        with self._alone():
            self.lists.append(dict(objects))
            self.objects = dict(objects)

    def changed(self, resource: Resource, name: Name, value: Object | None) -> None:
        with self._alone():
            assert self.lists, "an event before any list"
            self.events.append((name, value))
            objects = dict(self.objects)
            objects.pop(name, None)
            self.objects = objects if value is None else objects | {name: value}

    def contact(self, resource: Resource) -> None:
        with self._alone():
            self.contacts += 1

    def lost(self, resource: Resource, reason: str) -> None:
        with self._alone():
            assert "\n" not in reason
            self.lost_reasons.append(reason)

    def _alone(self) -> threading.Lock:
        assert not self._busy.locked(), "two calls at a time"
        return self._busy


class Time:
    """A clock that stands still but for waits and `pass_`. Chance always takes the longest; waits end at once while `flows`.

    While it doesn't flow a wait lasts until `step`.
    """

    def __init__(self, *, flows: bool = True) -> None:
        self.flows = flows
        self.waits: list[float] = []
        self.ranges: list[tuple[float, float]] = []
        self._now = 1000.0
        self._steps = threading.Semaphore(0)
        self.pace = Pace(lambda: self._now, self._uniform, self._wait)

    def pass_(self, seconds: float) -> None:
        self._now += seconds

    def step(self) -> None:
        """Lets one wait end."""
        self._steps.release()

    def _uniform(self, low: float, high: float) -> float:
        self.ranges.append((low, high))
        return high

    def _wait(self, stop: threading.Event, seconds: float) -> None:
        self.waits.append(seconds)
        while not self.flows and not stop.is_set():
            if self._steps.acquire(timeout=0.01):
                break
        self._now += seconds
