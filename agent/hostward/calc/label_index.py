"""Which selectors may match given labels, and which labels a selector may match, without looking at all of them.

Both give candidates: too many, never too few. Who asks evaluates the selectors of those. Used by the engine thread only; pure.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from hostward.model.selector_needs import Need, needs, offers

K = TypeVar("K", bound=Hashable)


class _Buckets(Generic[K]):
    """Keys by need."""

    def __init__(self) -> None:
        self._keys: dict[Need, set[K]] = {}

    def put(self, need: Need, key: K, *, add: bool) -> None:
        keys = self._keys.setdefault(need, set())
        (keys.add if add else keys.discard)(key)
        if not keys:
            del self._keys[need]

    def at(self, need: Need) -> set[K]:
        return self._keys.get(need, set())


class SelectorIndex(Generic[K]):
    """Selectors by key; found by labels."""

    def __init__(self) -> None:
        self._selectors: dict[K, str] = {}
        self._unbound: set[K] = set()
        self._bound: _Buckets[K] = _Buckets()

    def put(self, key: K, selector: str | None) -> None:
        """Takes the selector of a key, in place of the one that it had; None for none."""
        if (old := self._selectors.pop(key, None)) is not None:
            self._file(key, old, add=False)
        if selector is not None:
            self._selectors[key] = selector
            self._file(key, selector, add=True)

    def _file(self, key: K, selector: str, *, add: bool) -> None:
        wanted = needs(selector)
        if wanted is None:
            (self._unbound.add if add else self._unbound.discard)(key)
        else:
            for need in wanted:
                self._bound.put(need, key, add=add)

    def candidates(self, labels: Mapping[str, str]) -> set[K]:
        """The keys of all selectors that may match these labels."""
        return self._unbound.union(*(self._bound.at(need) for need in offers(labels)))


class LabelIndex(Generic[K]):
    """Labels by key; found by selector."""

    def __init__(self) -> None:
        self._labels: dict[K, Mapping[str, str]] = {}
        self._having: _Buckets[K] = _Buckets()

    def put(self, key: K, labels: Mapping[str, str] | None) -> None:
        """Takes the labels of a key, in place of those that it had; None for a key that is gone."""
        if (old := self._labels.pop(key, None)) is not None:
            for need in offers(old):
                self._having.put(need, key, add=False)
        if labels is not None:
            self._labels[key] = labels
            for need in offers(labels):
                self._having.put(need, key, add=True)

    def candidates(self, selector: str) -> set[K]:
        """The keys of all labels that a selector may match."""
        wanted = needs(selector)
        if wanted is None:
            return set(self._labels)
        return set[K]().union(*(self._having.at(need) for need in wanted))
