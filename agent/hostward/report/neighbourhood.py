"""Who else filters packets on this host, and whether somebody keeps changing what is ours: told once, and shown.

Any thread: the daemon's main thread looks around, the engine thread repairs and publishes the warnings.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from hostward.model.findings import Finding
from hostward.report.logs import get_logger

log = get_logger()
MANY: Final = 5
WINDOW: Final = 60.0  # seconds


class Neighbourhood:
    """What was last found. `clock` is monotonic, in seconds."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._found: dict[str, Finding] = {}
        self._repairs: deque[tuple[float, frozenset[str]]] = deque()
        self._contested = ""
        self._gauge = Gauge(
            "hostward_other_firewall",
            "1 for each other program that filters packets here.",
            ["program"],
            registry=registry,
        )
        Gauge(
            "hostward_contested",
            f"1 while others changed what is ours {MANY} times or more within {WINDOW:g} seconds.",
            registry=registry,
        ).set_function(lambda: bool(self._contest()))

    def found(self, findings: Iterable[Finding]) -> None:
        """What a look around found, each program by its name as `check`. Logs what is new, and who is gone."""
        now = {finding.check: finding for finding in findings}
        with self._lock:
            before, self._found = self._found, now
        for name, finding in now.items():
            if name not in before:
                tell = log.warning if finding.level == "warn" else log.info
                tell("another program filters packets here", name=name, what=finding.finding, do=finding.do)
                self._gauge.labels(name).set(1)
        for name in before.keys() - now.keys():
            log.info("another program no longer filters packets here", name=name)
            self._gauge.remove(name)

    def repaired(self, where: Collection[str]) -> None:
        """What others had changed in these tables was put right."""
        with self._lock:
            self._repairs.append((self._clock(), frozenset(where)))
        if (text := self._contest()) and not self._contested:
            log.warning("others keep changing what is ours, it is put right each time", what=text)
        self._contested = text

    def _contest(self) -> str:
        """A sentence while somebody keeps changing what is ours, else ""."""
        with self._lock:
            while self._repairs and self._repairs[0][0] < self._clock() - WINDOW:
                self._repairs.popleft()
            if len(self._repairs) < MANY:
                return ""
            places = ", ".join(sorted(frozenset[str]().union(*(places for _, places in self._repairs))))
            others = ", ".join(sorted(self._found)) or "nobody that is known"
            return f"another program keeps changing our rules (in {places}); they are put right each time; found here: {others}"

    def warnings(self) -> tuple[str, ...]:
        """What `hostward status` shows of it."""
        contest = self._contest()
        with self._lock:
            told = tuple(
                f"{found.check}: {found.finding}. {found.do}" for found in self._found.values() if found.level == "warn"
            )
        return (*((contest,) if contest else ()), *told)
