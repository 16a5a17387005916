"""What kernel counters grew by, though a rule's counter begins at 0 whenever the rule is written.

Knows which rules of a desired table name a counter, and reads no kernel itself. Only the engine thread uses it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from hostward.render.ruleset import Chain, Table, TableId

Counts = Mapping[str, "array[int]"]
"""Packets and bytes of a chain's rules, in turn, by chain."""
Parting = tuple[str, str, int, int]
"""Chain and meaning of rules that are gone, and the packets and bytes that they had counted."""


class Growth(NamedTuple):
    """What came since the last look; and how much of the total, which only grows, the kernel no longer holds since then."""

    packets: int
    bytes: int
    lost_packets: int
    lost_bytes: int


class _Reading(NamedTuple):
    chain: Chain
    counts: array[int]


_Sums = dict[str, tuple[int, int]]
_NONE: Final[_Sums] = {}


class Tally:
    """Remembers what each counter said last. The first look takes what is there for new: rules outlive the agent."""

    def __init__(self) -> None:
        self._last: dict[TableId, dict[str, _Reading]] = {}
        self._waiting: dict[TableId, dict[str, _Sums]] = {}

    def observe(self, where: TableId, table: Table, counted: Counts, partings: Iterable[Parting]) -> dict[str, Growth]:
        """What grew in a desired table, by meaning; 0 for what is there for the first time.

        `counted` is what `Kernel.counters` says, `partings` what it says of rules that were removed since the last look. A
        chain that isn't the desired one (its length differs) waits for the look at which it is: its rules go on counting.
        """
        gone, waiting = self._waiting.pop(where, {}), dict[str, _Sums]()
        for name, meaning, packets, octets in partings:
            _add(gone.setdefault(name, {}), meaning, packets, octets)
        grown: dict[str, Growth] = {}
        before, present = self._last.get(where, {}), {}
        for name, chain in table.chains.items():
            counts = counted.get(name)
            if counts is None or not _is_counted(chain):
                continue
            if len(counts) != 2 * len(chain):
                if name in before:
                    present[name] = before.pop(name)
                if name in gone:
                    waiting[name] = gone.pop(name)
                continue
            last, parted, now = before.pop(name, None), gone.pop(name, _NONE), _Reading(chain, counts)
            present[name] = now
            if last is None or last.chain is not chain or last.counts != counts or parted:
                _grow(grown, last, now, parted)
        for name in before.keys() | gone.keys():
            _grow(grown, before.get(name), None, gone.get(name, _NONE))
        self._last[where], self._waiting[where] = present, waiting
        return grown

    def held(self) -> dict[str, tuple[int, int]]:
        """Packets and bytes that the kernel holds now, by meaning. Costs a look at every rule."""
        found: dict[str, tuple[int, int]] = {}
        for readings in self._last.values():
            for reading in readings.values():
                for meaning, amounts in _sums(reading).items():
                    _add(found, meaning, *amounts)
        return found


def _is_counted(chain: Chain) -> bool:
    return any(rule.counter for rule in chain)


def _grow(grown: dict[str, Growth], last: _Reading | None, now: _Reading | None, parted: _Sums) -> None:
    """Adds the growth of one chain."""
    old, new = _sums(last), _sums(now)
    for meaning in {**old, **new, **parted}:
        pairs = zip(old.get(meaning, (0, 0)), new.get(meaning, (0, 0)), parted.get(meaning, (0, 0)), strict=True)
        (packets, lost_packets), (octets, lost_octets) = (_growth(*pair) for pair in pairs)
        so_far = grown.get(meaning, (0, 0, 0, 0))
        more = (packets, octets, lost_packets, lost_octets)
        grown[meaning] = Growth(*(a + b for a, b in zip(so_far, more, strict=True)))


def _growth(old: int, new: int, parted: int) -> tuple[int, int]:
    """What came, and what the kernel forgot. Less than before, and no rule of ours went: somebody set it to 0."""
    if new + parted >= old:
        return new + parted - old, parted
    return new + parted, old + parted


def _sums(reading: _Reading | None) -> _Sums:
    sums: _Sums = {}
    if reading is not None:
        counts = reading.counts
        for at, rule in enumerate(reading.chain):
            if rule.counter:
                _add(sums, rule.counter, counts[2 * at], counts[2 * at + 1])
    return sums


def _add(sums: _Sums, meaning: str, packets: int, octets: int) -> None:
    so_far = sums.get(meaning, (0, 0))
    sums[meaning] = so_far[0] + packets, so_far[1] + octets
