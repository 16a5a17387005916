"""What each set in use holds, kept up to date from the endpoints and network sets that change.

A member is counted once for each that contributes it, so an address that two endpoints share stays until both are gone (I-7).
Used by the engine thread only; pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping

from hostward.calc.compute import Labelled, contribution
from hostward.model.keys import ResourceKey
from hostward.model.sets import SetRef


class SetMembers:
    """Sets that somebody uses, and their members. `sets` is the result, once settled."""

    def __init__(self) -> None:
        self.sets: dict[SetRef, frozenset[str]] = {}
        self._items: dict[ResourceKey, Labelled] = {}
        self._counts: dict[SetRef, Counter[str]] = {}
        self._users: dict[SetRef, set[Hashable]] = {}
        self._refs: dict[Hashable, frozenset[SetRef]] = {}
        self._touched: set[SetRef] = set()

    def use(self, holder: Hashable, refs: frozenset[SetRef]) -> None:
        """Says which sets a policy or profile uses now; none releases them."""
        before = self._refs.get(holder, frozenset())
        for ref in before - refs:
            users = self._users[ref]
            users.discard(holder)
            if not users:
                del self._users[ref], self._counts[ref]
                self.sets.pop(ref, None)
                self._touched.discard(ref)
        for ref in refs - before:
            self._users.setdefault(ref, set()).add(holder)
            if ref not in self._counts:
                self._counts[ref] = Counter(m for item in self._items.values() for m in contribution(ref, item))
                self._touched.add(ref)
        if refs:
            self._refs[holder] = refs
        else:
            self._refs.pop(holder, None)

    def relabel(self, changes: Mapping[ResourceKey, tuple[Labelled | None, Labelled | None]]) -> None:
        """Takes endpoints and network sets from their old to their new labels and members."""
        for key, (old, new) in changes.items():
            if new is None:
                self._items.pop(key, None)
            else:
                self._items[key] = new
            for ref, counts in self._counts.items():
                before = contribution(ref, old) if old is not None else frozenset[str]()
                after = contribution(ref, new) if new is not None else frozenset[str]()
                if before != after:
                    self._move(counts, before - after, after - before)
                    self._touched.add(ref)

    @staticmethod
    def _move(counts: Counter[str], gone: Iterable[str], come: Iterable[str]) -> None:
        for member in gone:
            counts[member] -= 1
            if not counts[member]:
                del counts[member]
        for member in come:
            counts[member] += 1

    def settle(self) -> None:
        """Makes `sets` equal to the counts where something moved."""
        for ref in self._touched:
            if ref in self._counts:
                self.sets[ref] = frozenset(self._counts[ref])
        self._touched.clear()
