"""From the actual state of the kernel to the desired one: the steps, in an order that is safe between any two of them.

At no moment does a packet pass that both states deny, nor is one dropped that both allow; also not after the agent was killed
between two steps, when the next plan starts from what it finds. A family is planned by itself: no packet meets both. What
one packet can't meet twice is written in place; anything else goes through `transition`. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from hostward.dataplane import view
from hostward.dataplane.kernel import CreateSet, DestroySet, ReplaceSet, Step, TableEdit, UpdateSet
from hostward.dataplane.live import Live, Part, gate, root
from hostward.dataplane.one_way import is_one_moment, is_one_moment_by_usage, is_one_way, workloads_only
from hostward.dataplane.state import ActualState, after, edit_between, same_set
from hostward.dataplane.strangers import telling_bit
from hostward.dataplane.transition import change_set, place_sets, shadow_chain, transition, with_sets
from hostward.dataplane.usage import Usage
from hostward.render.marks import Marks, clear, is_clear, is_set, put
from hostward.render.options import Options
from hostward.render.roots import HOOKED, all_hooks
from hostward.render.ruleset import FAMILIES, TABLES, Family, Focus, IPSet, Jump, Rule, Ruleset, Table, TableId, TableName

__all__ = ["ActualState", "plan", "plan_change", "rules_of", "vocabulary"]
_ORDER: Final[tuple[TableName, ...]] = ("mangle", "filter", "raw")  # raw last: it selects between trees that are still there
_EXITS: Final = (Part("filter", "FORWARD"), Part("filter", "OUTPUT"), Part("mangle", "POSTROUTING"))
_PATHS: Final = (
    frozenset({Part("raw", "PREROUTING"), Part("mangle", "PREROUTING"), Part("filter", "INPUT")}),
    frozenset({Part("raw", "PREROUTING"), Part("mangle", "PREROUTING"), Part("filter", "FORWARD")}),
    frozenset({Part("raw", "OUTPUT"), Part("filter", "OUTPUT")}),
    frozenset({Part("raw", "OUTPUT"), Part("mangle", "POSTROUTING")}),
)
_ENTRANCE_PATHS: Final = (
    frozenset({Part("raw", "PREROUTING"), Part("mangle", "PREROUTING"), Part("filter", "FORWARD"), _EXITS[2]}),
    frozenset({Part("raw", "OUTPUT"), Part("filter", "OUTPUT"), _EXITS[2]}),
)


def plan(actual: ActualState, desired: Ruleset, marks: Marks, families: Iterable[Family] = FAMILIES) -> tuple[Step, ...]:
    """The steps from actual to desired of these families, to be applied in order; empty when nothing differs.

    `actual` must have been read with `vocabulary(desired, marks)` learnt. An empty `Ruleset` means: remove all that is ours.
    A step that the kernel refuses leaves a state from which a new plan goes on.
    """
    return tuple(step for family in families for step in _family_plan(actual, desired, family, marks))


def plan_change(
    actual: ActualState, usages: Mapping[TableId, Usage], desired: Ruleset, focus: Focus, *, marks: Marks, family: Family
) -> tuple[Step, ...]:
    """The plan for one family at the cost of what `focus` names and what leads there.

    Whatever isn't named must be in the kernel as desired, under its final name: what a plan leaves that was carried out whole.
    """
    named = view.of_focus(actual, desired, focus, family)
    steps = _settle(named.actual, family, *_wanted(named.desired, family))
    if _is_one_commit(steps):
        return tuple(steps)
    if not any(isinstance(step, TableEdit) for step in steps):
        moved = [step.name for step in steps if isinstance(step, UpdateSet | ReplaceSet)]
        if is_one_moment_by_usage(actual, usages, family, moved, desired.sets):
            return tuple(steps)
    affected = view.of_affected(actual, usages, desired, focus, family)
    return plan(affected.actual, affected.desired, marks, (family,))


def _landmarks(desired: Ruleset, marks: Marks) -> dict[TableId, list[Rule]]:
    """What a plan must recognise in the kernel beside the desired rules: all that may stand in kernel chains."""
    known = {}
    for family in FAMILIES:
        for name in TABLES:
            table = desired.tables.get(TableId(family, name), Table({}, {}))
            entries = [Rule((), Jump(chain)) for hook in HOOKED[name] for chain in (root(hook), shadow_chain(root(hook)))]
            own = [rule for hook in table.hooks.values() for rule in (*hook.first, *hook.last)]
            others = table.other_hooks | all_hooks(name, Options(marks=marks))
            entries += [rule for known in {*own, *others} for rule in (known, _of_shadow(known))]
            entries += [gate(rule, match(marks.generation)) for rule in entries for match in (is_set, is_clear)]
            if name == "raw":
                entries += [Rule((), put(marks.generation)), Rule((), clear(marks.generation))]
            known[TableId(family, name)] = entries
    return known


def _of_shadow(rule: Rule) -> Rule:
    """A rule of a kernel chain as it leads to the second tree."""
    target = rule.target
    return replace(rule, target=replace(target, chain=shadow_chain(target.chain))) if isinstance(target, Jump) else rule


def vocabulary(desired: Ruleset, marks: Marks) -> dict[TableId, list[Rule]]:
    """All rules that must be learnt before the kernel is read for a plan: the desired ones and the landmarks."""
    known = _landmarks(desired, marks)
    for where, table in desired.tables.items():
        known[where] += [rule for chain in table.chains.values() for rule in chain]
    return known


def rules_of(steps: Iterable[Step]) -> dict[TableId, list[Rule]]:
    """The rules that these steps write, to be learnt before they are applied: then an interrupted plan can go on from there."""
    found: dict[TableId, list[Rule]] = {}
    for step in steps:
        if isinstance(step, TableEdit):
            rules = found.setdefault(step.table, [])
            for chain in step.chains.values():
                rules += chain or ()
            for hook in step.hooks.values():
                rules += (*hook.first, *hook.last)
    return found


def _wanted(desired: Ruleset, family: Family) -> tuple[dict[TableName, Table], dict[str, IPSet]]:
    tables = {name: desired.tables.get(TableId(family, name), Table({}, {})) for name in TABLES}
    return tables, {name: wanted for name, wanted in desired.sets.items() if wanted.family == family}


def _family_plan(actual: ActualState, desired: Ruleset, family: Family, marks: Marks) -> list[Step]:
    tables, sets = _wanted(desired, family)
    direct = _settle(actual, family, tables, sets)
    if _is_one_commit(direct):
        return direct
    marks = replace(marks, generation=telling_bit(actual, family, marks))
    live = Live(actual, family, marks)
    changed = live.changed(tables, sets)
    differing = [name for name, wanted in sets.items() if name in actual.sets and not same_set(actual.sets[name], wanted)]
    moved = [name for name in differing if live.uses(name)]
    gradual = is_one_way(live, moved, sets)
    if not live.changed(tables, sets, names_only=True) and (gradual or is_one_moment(live, moved, sets)):
        return direct
    if gradual and (way := workloads_only(live, [step for step in direct if isinstance(step, TableEdit)])):
        return direct if way == "come" else _last_sets(direct, moved)
    if not _coupled(live, changed, tables):
        names, steps = place_sets(live, sets)
        if all(name == other for name, other in names.items()):
            return direct
        for name in _ORDER:
            where = TableId(family, name)
            edit = edit_between(where, actual.table(where), with_sets(tables[name], names))
            steps += [edit] if edit is not None else []
    else:
        steps = transition(live, tables, sets, marks)
    return [*steps, *_settle(after(actual, steps), family, tables, sets)]


def _is_one_commit(steps: list[Step]) -> bool:
    """One commit at most: nothing that a packet could meet half done."""
    visible = [step for step in steps if not isinstance(step, CreateSet | DestroySet)]
    return not visible or (len(visible) == 1 and isinstance(visible[0], TableEdit))


def _last_sets(steps: Iterable[Step], moved: Collection[str]) -> list[Step]:
    """The same steps, with those that change sets in use after the commits."""
    late = [step for step in steps if isinstance(step, UpdateSet | ReplaceSet) and step.name in moved]
    early = [step for step in steps if step not in late and not isinstance(step, DestroySet)]
    return [*early, *late, *(step for step in steps if isinstance(step, DestroySet))]


def _settle(actual: ActualState, family: Family, tables: Mapping[TableName, Table], sets: Mapping[str, IPSet]) -> list[Step]:
    """Everything to its final content under its final name: sets first, then tables, then what nothing uses any more."""
    steps: list[Step] = []
    for name, wanted in sets.items():
        present = actual.sets.get(name)
        if present is None:
            steps.append(CreateSet(name, wanted))
        else:
            steps += change_set(name, present, wanted)
    for table in _ORDER:
        where = TableId(family, table)
        edit = edit_between(where, actual.table(where), tables[table])
        steps += [edit] if edit is not None else []
    return [*steps, *(DestroySet(name) for name in sorted(actual.family_sets(family)) if name not in sets)]


def _coupled(live: Live, changed: Collection[Part], tables: Mapping[TableName, Table]) -> bool:
    """Whether one packet can meet two of the changed parts in two tables, that is in two commits.

    mangle POSTROUTING judges only what OUTPUT left to it and nothing that was forwarded (H-35). The entrances of these three
    parts see to that; where one of them changes, it can't be relied on.
    """
    paths = list(_PATHS)
    if not all(live.same_entrance(part, tables[part.table]) for part in _EXITS):
        paths += _ENTRANCE_PATHS
    known = frozenset().union(*_PATHS)
    strangers = {part for part in changed if part not in known}
    return any(len({part.table for part in (path & set(changed)) | strangers}) > 1 for path in paths)
