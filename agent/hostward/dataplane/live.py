"""Which of the rules in the kernel judge packets now, and how they differ from the desired ones.

While a change spans tables, a kernel chain may jump to two trees: each jump then tests one bit of the packet mark, the
generation, which raw sets or clears for every packet. The live tree is the one that this bit selects. What can't be told,
because a rule in the kernel is unknown to us, is taken as live. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from hostward.dataplane.kernel import ActualChain, ActualTable, Unknown
from hostward.dataplane.state import ActualState, is_own, same_set
from hostward.render.marks import Marks, is_clear, is_set, put
from hostward.render.roots import HOOKED
from hostward.render.ruleset import (
    OWN_CHAIN_PREFIX,
    TABLES,
    Chain,
    Family,
    Hook,
    InSet,
    IPSet,
    Jump,
    Match,
    Rule,
    Table,
    TableId,
    TableName,
)

SetAlike = Callable[[str, str], bool]


class Part(NamedTuple):
    """Everything in a table that packets reach from one kernel chain."""

    table: TableName
    hook: str


def root(kernel_chain: str) -> str:
    """The own chain that a kernel chain jumps to."""
    return OWN_CHAIN_PREFIX + kernel_chain


def gate(rule: Rule, match: Match) -> Rule:
    """A rule of a kernel chain for the packets of one generation."""
    return replace(rule, matches=(match, *rule.matches))


def generation(state: ActualState, family: Family, marks: Marks) -> bool:
    """Whether packets carry the generation bit. Where nothing of ours is hooked there is nothing live, and it counts as set."""
    raw = state.table(TableId(family, "raw"))
    if any(Rule((), put(marks.generation)) in raw.chains.get(root(hook), ()) for hook in HOOKED["raw"]):
        return True
    tables = (state.table(TableId(family, name)) for name in TABLES)
    return not any(is_own(rule) for table in tables for chain in table.builtins.values() for rule in chain)


def hook_of(builtin: ActualChain, kernel_chain: str, marks: Marks, generation: bool) -> Hook:
    """Our rules in a kernel chain that packets of a generation meet, as they were before they were gated.

    If no jump of ours is known there but something is ours, it is taken for a jump without conditions: to the chain that it
    leads to, which another version may have named, or to the usual root.
    """
    live, dead = is_set(marks.generation), is_clear(marks.generation)
    if not generation:
        live, dead = dead, live
    first: list[Rule] = []
    last: list[Rule] = []
    jumps = False
    for rule in builtin:
        if not isinstance(rule, Rule):
            continue
        jumps |= isinstance(rule.target, Jump)
        if rule.matches[:1] == (dead,):
            continue
        plain = replace(rule, matches=rule.matches[1:]) if rule.matches[:1] == (live,) else rule
        (first if isinstance(rule.target, Jump) else last).append(plain)
    unknown = [rule for rule in builtin if isinstance(rule, Unknown) and rule.ours]
    if unknown and not jumps:
        roots = dict.fromkeys(rule.leads_to for rule in unknown if rule.leads_to)
        first += [Rule((), Jump(name)) for name in roots or (root(kernel_chain),)]
    return Hook(tuple(first), tuple(last))


class Reach(Struct, frozen=True):
    """What packets may get to: chains, and sets.

    `all_sets`: an unknown rule is among it, which may use any set.
    """

    chains: frozenset[str]
    sets: frozenset[str]
    all_sets: bool


class LiveTable(Struct, frozen=True):
    """One table as the packets of the live generation meet it."""

    actual: ActualTable
    hooks: Mapping[str, Hook]

    def reach(self) -> Reach:
        """The chains and sets that packets may get to; all chains if an unknown rule jumps to some."""
        chains: set[str] = set()
        sets: set[str] = set()
        all_sets = False
        rules: list[Rule | Unknown] = [rule for hook in self.hooks.values() for rule in (*hook.first, *hook.last)]
        while rules:
            rule = rules.pop()
            names: Iterator[str] = iter(())
            if isinstance(rule, Unknown):
                all_sets = True
                if rule.ours:
                    names = iter(self.actual.chains)
            else:
                sets.update(rule.uses_sets())
                if isinstance(rule.target, Jump):
                    names = iter((rule.target.chain,))
            for name in names:
                if name not in chains:
                    chains.add(name)
                    rules += self.actual.chains.get(name, ())
        return Reach(frozenset(chains), frozenset(sets), all_sets)


class Likeness:
    """Compares chains of the kernel with desired ones by what they do: names of chains and sets may differ."""

    def __init__(self, actual: Mapping[str, ActualChain], wanted: Mapping[str, Chain], set_alike: SetAlike) -> None:
        self._actual = actual
        self._wanted = wanted
        self._set_alike = set_alike
        self._known: dict[tuple[str, str], bool] = {}

    def chain(self, actual: str, wanted: str) -> bool:
        """Whether the two chains do the same, all that they lead to included. Neither may lead to itself."""
        key = (actual, wanted)
        if key not in self._known:
            self._known[key] = False
            mine, other = self._actual.get(actual), self._wanted.get(wanted)
            self._known[key] = mine is not None and other is not None and self.rules(mine, other)
        return self._known[key]

    def rules(self, actual: ActualChain, wanted: Chain) -> bool:
        """Whether two lists of rules do the same."""
        return len(actual) == len(wanted) and all(map(self._rule, actual, wanted))

    def _rule(self, actual: Rule | Unknown, wanted: Rule) -> bool:
        if not isinstance(actual, Rule):
            return False
        if len(actual.matches) != len(wanted.matches) or actual.comment != wanted.comment:
            return False
        if not all(map(self._match, actual.matches, wanted.matches)):
            return False
        mine, other = actual.target, wanted.target
        if isinstance(mine, Jump) and isinstance(other, Jump):
            return mine.goto == other.goto and self.chain(mine.chain, other.chain)
        return mine == other

    def _match(self, actual: Match, wanted: Match) -> bool:
        if isinstance(actual, InSet) and isinstance(wanted, InSet):
            same = (actual.dimensions, actual.negate) == (wanted.dimensions, wanted.negate)
            return same and self._set_alike(actual.name, wanted.name)
        return actual == wanted


class Live:
    """What judges packets of one family now."""

    def __init__(self, state: ActualState, family: Family, marks: Marks) -> None:
        self.state = state
        self.family = family
        self.generation = generation(state, family, marks)
        self.tables: dict[TableName, LiveTable] = {}
        for name in TABLES:
            actual = state.table(TableId(family, name))
            hooks = {hook: hook_of(chain, hook, marks, self.generation) for hook, chain in actual.builtins.items()}
            self.tables[name] = LiveTable(actual, hooks)
        self.reach = {name: table.reach() for name, table in self.tables.items()}

    def uses(self, name: str) -> bool:
        """Whether live rules may use a set."""
        return any(reach.all_sets or name in reach.sets for reach in self.reach.values())

    def changed(self, wanted: Mapping[TableName, Table], sets: Mapping[str, IPSet], *, names_only: bool = False) -> set[Part]:
        """The parts that don't do what is wanted. `names_only`: a set counts as the same whatever it holds.

        Where our rules stand among others' isn't looked at: what somebody moved is best put back at once.
        """

        def alike(actual: str, name: str) -> bool:
            if names_only and actual == name:
                return True
            return actual in self.state.sets and name in sets and same_set(self.state.sets[actual], sets[name])

        parts = set()
        for name, live in self.tables.items():
            likeness = Likeness(live.actual.chains, wanted[name].chains, alike)
            for hook in {*live.hooks, *wanted[name].hooks}:
                mine, other = live.hooks.get(hook, Hook()), wanted[name].hooks.get(hook, Hook())
                if not (likeness.rules(mine.first, other.first) and likeness.rules(mine.last, other.last)):
                    parts.add(Part(name, hook))
        return parts

    def same_entrance(self, part: Part, wanted: Table) -> bool:
        """Whether our rules in a kernel chain and those of its root chain stay as they are, whatever they lead to."""
        live = self.tables[part.table]
        mine, other = live.hooks.get(part.hook, Hook()), wanted.hooks.get(part.hook, Hook())
        if not mine.first and not other.first:
            return True
        if len(mine.first) != 1 or len(other.first) != 1 or mine.first[0].matches != other.first[0].matches:
            return False
        entry, new = mine.first[0].target, other.first[0].target
        if not isinstance(entry, Jump) or not isinstance(new, Jump):
            return False
        return _shallow(live.actual.chains.get(entry.chain, ())) == _shallow(wanted.chains.get(new.chain, ()))


def _shallow(chain: ActualChain) -> tuple[object, ...]:
    """A chain but for the names of the chains that it leads to."""
    return tuple(
        (rule.matches, rule.target.goto) if isinstance(rule, Rule) and isinstance(rule.target, Jump) else rule for rule in chain
    )
