"""The chains of one table that packets can get to, and what uses them: a chain is there as long as a jump leads to it (H-91).

What it is told costs what it is told, whatever else the table holds. Owned by the engine thread's renderer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from msgspec import Struct

from hostward.model.sets import NetSet
from hostward.render.ruleset import Chain, InSet, Jump, Rule

Made = tuple[Chain, Mapping[str, NetSet]]
"""A chain, and the sets of networks among those that its rules name."""


def _same(one: Rule, other: Rule) -> bool:
    return one is other or (one == other and one.counter == other.counter)


def settled(old: Chain, new: Chain) -> Chain:
    """The new chain, made of the old one's rules where they are equal, counters included; the old one if nothing differs.

    Whoever has seen a rule before then knows it at sight.
    """
    if old is new or (len(old) == len(new) and all(map(_same, old, new))):
        return old
    seen = set(map(id, old))
    strangers = [rule for rule in new if id(rule) not in seen]
    if not old or not strangers:
        return new
    known = {(rule, rule.counter): rule for rule in reversed(old)}
    return tuple(rule if id(rule) in seen else known.get((rule, rule.counter), rule) for rule in new)


class SetUses(Protocol):
    """Where the use of sets is counted."""

    def take(self, name: str, listed: NetSet | None) -> None:
        """One chain more uses a set; `listed` are its networks, if rules list them."""

    def release(self, name: str) -> None:
        """One chain less uses a set."""


class _Leads(Struct, frozen=True):
    """What a chain leads to."""

    jumps: Mapping[str, None]
    sets: Mapping[str, NetSet | None]


def _leads(chain: Chain, nets: Mapping[str, NetSet]) -> _Leads:
    jumps: dict[str, None] = {}
    sets: dict[str, NetSet | None] = {}
    for rule in chain:
        if isinstance(rule.target, Jump):
            jumps[rule.target.chain] = None
        for match in rule.matches:
            if isinstance(match, InSet):
                sets[match.name] = nets.get(match.name)
    return _Leads(jumps, sets)


class TableChains:
    """`chains` by name. `make` answers with chains that nobody has put here, when a jump first leads to them.

    `changed` and `rendered` since the last `forget_changes`: names whose chain may be another object, or come or gone; and how
    many chains were computed.
    """

    def __init__(self, make: Callable[[str], Made], sets: SetUses) -> None:
        self.chains: dict[str, Chain] = {}
        self.changed: set[str] = set()
        self.rendered = 0
        self._make = make
        self._sets = sets
        self._put: dict[str, Chain] = {}
        self._leads: dict[str, _Leads] = {}
        self._users: dict[str, int] = {}
        self._idle: set[str] = set()
        self._fresh: set[str] = set()
        self._entrances: frozenset[str] = frozenset()

    def put(self, name: str, chain: Chain) -> None:
        """Takes a chain that was computed, for when a jump leads to it. It names no sets of networks."""
        self.rendered += 1
        old = self._put.get(name)
        self._put[name] = chain = settled(old, chain) if old is not None else chain
        if name in self.chains:
            self._replace(name, chain, {})

    def withdraw(self, name: str) -> None:
        """Forgets a chain that was put. Once nothing leads to it, it is gone."""
        self._put.pop(name, None)

    def enter(self, entrances: frozenset[str]) -> None:
        """Lets packets in by these chains and no others, once everything that they lead to can be had."""
        self._refer(sorted(entrances - self._entrances))
        self._release(self._entrances - entrances)
        self._entrances = entrances

    def refresh(self, name: str) -> None:
        """Makes a chain anew, if packets can get to it and it hasn't just been made."""
        if name in self.chains and name not in self._fresh:
            self.rendered += 1
            chain, nets = self._make(name)
            self._replace(name, settled(self.chains[name], chain), nets)

    def sweep(self) -> None:
        """Drops what nothing leads to any more, and what only that led to."""
        while self._idle:
            name = self._idle.pop()
            if self._users[name]:
                continue
            leads = self._leads.pop(name)
            del self._users[name], self.chains[name]
            self.changed.add(name)
            self._release(leads.jumps)
            for used in leads.sets:
                self._sets.release(used)

    def forget_changes(self) -> None:
        """Begins a new account of changes."""
        self.changed, self.rendered = set(), 0
        self._fresh.clear()

    def _refer(self, jumps: Iterable[str]) -> None:
        todo = list(jumps)
        while todo:
            name = todo.pop()
            self._users[name] = self._users.get(name, 0) + 1
            if name not in self.chains:
                todo += self._install(name)

    def _install(self, name: str) -> Iterable[str]:
        chain = self._put.get(name)
        nets: Mapping[str, NetSet] = {}
        if chain is None:
            self.rendered += 1
            chain, nets = self._make(name)
        self._fresh.add(name)
        self.chains[name] = chain
        self.changed.add(name)
        leads = self._leads[name] = _leads(chain, nets)
        for used, listed in leads.sets.items():
            self._sets.take(used, listed)
        return leads.jumps

    def _replace(self, name: str, chain: Chain, nets: Mapping[str, NetSet]) -> None:
        if chain is self.chains[name]:
            return
        old, new = self._leads[name], _leads(chain, nets)
        self.chains[name], self._leads[name] = chain, new
        self.changed.add(name)
        for used, listed in new.sets.items():
            if used not in old.sets:
                self._sets.take(used, listed)
        self._refer(jump for jump in new.jumps if jump not in old.jumps)
        for used in old.sets.keys() - new.sets.keys():
            self._sets.release(used)
        self._release(jump for jump in old.jumps if jump not in new.jumps)

    def _release(self, jumps: Iterable[str]) -> None:
        for name in jumps:
            self._users[name] -= 1
            if not self._users[name]:
                self._idle.add(name)
