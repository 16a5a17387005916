"""When the agent begins anew for changed settings, and how: the same process with a new program in it, all rules in place.

Some settings are taken only at a process's start (`Setting.at_start`). When FelixConfiguration changes one of them, the process
executes itself again: with the same process id, so that neither systemd nor Kubernetes counts a failure or makes it wait. Main
thread only, but for what is said otherwise; the clock is given.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

from hostward.model.settings import SETTINGS, Settings, differences
from hostward.report import logs

log = logs.get_logger()
STILL_SECONDS: Final = 2.0  # so long a change stands before it counts: values that are being edited, or flap, end nothing
LEAST_SECONDS: Final = 10.0  # so long after its first apply a process goes on: each does what it is for, whatever flaps
DONE_FOR: Final = "_HOSTWARD_BEGUN_ANEW_FOR"
"""Tells the new program for what it was begun. Without a memory it starts with other settings and would begin anew for ever."""
AT_START: Final = frozenset(setting.attribute for setting in SETTINGS.values() if setting.at_start)


class Restart:
    """Compares what settings are with what this process took; `environ` is its environment."""

    def __init__(self, taken: Settings, environ: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self.failed = False
        self._taken = taken
        self._done_for = environ.get(DONE_FOR, "")
        self._clock = clock
        self._applied_at: float | None = None
        self._wanted = taken
        self._since = clock()

    def applied(self) -> None:
        """All that the datastore says is in the kernel for the first time. Engine thread."""
        if self._applied_at is None:
            self._applied_at = self._clock()

    def is_due(self, settings: Settings) -> bool:
        """Whether to begin anew now, with what the settings are now; asked again and again."""
        now = self._clock()
        if set(differences(self._wanted, settings)) & AT_START:
            self._since = now
            if _digest(settings) == self._done_for and self._changed(settings):
                log.error(
                    "settings can't take effect: the new process took others; can it write its stateDir?",
                    settings=self._changed(settings),
                )
        self._wanted = settings
        if not self._changed(settings) or _digest(settings) == self._done_for:
            return False
        if self._applied_at is None or now < self._applied_at + LEAST_SECONDS or now < self._since + STILL_SECONDS:
            return False
        log.warning("begins anew for settings that are taken at the start only", settings=self._changed(settings))
        return True

    def _changed(self, settings: Settings) -> list[str]:
        return sorted(set(differences(self._taken, settings)) & AT_START)

    def begin_anew(self) -> None:
        """Executes this process's program again; returns only if that fails, and then the supervisor has to start it."""
        environ = os.environ | {DONE_FOR: _digest(self._wanted)}
        logs.flush()
        try:
            os.execve(sys.executable, sys.orig_argv, environ)  # noqa: S606 # ourselves, as we were started
        except OSError as error:
            self.failed = True
            log.error("the agent can't begin anew, it ends", error=str(error))


def _digest(settings: Settings) -> str:
    values = repr([(name, getattr(settings, name)) for name in sorted(AT_START)])
    return hashlib.sha256(values.encode()).hexdigest()[:16]
