"""Looks around from time to time: who else filters packets on this host. The daemon's main thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from hostward.dataplane.kernel import KernelError
from hostward.dataplane.neighbours import look
from hostward.model.neighbours import recognise
from hostward.render.ruleset import Family
from hostward.report.logs import get_logger
from hostward.report.neighbourhood import Neighbourhood

log = get_logger()
SECONDS: Final = 15.0
MOST_OF_A_CORE: Final = 0.002  # goes into it, however large the tables are


class Around:
    """Tells `beside` what there is of these IP versions."""

    def __init__(self, beside: Neighbourhood, families: tuple[Family, ...], clock: Callable[[], float]) -> None:
        self._beside, self._families, self._clock = beside, families, clock
        self._due = float("-inf")
        if families == (4,):
            log.warning("this kernel speaks no IPv6: only IPv4 is guarded")

    def look(self) -> None:
        """Looks, when it is time."""
        if self._clock() < self._due:
            return
        began = time.thread_time()
        try:
            self._beside.found(recognise(look(self._families)))
        except KernelError as error:
            log.warning("it can't be seen who else filters packets here", error=str(error))
        self._due = self._clock() + max(SECONDS, (time.thread_time() - began) / MOST_OF_A_CORE)
