"""Changes that open or close step by step, never both: what needs no second tree beside the live one.

Sets whose changes all let more packets through, or all fewer, can change one after another: every moment lies between the old
state and the new one. And around interfaces of workloads that come or go, for their packets are denied without them: sets
before those that come, after those that go. Pods come and go all the time, and each is in many sets. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, Literal

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
    Reject,
    Rule,
    TableId,
    TableName,
    Verdict,
)

_JUDGING: Final[tuple[TableName, ...]] = ("mangle", "filter")
_WORKLOAD_ROOTS: Final = (names.FROM_WORKLOAD, names.TO_WORKLOAD)


def is_one_way(live: Live, moved: Collection[str], sets: Mapping[str, IPSet]) -> bool:
    """Whether the changes of these sets all open or all close, for every rule that looks at them.

    Not where raw does: what it leaves untracked isn't translated, and so meets other rules later.
    """
    if any(reach.all_sets for reach in live.reach.values()) or not live.reach["raw"].sets.keys().isdisjoint(moved):
        return False
    return _opens_or_closes(live.state, moved, sets, _uses(live, moved))


def is_one_way_by_usage(
    state: ActualState, usages: Mapping[TableId, Usage], family: Family, moved: Collection[str], sets: Mapping[str, IPSet]
) -> bool:
    """The same, where all chains are live: at the cost of the rules that look at these sets."""
    mine = {name: usages[TableId(family, name)] for name in TABLES}
    if any(usage.opaque for usage in mine.values()) or mine["raw"].lookers(moved):
        return False
    looking = (
        rule
        for name in _JUDGING
        for chain in mine[name].lookers(moved)
        for rule in state.table(TableId(family, name)).chains[chain]
        if isinstance(rule, Rule)
    )
    return _opens_or_closes(state, moved, sets, _looks(looking, moved))


def _opens_or_closes(
    state: ActualState, moved: Collection[str], sets: Mapping[str, IPSet], uses: Iterable[tuple[Rule, InSet]]
) -> bool:
    opening = set()
    grows = {}
    for name in moved:
        members = state.sets[name].members
        if members is None:
            return False
        change = Members.of(sets[name].members).since(members)
        if bool(change.added) is bool(change.removed):
            return False
        grows[name] = bool(change.added)
    for rule, match in uses:
        if isinstance(rule.target, Log):
            continue
        more_lets_through = _lets_through(rule)
        if more_lets_through is None:
            return False
        opening.add(more_lets_through is (grows[match.name] is not match.negate))
    return len(opening) <= 1


def _uses(live: Live, sets: Collection[str]) -> Iterator[tuple[Rule, InSet]]:
    """The live rules that look at sets."""
    for table in _JUDGING:
        for chain in live.reach[table].chains:
            yield from _looks((r for r in live.tables[table].actual.chains.get(chain, ()) if isinstance(r, Rule)), sets)


def _looks(rules: Iterable[Rule], sets: Collection[str]) -> Iterator[tuple[Rule, InSet]]:
    for rule in rules:
        yield from ((rule, match) for match in rule.matches if isinstance(match, InSet) and match.name in sets)


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
