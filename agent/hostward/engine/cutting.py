"""Cuts open connections that a change newly denies, where `cutOpenConnections` asks for it, in a thread of its own.

An entry of conntrack isn't deleted but marked, with a bit of ours that the first rule of our chains drops: deleted, the next
packet of either side would be a new connection, which the other direction's policy may allow; and nat would forget what it
rewrites. What policy allows again loses the mark. The engine thread leaves here what it has applied and goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter

from hostward.dataplane import flow_table
from hostward.dataplane.kernel import KernelError
from hostward.dataplane.ways import Ways
from hostward.engine.schedule import FIRST_RETRY, LAST_RETRY
from hostward.model.flow import Flow
from hostward.render.evaluate import FilterState, evaluate, of_ruleset
from hostward.render.flow_packets import first_packet
from hostward.render.ruleset import IPSet, Ruleset
from hostward.report.logs import get_logger

log = get_logger()
_LOOK: Final = 0.5  # seconds between looks at `stop`
SECOND_LOOK: Final = 1.0  # seconds until connections are looked for that came up while the first look was taken
SHARE: Final = 0.1  # of a core
BREATH, PAUSE = 100, 0.002  # so many flows are judged, then the engine has the interpreter to itself for so many seconds


class Change(Struct, frozen=True):
    """What was applied: `before` (None: not known), `after`, the bit that marks, and this host's own addresses."""

    before: Ruleset | None
    after: Ruleset
    bit: int
    local: frozenset[str]


class Cutter:
    """What is to be judged next. `flows`, `mark`: as in `flow_table`; `ways`: as `ways.Ways`."""

    def __init__(
        self,
        registry: CollectorRegistry,
        flows: Callable[[Callable[[Flow], bool]], Collection[Flow]] = flow_table.flows,
        mark: Callable[[Collection[Flow], int, int], int] = flow_table.mark,
        ways: Callable[[], Ways] = Ways,
    ) -> None:
        self._flows, self._mark, self._ways = flows, mark, ways
        self._changed = threading.Condition()
        self._pending: Change | None = None
        self._last: Ruleset | None = None
        self._cut = Counter("hostward_connections_cut", "Open connections cut as policy newly denied them.", registry=registry)

    def applied(self, ruleset: Ruleset, bit: int, local: frozenset[str]) -> None:
        """A ruleset is in the kernel. `bit`: 0 while nothing is to be cut. Engine thread."""
        with self._changed:
            if not bit:
                self._pending = self._last = None
                return
            before = self._pending.before if self._pending is not None else self._last
            self._pending, self._last = Change(before, ruleset, bit, local), ruleset
            self._changed.notify_all()

    def run(self, stop: threading.Event) -> None:
        """Judges until `stop` is set."""
        delay = FIRST_RETRY
        while not stop.is_set():
            with self._changed:
                if not self._changed.wait_for(lambda: self._pending is not None, _LOOK) or self._pending is None:
                    continue
                change, self._pending = self._pending, None
            began = time.thread_time()
            try:
                self._judge(change, stop)
                if not stop.wait(SECOND_LOOK):
                    self._judge(change, stop)
            except KernelError as error:
                log.warning("open connections can't be cut yet", error=str(error))
                self._again(change)
                stop.wait(delay)
                delay = min(2 * delay, LAST_RETRY)
                continue
            delay = FIRST_RETRY
            stop.wait((time.thread_time() - began) / SHARE)

    def _again(self, change: Change) -> None:
        """Judges from there on once more, with what was applied meanwhile."""
        with self._changed:
            if self._last is not None:
                newest = self._pending or change
                self._pending = Change(change.before, newest.after, newest.bit, newest.local)

    def _judge(self, change: Change, stop: threading.Event) -> None:
        """Marks what was allowed and is denied now, and takes the mark from what is allowed."""
        after = _state(change.after)
        before = _state(change.before) if change.before is not None else None
        seen = 0
        with self._ways() as ways:

            def differs(flow: Flow) -> bool:
                """Whether its mark isn't as policy says."""
                nonlocal seen
                seen += 1
                if stop.is_set() or (seen % BREATH == 0 and stop.wait(PAUSE)):
                    return False
                packet = None if flow.related else first_packet(flow, change.local, ways.to)
                is_cut = bool(flow.mark & change.bit)
                if packet is None or (before is None and not is_cut):
                    return False
                passes = evaluate(packet, after).accepted
                if is_cut or passes or before is None:
                    return is_cut and passes
                return evaluate(packet, before).accepted

            found = self._flows(differs)
        denied = [flow for flow in found if not flow.mark & change.bit]
        allowed = [flow for flow in found if flow.mark & change.bit]
        cut, opened = self._mark(denied, change.bit, change.bit), self._mark(allowed, 0, change.bit)
        self._cut.inc(cut)
        if cut or opened:
            log.info("open connections that policy newly denies are cut", cut=cut, allowed_again=opened)


def _state(ruleset: Ruleset) -> FilterState:
    """To judge many packets by; sets are made plain once."""
    state = of_ruleset(ruleset)
    sets = {name: IPSet(one.type, one.family, frozenset(one.members)) for name, one in ruleset.sets.items()}
    return FilterState(state.tables, sets)
