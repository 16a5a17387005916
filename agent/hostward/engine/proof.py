"""That the iptables libraries can be used: the self-test's result, for which the engine waits before it touches the kernel.

A thread of its own waits for the test's process, so that the engine calculates meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from hostward.dataplane.kernel import KernelError
from hostward.dataplane.xtables.selftest import SelfTest
from hostward.report.logs import get_logger
from hostward.report.threads import Threads

log = get_logger()
_LOOK_SECONDS: Final = 0.25


class Proof:
    """A self-test that has been started. Where it fails, the agent ends."""

    def __init__(self, tested: SelfTest, threads: Threads) -> None:
        self._tested, self._threads = tested, threads
        self._passed = threading.Event()

    def start(self) -> Callable[[], bool]:
        """Waits for the test in a thread that ends with it; gives `wait`."""
        threading.Thread(target=self._run, name="self-test", daemon=True).start()
        return self.wait

    def wait(self) -> bool:
        """Whether the test succeeded, as soon as that is known; False, too, when the agent ends before."""
        while not self._passed.wait(_LOOK_SECONDS):
            if self._threads.stop.is_set():
                return False
        return True

    def _run(self) -> None:
        try:
            self._tested.result()
            self._passed.set()
        except KernelError as error:
            if not self._threads.stop.is_set():
                log.error("the agent can't enforce", what=str(error), do=error.do)
        finally:
            if not self._passed.is_set():
                self._threads.failed |= not self._threads.stop.is_set()
                self._threads.stop.set()
