"""The threads of a process: they end together, and a bug in one of them ends the process, whose supervisor starts it again.

Made and joined by the main thread.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Final

from hostward.report import logs

log = logs.get_logger()
JOIN_SECONDS: Final = 5.0


class Threads:
    """Threads that end when `stop` is set. `bug`: what to log when one of them raises."""

    def __init__(self, bug: str) -> None:
        self.stop = threading.Event()
        self.failed = False
        self.signalled = False
        self._bug = bug
        self._threads: list[threading.Thread] = []

    def end_on_signals(self) -> None:
        """From now on SIGTERM and SIGINT end them all, in order."""

        def end(*_: object) -> None:
            self.signalled = True
            self.stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)

    def start(self, name: str, work: Callable[[threading.Event], None]) -> None:
        """Runs `work(stop)` in a thread of its own."""

        def run() -> None:
            try:
                work(self.stop)
            except BaseException:  # told here, and not by the interpreter, which would wait for a blocked stderr
                self.failed = True
                log.exception(self._bug, thread=name)
            finally:
                self.stop.set()

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        """Waits for all of them, not for ever."""
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
