"""A part of the kernel's state and of the desired one, as large as a change can matter to: planned as if it were everything.

Outside of it both states are the same, chain by chain and set by set: that is the caller's promise, by a `Focus`. Chains that
the part leads to have a rule in it that stands for them, in both states, so that a plan leaves them alone. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from hostward.dataplane.kernel import ActualChain, ActualSet, ActualTable
from hostward.dataplane.live import root
from hostward.dataplane.state import ActualState, same_set
from hostward.dataplane.usage import Usage
from hostward.render.roots import HOOKED
from hostward.render.ruleset import RETURN, TABLES, Chain, Family, Focus, IPSet, Jump, Rule, Ruleset, Table, TableId, TableName


class View(NamedTuple):
    """A part of both states."""

    actual: ActualState
    desired: Ruleset


def of_focus(actual: ActualState, desired: Ruleset, focus: Focus, family: Family) -> View:
    """Just what is named: enough to see what differs."""
    return _view(actual, desired, family, {name: focus.chains.get(TableId(family, name), ()) for name in TABLES}, focus.sets)


def of_affected(actual: ActualState, usages: Mapping[TableId, Usage], desired: Ruleset, focus: Focus, family: Family) -> View:
    """What is named and differs, every chain that looks at a set that differs, and every chain that leads to one of these."""
    moved = [name for name in focus.sets if _moved(actual.sets.get(name), desired.sets.get(name))]
    chains: dict[TableName, set[str]] = {}
    used = set(focus.sets)
    for name in TABLES:
        where = TableId(family, name)
        have, want = actual.table(where).chains, _table(desired, where).chains
        edited = {chain for chain in focus.chains.get(where, ()) if have.get(chain) != want.get(chain)}
        chains[name] = usages[where].with_callers(edited | usages[where].lookers(moved))
        chains[name] |= {root(hook) for hook in HOOKED[name]} | _hooked(actual.table(where), _table(desired, where))
        for chain in chains[name]:
            for rule in (*have.get(chain, ()), *want.get(chain, ())):
                if isinstance(rule, Rule):
                    used.update(rule.uses_sets())
    return _view(actual, desired, family, chains, used)


def _hooked(have: ActualTable, want: Table) -> set[str]:
    """The chains that rules of kernel chains lead to."""
    wanted = {name: (*hook.first, *hook.last) for name, hook in want.hooks.items()}
    return _targets(have.builtins) | _targets(wanted)


def _moved(have: ActualSet | None, want: IPSet | None) -> bool:
    return have is not None and want is not None and not same_set(have, want)


def _table(desired: Ruleset, where: TableId) -> Table:
    return desired.tables.get(where) or Table({}, {})


def _view(
    actual: ActualState, desired: Ruleset, family: Family, chains: Mapping[TableName, Iterable[str]], sets: Collection[str]
) -> View:
    have, want = {}, {}
    for name in TABLES:
        where = TableId(family, name)
        table, wanted = actual.table(where), _table(desired, where)
        mine = {chain: table.chains[chain] for chain in chains[name] if chain in table.chains}
        theirs = {chain: wanted.chains[chain] for chain in chains[name] if chain in wanted.chains}
        beyond = {chain: _stub(chain) for chain in (_targets(mine) | _targets(theirs)) - mine.keys() - theirs.keys()}
        have[where] = ActualTable({**beyond, **mine}, table.builtins)
        want[where] = replace(wanted, chains={**beyond, **theirs})
    return View(
        ActualState(have, {name: actual.sets[name] for name in sets if name in actual.sets}),
        Ruleset(want, {name: desired.sets[name] for name in sets if name in desired.sets}),
    )


def _stub(name: str) -> Chain:
    """Stands for a chain that is the same in both states; no two are alike, so that none is taken for another."""
    return (Rule((), RETURN, f"beyond:{name}"),)


def _targets(chains: Mapping[str, ActualChain]) -> set[str]:
    return {
        rule.target.chain
        for chain in chains.values()
        for rule in chain
        if isinstance(rule, Rule) and isinstance(rule.target, Jump)
    }
