"""Totals that only grow, out of kernel counters that start again whenever a chain is rewritten.

Knows which counters a desired table names, and reads no kernel itself. Only the engine thread uses it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar

from hostward.render.ruleset import Table, TableId

K = TypeVar("K", bound=Hashable)
MAX_ABSENT = 10_000


class Drop(NamedTuple):
    """Packets that one reason dropped on one interface, in one direction ("ingress", "egress", ...)."""

    interface: str
    direction: str
    reason: str


class CounterKey(NamedTuple):
    """Where counters were read: the rules of one chain that mean the same."""

    table: TableId
    chain: str
    meaning: str


class Monotonic(Generic[K]):
    """Growing totals per key. A reading below the last one means that the counter started again from 0."""

    def __init__(self, max_absent: int = MAX_ABSENT) -> None:
        self._last: dict[K, int] = {}
        self._totals: dict[K, int] = {}
        self._max_absent = max_absent

    def observe(self, readings: Mapping[K, int]) -> None:
        """Takes the present readings of all counters. Absent keys keep their totals, and are thought to start from 0 again."""
        for key, reading in readings.items():
            last = self._last.get(key, 0)
            self._totals[key] = self._totals.get(key, 0) + (reading - last if reading >= last else reading)
        self._last = dict(readings)
        surplus = len(self._totals) - len(self._last) - self._max_absent
        for key in [key for key in self._totals if key not in self._last][: max(0, surplus)]:
            del self._totals[key]  # the first that came: interfaces come and go for ever, memory doesn't grow for ever

    def restarted(self, keys: Iterable[K]) -> None:
        """These counters were just set to 0, so that a reading above the last one is all new."""
        for key in keys:
            self._last.pop(key, None)

    def totals(self) -> dict[K, int]:
        """The totals since the start."""
        return dict(self._totals)


def readings(table_id: TableId, table: Table, counters: Mapping[str, tuple[tuple[int, int], ...]]) -> dict[CounterKey, int]:
    """Packets per chain and meaning, for the rules of a desired table that name a counter.

    `counters` is what `Kernel.counters` returns. A chain that isn't the one desired (its length differs) is left out.
    """
    found: dict[CounterKey, int] = {}
    for chain, rules in table.chains.items():
        counted = counters.get(chain, ())
        if len(counted) != len(rules):
            continue
        for rule, (packets, _) in zip(rules, counted, strict=True):
            if rule.counter:
                key = CounterKey(table_id, chain, rule.counter)
                found[key] = found.get(key, 0) + packets
    return found


def drops(totals: Mapping[CounterKey, int]) -> dict[Drop, int]:
    """Dropped packets by interface, direction and reason: all counters whose meaning is `drop INTERFACE DIRECTION REASON`."""
    found: dict[Drop, int] = {}
    for key, packets in totals.items():
        word, *rest = key.meaning.split(" ")
        if word == "drop" and len(rest) == 3:
            interface, direction, reason = rest
            # An interface's name may be any bytes; a label must be text.
            drop = Drop(interface.encode(errors="surrogateescape").decode(errors="backslashreplace"), direction, reason)
            found[drop] = found.get(drop, 0) + packets
    return found
