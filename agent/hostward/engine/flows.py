"""Forgets the connections of addresses, in a thread of its own: the engine leaves addresses here and goes on.

Reading conntrack takes as long as the table is big. What is asked for while it is read waits for the next reading, together.
It knows nothing of workloads. `run` is the thread; the engine thread asks and, where it must, waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple

from hostward.dataplane.conntrack import forget_flows
from hostward.dataplane.kernel import KernelError
from hostward.engine.schedule import FIRST_RETRY, LAST_RETRY
from hostward.report.logs import get_logger

log = get_logger()
_LOOK: Final = 0.5  # seconds between looks at `stop`


class FlowCounts(NamedTuple):
    """Entries `deleted` and readings `failed` since the start; addresses `pending` now."""

    deleted: int
    failed: int
    pending: int


class FlowCleaner:
    """The addresses whose connections are to be forgotten. `delete` does it, as `conntrack.forget_flows` does."""

    def __init__(self, delete: Callable[[Collection[str]], int] = forget_flows) -> None:
        self._delete = delete
        self._changed = threading.Condition()
        self._asked: dict[str, int] = {}  # address to the number of the last request for it
        self._requests = self._reached = self._refused = 0  # the last one made, wholly done, and refused
        self._deleted = self._failed = 0

    def forget(self, addresses: Iterable[str]) -> None:
        """Has connections forgotten soon. What comes up after this call may live on."""
        with self._changed:
            self._ask(addresses)

    def wait_clean(self, addresses: Collection[str], timeout: float) -> bool:
        """Has connections forgotten, and waits for it at most `timeout` seconds; whether they are.

        False at once when the kernel refuses; it goes on being tried.
        """
        with self._changed:
            number = self._ask(addresses)
            self._changed.wait_for(lambda: max(self._reached, self._refused) >= number, timeout)
            return self._reached >= number

    def pending(self) -> frozenset[str]:
        """The addresses that still may have connections."""
        with self._changed:
            return frozenset(self._asked)

    def counts(self) -> FlowCounts:
        """What was done until now. Any thread."""
        with self._changed:
            return FlowCounts(self._deleted, self._failed, len(self._asked))

    def run(self, stop: threading.Event) -> None:
        """Forgets what is asked for until `stop` is set; ends within a second of it, or when a reading does."""
        delay = FIRST_RETRY
        while not stop.is_set():
            with self._changed:
                if not self._changed.wait_for(lambda: self._asked, _LOOK):
                    continue
                upto, addresses = self._requests, tuple(self._asked)
            try:
                deleted = self._delete(addresses)
            except KernelError as error:
                log.warning("connections of workloads that are gone can't be forgotten yet", error=str(error))
                self._missed(upto)
                self._rest(upto, delay, stop)
                delay = min(2 * delay, LAST_RETRY)
                continue
            delay = FIRST_RETRY
            self._done(upto, addresses, deleted)
            log.info("connections of workloads that are gone are forgotten", addresses=len(addresses), connections=deleted)

    def _ask(self, addresses: Iterable[str]) -> int:
        self._requests += 1
        self._asked.update(dict.fromkeys(addresses, self._requests))
        self._changed.notify_all()
        return self._requests

    def _done(self, upto: int, addresses: Iterable[str], deleted: int) -> None:
        with self._changed:
            self._deleted += deleted
            self._reached = upto
            for address in addresses:
                if self._asked[address] <= upto:  # else it was asked for again, when the reading may have passed its entries
                    del self._asked[address]
            self._changed.notify_all()

    def _missed(self, upto: int) -> None:
        with self._changed:
            self._failed += 1
            self._refused = upto
            self._changed.notify_all()

    def _rest(self, upto: int, seconds: float, stop: threading.Event) -> None:
        """Waits before the next attempt, unless somebody asks for more: he may be waiting."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not stop.is_set() and self._requests == upto and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, _LOOK))
