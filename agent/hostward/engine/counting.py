"""Reads the packet counters of the kernel's rules, a table at a time, and sums up what they mean. Engine thread only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hostward.dataplane.kernel import Kernel, KernelError
from hostward.engine.applier import Applier
from hostward.engine.telling import Teller
from hostward.model.resolved import Resolved
from hostward.model.settings import Settings
from hostward.render.names import policy_title
from hostward.report.counters import Growth, Tally
from hostward.report.kept_counts import MOST, Kept, KeptCounts
from hostward.report.status import shown_name
from hostward.report.traffic import Title, Traffic, title_of


class Counting:
    """One engine's counts. Whose rule counts what is worked out here, from what rules are called, not when rules are made."""

    def __init__(self, kernel: Kernel, applier: Applier, teller: Teller, settings: Settings) -> None:
        self._kernel = kernel
        self._applier = applier
        self._teller = teller
        self._policies = settings.policy_counters_enabled
        self._tally = Tally()
        self._traffic = Traffic()
        self._titles: dict[str, Title] = {}
        self._titled: tuple[object, object] = (None, None)
        self._file = KeptCounts(settings.state_dir)
        self._before = self._file.load()  # until the first count is over
        self._lost = {meaning: (kept.lost_packets, kept.lost_bytes) for meaning, kept in self._before.items()}
        self._saved: dict[str, tuple[int, int]] = dict(self._lost)

    def follow(self, settings: Settings) -> None:
        """Shows counts of policies, or doesn't."""
        self._policies = settings.policy_counters_enabled

    def looks(self) -> Iterator[None]:
        """Reads the tables one after another; at the end tells what they say. In between anything may change."""
        whole = True
        for where in list(self._applier.desired.tables) if self._applier.desired is not None else ():
            desired = self._applier.desired
            if desired is not None and where in desired.tables:
                try:
                    counted = self._kernel.counters(where)
                except KernelError as error:
                    self._teller.uncounted(error)
                    whole = False
                else:
                    self._take(self._tally.observe(where, desired.tables[where], counted, self._kernel.partings(where)))
            yield
        if self._before and not whole:
            return
        if self._before:
            self._go_on(self._before)
            self._before = {}
        if self._lost != self._saved:  # then the kernel alone no longer tells the totals
            self.save()
        self._teller.metrics.counted(self._traffic, policies=self._policies)

    def save(self) -> None:
        """Leaves the totals for the next process, once this one knows them."""
        held, none = self._tally.held(), (0, 0)
        if self._before or not held:
            return
        self._saved = {meaning: lost for meaning, lost in self._lost.items() if len(self._lost) <= MOST or meaning in held}
        self._lost = dict(self._saved)
        totals = {}
        for meaning in held.keys() | self._lost.keys():
            (packets, octets), lost = held.get(meaning, none), self._lost.get(meaning, none)
            totals[meaning] = Kept(packets + lost[0], octets + lost[1], *lost)
        if any(kept.packets for kept in totals.values()):
            self._file.save(totals)

    def _take(self, grown: Mapping[str, Growth]) -> None:
        for meaning, growth in grown.items():
            if growth.lost_packets:
                packets, octets = self._lost.get(meaning, (0, 0))
                self._lost[meaning] = packets + growth.lost_packets, octets + growth.lost_bytes
        self._traffic.take(grown, self._titles_of(self._teller.resolved), self._tally.held)

    def _go_on(self, before: Mapping[str, Kept]) -> None:
        """Adds what an earlier process counted and the kernel no longer holds, though that process may not have known it."""
        held, grown = self._tally.held(), {}
        for meaning, kept in before.items():
            packets, octets = held.get(meaning, (0, 0))
            lost, lost_octets = self._lost[meaning]  # with what this process has lost by now
            missing = max(kept.packets - packets - lost, 0), max(kept.bytes - octets - lost_octets, 0)
            grown[meaning] = Growth(kept.lost_packets + missing[0], kept.lost_bytes + missing[1], *missing)
        self._take(grown)

    def _titles_of(self, resolved: Resolved) -> Mapping[str, Title]:
        """What rules call the policies and profiles in force, and what users do. Costs a look at all when some changed."""
        now = resolved.policies, resolved.profiles
        if self._titled[0] is not now[0] or self._titled[1] is not now[1]:
            self._titled = now
            self._titles = {f"pro/{name}": title_of("", f"pro/{name}") for name in resolved.profiles}
            for key, policy in resolved.policies.items():
                title = policy_title(key)
                kind = title.partition("/")[0]
                self._titles[title] = title_of(policy.tier, f"{kind}/{shown_name(key, resolved.policies)}")
        return self._titles
