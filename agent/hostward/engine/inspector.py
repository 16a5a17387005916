"""Looks at what the kernel holds: for what others changed, which is put back, and at the packet counters.

A look is made a piece at a time, the sets and then table by table, so that a change waits behind one piece and not behind all;
and behind none that can wait.
Engine thread only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from hostward.dataplane.kernel import Kernel, KernelError
from hostward.engine.applier import Applier
from hostward.engine.counting import Counting
from hostward.engine.schedule import COUNT_INTERVAL, MOST_FOR_COUNTS, Checks, Every
from hostward.engine.telling import Teller
from hostward.model.settings import Settings

PATIENCE = 0.5  # seconds that a look is put off while changes come one after another


class Inspector:
    """One engine's looks. To be asked only once something was wholly brought into the kernel."""

    def __init__(self, kernel: Kernel, applier: Applier, teller: Teller, settings: Settings) -> None:
        self._applier = applier
        self._teller = teller
        self._checks = Checks(settings.drift_check_interval)
        self._whole_sets = Every(settings.ipsets_refresh_interval)
        self._whole_tables = Every(settings.iptables_refresh_interval)
        self._counting = Counting(kernel, applier, teller, settings)
        self._counts = Checks(COUNT_INTERVAL, MOST_FOR_COUNTS)
        self._counted: Iterator[None] | None = None
        self._count_cpu = 0.0  # of this count so far
        self._pieces: Iterator[bool] | None = None
        self._began = 0.0  # this look did
        self._took = self._cpu = 0.0  # by the pieces of this look so far

    def follow(self, settings: Settings) -> None:
        """Other intervals count from now."""
        now = time.monotonic()
        self._checks.follow(settings.drift_check_interval, now)
        self._whole_sets.follow(settings.ipsets_refresh_interval, now)
        self._whole_tables.follow(settings.iptables_refresh_interval, now)
        self._counting.follow(settings)

    def close(self) -> None:
        """Leaves for the next process what it needs."""
        self._counting.save()

    @property
    def due(self) -> float:
        """When to look for what others changed; long ago while a look has begun."""
        return self._checks.due if self._pieces is None else 0.0

    def look(self, hurry: Callable[[], bool]) -> bool:
        """What it is time for, until there is something else to do; whether a look is over."""
        over = counted = False
        for _ in _pieces(lambda: self.due, self._checks, hurry):
            if over := self._look_for_changes():
                break
        for _ in _pieces(lambda: self._counts.due, self._counts, hurry):
            if counted := self._count():
                break
        return over or counted

    def _look_for_changes(self) -> bool:
        """Also while the store is in doubt, or the kernel refuses a change."""
        began, cpu = time.monotonic(), time.thread_time()
        if self._pieces is None:
            self._begin(began)
        try:
            drifted = self._next_piece()
            if drifted:
                if self._applier.saw_change:
                    self._teller.exposure.drifted()
                self._teller.repaired(self._applier.repair(), self._took + time.monotonic() - began)
        except KernelError as error:
            self._pieces = None
            self._checks.failed(time.monotonic())
            self._teller.unchecked(error, self._took + time.monotonic() - began)
            return True
        self._took += time.monotonic() - began
        self._cpu += time.thread_time() - cpu
        if drifted is False:
            return False
        self._pieces = None
        self._checks.done(time.monotonic(), self._cpu)
        self._teller.checked(self._began, self._took, self._checks.current)
        return True

    def _begin(self, now: float) -> None:
        if self._whole_tables.is_due(now):
            self._applier.distrust_tables()
        if self._whole_sets.is_due(now):
            self._applier.distrust_sets()
        self._pieces = self._applier.looks()
        self._began = now
        self._took = self._cpu = 0.0

    def _next_piece(self) -> bool | None:
        """Whether it found something; None when there is nothing more to look at."""
        return next(self._pieces, None) if self._pieces is not None else None

    def _count(self) -> bool:
        """Reads the packet counters of one table; whether all are read."""
        cpu = time.thread_time()
        if self._counted is None:
            self._counted, self._count_cpu = self._counting.looks(), 0.0
        over = next(self._counted, self) is self
        self._count_cpu += time.thread_time() - cpu
        if over:
            self._counted = None
            self._counts.done(time.monotonic(), self._count_cpu)
        return over


def _pieces(due: Callable[[], float], when: Checks, hurry: Callable[[], bool]) -> Iterator[None]:
    """One piece of a look after another, while it is time; in a hurry one alone, and only when it has waited long enough."""
    while time.monotonic() >= due():
        hurried = hurry()
        if hurried and time.monotonic() < when.due + PATIENCE:
            return
        yield
        if hurried:
            return
