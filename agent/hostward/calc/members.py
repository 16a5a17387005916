"""What each set in use holds, kept up to date from the endpoints and network sets that change.

A member is counted once for each that contributes it, so an address that two endpoints share stays until both are gone (I-7).
Used by the engine thread only; pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

from hostward.calc.compute import Labelled, contribution
from hostward.calc.label_index import LabelIndex, SelectorIndex
from hostward.model.keys import ResourceKey
from hostward.model.members import Members
from hostward.model.sets import NamedPortSet, NetSet, SelectorSet, ServiceSet, SetRef

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)


class SetMembers:
    """Sets that somebody uses, and their members. `sets` is the result, once settled."""

    def __init__(self) -> None:
        self.sets: dict[SetRef, Members] = {}
        self._items: dict[ResourceKey, Labelled] = {}
        self._counts: dict[SetRef, Counter[str]] = {}
        self._users: dict[SetRef, set[Hashable]] = {}
        self._refs: dict[Hashable, frozenset[SetRef]] = {}
        self._moved: dict[SetRef, set[str]] = {}
        self._selecting: SelectorIndex[SetRef] = SelectorIndex()
        self._labelled: LabelIndex[ResourceKey] = LabelIndex()
        self._of_service: dict[tuple[str, str], set[SetRef]] = {}
        self._slices: dict[tuple[str, str], set[ResourceKey]] = {}

    def use(self, holder: Hashable, refs: frozenset[SetRef]) -> None:
        """Says which sets a policy or profile uses now; none releases them."""
        before = self._refs.get(holder, frozenset())
        for ref in before - refs:
            users = self._users[ref]
            users.discard(holder)
            if not users:
                del self._users[ref], self._counts[ref]
                self._index(ref, add=False)
                self._moved.setdefault(ref, set())
        for ref in refs - before:
            self._users.setdefault(ref, set()).add(holder)
            if ref not in self._counts:
                self._index(ref, add=True)
                candidates = (self._items[key] for key in self._candidates(ref))
                self._counts[ref] = Counter(m for item in candidates for m in contribution(ref, item))
                self._moved.setdefault(ref, set()).update(self._counts[ref], self.sets.get(ref, ()))
        if refs:
            self._refs[holder] = refs
        else:
            self._refs.pop(holder, None)

    def relabel(self, changes: Mapping[ResourceKey, tuple[Labelled | None, Labelled | None]]) -> None:
        """Takes endpoints, network sets and slices from their old to their new labels and members."""
        for key, (old, new) in changes.items():
            if new is None:
                self._items.pop(key, None)
            else:
                self._items[key] = new
            for item, add in ((old, False), (new, True)):
                if item is not None and item.service is not None:
                    _file(self._slices, item.service, key, add=add)
            self._labelled.put(key, new.labels if new is not None and new.service is None else None)
            for ref in self._seeing(old) | self._seeing(new):
                before = contribution(ref, old) if old is not None else frozenset[str]()
                after = contribution(ref, new) if new is not None else frozenset[str]()
                if before != after:
                    self._move(ref, before - after, after - before)

    def _index(self, ref: SetRef, *, add: bool) -> None:
        match ref:
            case SelectorSet(selector) | NamedPortSet(selector):
                self._selecting.put(ref, selector if add else None)
            case ServiceSet(service):
                _file(self._of_service, (service.namespace, service.name), ref, add=add)

    def _candidates(self, ref: SetRef) -> Collection[ResourceKey]:
        """Everything that may contribute to a set."""
        match ref:
            case SelectorSet(selector) | NamedPortSet(selector):
                return self._labelled.candidates(selector)
            case ServiceSet(service):
                return self._slices.get((service.namespace, service.name), ())
            case NetSet():
                return ()

    def _seeing(self, item: Labelled | None) -> set[SetRef]:
        """The sets that something may contribute to."""
        if item is None:
            return set()
        if item.service is not None:
            return self._of_service.get(item.service, set())
        return self._selecting.candidates(item.labels)

    def _move(self, ref: SetRef, gone: frozenset[str], come: frozenset[str]) -> None:
        counts = self._counts[ref]
        for member in gone:
            counts[member] -= 1
            if not counts[member]:
                del counts[member]
        for member in come:
            counts[member] += 1
        self._moved.setdefault(ref, set()).update(gone, come)

    def settle(self) -> frozenset[SetRef]:
        """Makes `sets` equal to the counts where something moved; the sets that came, went or changed."""
        changed = set()
        for ref, moved in self._moved.items():
            counts, before = self._counts.get(ref), self.sets.get(ref)
            if counts is None:
                if self.sets.pop(ref, None) is not None:
                    changed.add(ref)
            elif before is None:
                self.sets[ref] = Members(counts)
                changed.add(ref)
            else:
                come = frozenset(m for m in moved if m in counts and m not in before)
                gone = frozenset(m for m in moved if m not in counts and m in before)
                if come or gone:
                    self.sets[ref] = before.changed(come, gone)
                    changed.add(ref)
        self._moved.clear()
        return frozenset(changed)


def _file(table: dict[K, set[V]], key: K, value: V, *, add: bool) -> None:
    values = table.setdefault(key, set())
    (values.add if add else values.discard)(value)
    if not values:
        del table[key]
