"""Changes that open or close step by step, never both: what needs no second tree beside the live one.

Sets whose changes all let more packets through, or all fewer, can change one after another: every moment lies between the old
state and the new one. One set can do both, as long as no packet that is on its way meets it as it was and as it will be. And
around interfaces of workloads that come or go, for their packets are denied without them: sets before those that come, after
those that go. Pods come and go all the time, and each is in many sets. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from hostward.dataplane.kernel import ActualChain, Step, TableEdit
from hostward.dataplane.live import Live
from hostward.dataplane.state import ActualState
from hostward.dataplane.usage import Usage
from hostward.model.members import Members
from hostward.render import names
from hostward.render.ruleset import (
    OWN_CHAIN_PREFIX,
    TABLES,
    Chain,
    Family,
    InSet,
    Interface,
    IPSet,
    Jump,
    Log,
    Mark,
    Reject,
    Rule,
    SetMark,
    TableId,
    TableName,
    Verdict,
)

_WORKLOAD_ROOTS: Final = (names.FROM_WORKLOAD, names.TO_WORKLOAD)


class Look(NamedTuple):
    """A rule that looks at a set, where. `opens`: whether a packet that the set finds is let through; None: can't be told."""

    table: TableName
    opens: bool | None
    match: InSet


def is_one_way(live: Live, moved: Collection[str], sets: Mapping[str, IPSet]) -> bool:
    """Whether the changes of these sets all open or all close, for every rule that looks at them."""
    return not _is_opaque(live) and _opens_or_closes(live.state, moved, sets, list(_looks_of(live, moved)))


def is_one_moment(live: Live, moved: Collection[str], sets: Mapping[str, IPSet]) -> bool:
    """Whether each packet meets the sets as they were, or as they will be, when they change in place."""
    if not moved:
        return True
    return not _is_opaque(live) and _in_place(live.state, moved, sets, list(_looks_of(live, moved)))


def is_one_moment_by_usage(
    state: ActualState, usages: Mapping[TableId, Usage], family: Family, moved: Collection[str], sets: Mapping[str, IPSet]
) -> bool:
    """The same, where all chains are live: at the cost of the rules that look at these sets."""
    mine = {name: usages[TableId(family, name)] for name in TABLES}
    if any(usage.opaque for usage in mine.values()):
        return False
    chains = {name: state.table(TableId(family, name)).chains for name in TABLES}
    looks = [
        look for name in TABLES for chain in mine[name].lookers(moved) for look in _looks(name, chains[name][chain], moved)
    ]
    return _in_place(state, moved, sets, looks)


def _is_opaque(live: Live) -> bool:
    return any(reach.all_sets for reach in live.reach.values())


def _in_place(state: ActualState, moved: Collection[str], sets: Mapping[str, IPSet], looks: Sequence[Look]) -> bool:
    return _opens_or_closes(state, moved, sets, looks) or (len(moved) == 1 and _one_answer(looks))


def _one_answer(looks: Sequence[Look]) -> bool:
    """Whether a packet that is on its way while a set changes can't be judged by the old set here and by the new one there.

    To be found late then lets it through as it does early, or denies it. One address of it alone is looked up, so that it comes
    into the set or goes out of it.
    """
    ways = {None if look.opens is None else look.opens is not look.match.negate for look in looks}
    sides = {look.match.dimensions[0] for look in looks}
    tables = {look.table for look in looks}
    alike = len(ways) == 1 and None not in ways and ("raw" not in tables or len(tables) == 1)
    return len(looks) <= 1 or (alike and len(sides) == 1)


def _opens_or_closes(state: ActualState, moved: Collection[str], sets: Mapping[str, IPSet], looks: Sequence[Look]) -> bool:
    """Not where raw looks: what it leaves untracked isn't translated, and so meets other rules later."""
    grows = {}
    for name in moved:
        members = state.sets[name].members
        if members is None:
            return False
        change = Members.of(sets[name].members).since(members)
        if bool(change.added) is bool(change.removed):
            return False
        grows[name] = bool(change.added)
    if any(look.opens is None or look.table == "raw" for look in looks):
        return False
    return len({look.opens is (grows[look.match.name] is not look.match.negate) for look in looks}) <= 1


def _looks_of(live: Live, sets: Collection[str]) -> Iterator[Look]:
    """The live rules that look at sets."""
    for table in TABLES:
        if live.reach[table].sets.isdisjoint(sets):
            continue
        for chain in live.reach[table].chains:
            yield from _looks(table, live.tables[table].actual.chains.get(chain, ()), sets)


def _looks(table: TableName, chain: ActualChain, sets: Collection[str]) -> Iterator[Look]:
    for at, rule in enumerate(chain):
        if not isinstance(rule, Rule):
            continue
        for match in rule.matches:
            if type(match) is InSet and match.name in sets:
                decides = _decides(chain, at) if isinstance(rule.target, SetMark) else rule
                if not isinstance(decides.target, Log):
                    yield Look(table, _lets_through(decides), match)


def _decides(chain: ActualChain, at: int) -> Rule:
    """Of a rule for one among several ports or names the one that asks for any of them, and decides."""
    rule, *rest = (rule for rule in chain[at:] if isinstance(rule, Rule))
    bit = rule.target.value if isinstance(rule.target, SetMark) else 0
    return next((other for other in rest if any(isinstance(m, Mark) and m.value & bit for m in other.matches)), rule)


def _lets_through(rule: Rule) -> bool | None:
    """Whether a packet that matches a policy's rule is allowed; None for a rule that decides neither way."""
    match rule.target:
        case Jump(names.ALLOW, goto=True):
            return True
        case Verdict("DROP") | Reject():
            return False
        case _:
            return None


def workloads_only(live: Live, edits: Collection[Step]) -> Literal["come", "go"] | None:
    """Whether all that these commits do is to connect workload interfaces ("come") or to cut some off ("go")."""
    match edits:
        case [TableEdit(TableId(_, "filter"), chains, hooks)] if not hooks:
            return _come_or_go(live.tables["filter"].actual.chains, chains)
        case _:
            return None


def _come_or_go(actual: Mapping[str, ActualChain], edited: Mapping[str, Chain | None]) -> Literal["come", "go"] | None:
    if not all(name.startswith(OWN_CHAIN_PREFIX) for name in actual):
        return None  # something of an interrupted change is still there
    wanted = {**actual, **edited}
    after = {name: chain for name, chain in wanted.items() if chain is not None}
    before, now, dispatching = set[tuple[str, str, str]](), set[tuple[str, str, str]](), set[str]()
    for root in _WORKLOAD_ROOTS:
        for chains, found in ((actual, before), (after, now)):
            if not _follow(root, chains, found, dispatching):
                return None
    rewritten = (name for name, chain in edited.items() if name in actual and chain is not None)
    if any(name not in dispatching for name in rewritten):
        return None
    if before < now:
        return "come"
    return "go" if before > now else None


def _follow(root: str, chains: Mapping[str, ActualChain], found: set[tuple[str, str, str]], dispatching: set[str]) -> bool:
    """Collects where a tree of dispatch leads: (root, interface, chain). False where it isn't one that drops all others."""
    todo = [root]
    while todo:
        name = todo.pop()
        dispatching.add(name)
        *rules, end = chains.get(name) or (None,)
        if not isinstance(end, Rule) or end.matches or _lets_through(end) is not False:
            return False
        for rule in rules:
            match rule:
                case Rule((Interface(_, interface, prefix),), Jump(chain, goto=True)):
                    if prefix:
                        todo.append(chain)
                    else:
                        found.add((root, interface, chain))
                case _:
                    return False
    return True
