"""Before the datastore has been read, the rules that were kept stand in for what isn't known yet: where the kernel has none.

So a host whose datastore is away at its start is guarded also without `hostward boot`, and somebody who flushes the tables
opens nothing for long. Engine thread only.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from hostward.dataplane import boot
from hostward.dataplane.kernel import Kernel, KernelError
from hostward.dataplane.saved_rules import FILE, SavedRules, SavedRulesError, read
from hostward.render.ruleset import Family
from hostward.report.logs import get_logger

log = get_logger()
PATIENCE: Final = 1.0  # most datastores have answered by then
INTERVAL: Final = 1.0


class StandIn:
    """The rules that an agent kept in `directory`. Trouble is logged once and never raised."""

    def __init__(self, kernel: Kernel, directory: Path) -> None:
        self._kernel = kernel
        self._path = directory / FILE
        self._saved: SavedRules | None = None
        self._due = time.monotonic() + PATIENCE
        self._trouble = ""

    def is_due(self) -> bool:
        """Whether it is time for another look."""
        return time.monotonic() >= self._due

    def hold(self) -> None:
        """Puts the rules into the kernel where it has none of ours; once more when somebody has removed them."""
        if self._saved is None and not self._load():
            self._due = float("inf")
            return
        try:
            for family in self._kernel.families():
                self._hold(family)
        except KernelError as error:
            self._report(str(error))
        self._due = time.monotonic() + INTERVAL

    def _load(self) -> bool:
        try:
            self._saved = read(self._path.read_bytes())
        except FileNotFoundError:
            return False
        except (OSError, SavedRulesError) as error:
            self._report(str(error))
            return False
        return True

    def _hold(self, family: Family) -> None:
        wanted = self._saved.families.get(family) if self._saved is not None else None
        if self._saved is None or wanted is None or boot.is_guarded(family):
            return
        with self._kernel.lock():
            if not boot.is_guarded(family):
                boot.put(self._kernel, family, wanted)
                log.warning("the last rules stand in until the datastore has been read", ip=family, rules=self._saved.origin)
        self._trouble = ""

    def _report(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            log.error("the last rules can't stand in for what the datastore says", file=str(self._path), error=trouble)
