"""Who uses what among the own chains of one table: which chains lead to a chain, which look at a set.

Kept beside what a table holds, so that a change finds what it can affect without a look at everything. Engine thread only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from hostward.dataplane.kernel import ActualChain, Unknown
from hostward.render.ruleset import Jump, Rule

Index = dict[str, set[str]]


class Usage:
    """Of the chains of one table. `opaque`: the chains with a rule that isn't known, of which nothing can be said."""

    def __init__(self, chains: Mapping[str, ActualChain]) -> None:
        self.opaque: set[str] = set()
        self._callers: dict[str, set[str]] = {}
        self._lookers: dict[str, set[str]] = {}
        for name, chain in chains.items():
            self._enter(name, chain)

    def replace(self, name: str, old: ActualChain | None, new: ActualChain | None) -> None:
        """Takes a chain from its old content to its new; None: there is no such chain."""
        if old is not None:
            self.opaque.discard(name)
            for rule in old:
                for index, used in _uses(rule, self._callers, self._lookers):
                    if (users := index.get(used)) is not None:
                        users.discard(name)
                        if not users:
                            del index[used]
        if new is not None:
            self._enter(name, new)

    def _enter(self, name: str, chain: ActualChain) -> None:
        for rule in chain:
            if isinstance(rule, Unknown):
                self.opaque.add(name)
            for index, used in _uses(rule, self._callers, self._lookers):
                index.setdefault(used, set()).add(name)

    def lookers(self, names: Iterable[str]) -> set[str]:
        """The chains with a rule that looks at one of these sets."""
        return set[str]().union(*(self._lookers.get(name, ()) for name in names))

    def with_callers(self, names: Iterable[str]) -> set[str]:
        """These chains, and all from which packets get to them."""
        found: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self._callers.get(name, ())
        return found


def _uses(rule: Rule | Unknown, callers: Index, lookers: Index) -> Iterator[tuple[Index, str]]:
    if isinstance(rule, Unknown):
        return
    if isinstance(rule.target, Jump):
        yield callers, rule.target.chain
    for name in rule.uses_sets():
        yield lookers, name
