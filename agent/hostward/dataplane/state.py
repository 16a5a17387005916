"""The whole actual state of the kernel as a value, and what one step of a plan makes of it.

It knows what a step means, not whether a kernel would take it: refusals are the kernel's, and the fake's. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from hostward.dataplane.kernel import (
    ActualChain,
    ActualSet,
    ActualTable,
    CreateSet,
    DestroySet,
    ReplaceSet,
    Step,
    TableEdit,
    Unknown,
    UpdateSet,
)
from hostward.model.members import Members
from hostward.render.ruleset import Family, Hook, IPSet, Rule, Ruleset, Table, TableId


class ActualState(Struct, frozen=True):
    """Tables as read with the plan's vocabulary learnt, and our sets. A table that isn't named holds nothing."""

    tables: Mapping[TableId, ActualTable] = field(default_factory=dict)
    sets: Mapping[str, ActualSet] = field(default_factory=dict)

    def table(self, where: TableId) -> ActualTable:
        """A table, empty if it wasn't read."""
        return self.tables.get(where, ActualTable())

    def family_sets(self, family: Family) -> dict[str, ActualSet]:
        """Our sets of one family."""
        return {name: found for name, found in self.sets.items() if found.family == family}


def of_family(desired: Ruleset, family: Family) -> Ruleset:
    """What is desired of one family."""
    tables = {where: table for where, table in desired.tables.items() if where.family == family}
    return Ruleset(tables, {name: wanted for name, wanted in desired.sets.items() if wanted.family == family})


def is_own(rule: Rule | Unknown) -> bool:
    """Whether a rule in a kernel chain is ours: we know it, or it jumps to our chains."""
    return isinstance(rule, Rule) or rule.ours


def hooked(builtin: ActualChain, hook: Hook) -> ActualChain:
    """A kernel chain with these own rules instead of those it has; everybody else's keep their order."""
    return (*hook.first, *(rule for rule in builtin if not is_own(rule)), *hook.last)


def same_set(actual: ActualSet, wanted: IPSet) -> bool:
    """Whether a set holds what is wanted. Of a set whose members weren't read, the header must agree."""
    if (actual.type, actual.family) != (wanted.type, wanted.family):
        return False
    if actual.members is None:
        return actual.count == len(wanted.members)
    return actual.members is wanted.members or actual.members == wanted.members


def edit_between(where: TableId, actual: ActualTable, target: Table) -> TableEdit | None:
    """The one commit that makes a table hold the target and nothing else of ours; None when it does."""
    chains = {name: chain for name, chain in target.chains.items() if actual.chains.get(name) != chain}
    gone = dict.fromkeys(name for name in actual.chains if name not in target.chains)
    hooks = {}
    for name in (*target.hooks, *(name for name in actual.builtins if name not in target.hooks)):
        hook = target.hooks.get(name, Hook())
        builtin = actual.builtins.get(name, ())
        if builtin != hooked(builtin, hook):
            hooks[name] = hook
    return TableEdit(where, {**chains, **gone}, hooks) if chains or gone or hooks else None


def edited(table: ActualTable, edit: TableEdit) -> ActualTable:
    """A table after a commit."""
    chains = {**table.chains, **{name: chain for name, chain in edit.chains.items() if chain is not None}}
    for name, chain in edit.chains.items():
        if chain is None:
            chains.pop(name, None)
    builtins = {**table.builtins, **{name: hooked(table.builtins.get(name, ()), hook) for name, hook in edit.hooks.items()}}
    return ActualTable(chains, builtins)


def after(state: ActualState, steps: Iterable[Step]) -> ActualState:
    """The state that steps lead to, when the kernel takes them."""
    tables, sets = dict(state.tables), dict(state.sets)
    for step in steps:
        take(tables, sets, step)
    return ActualState(tables, sets)


def take(tables: dict[TableId, ActualTable], sets: dict[str, ActualSet], step: Step) -> None:
    """Changes tables and sets as a step does."""
    match step:
        case TableEdit(where):
            tables[where] = edited(tables.get(where, ActualTable()), step)
        case CreateSet(name, wanted) | ReplaceSet(name, wanted):
            sets[name] = ActualSet(wanted.type, wanted.family, wanted.max_members, wanted.members, len(wanted.members))
        case UpdateSet(name, _, add, remove):
            members = Members.of(sets[name].members or frozenset()).changed(add - remove, remove)
            sets[name] = replace(sets[name], members=members, count=len(members))
        case DestroySet(name):
            del sets[name]
