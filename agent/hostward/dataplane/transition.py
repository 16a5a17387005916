"""A change that one packet could meet twice, made so that every packet meets the old state or the new one, never a mix.

The new trees are built beside the live ones, under names that nothing live uses, and entered from the kernel chains only by
packets of the other generation. One commit of raw then gives all packets the other generation: that is the change. What is
left is renaming, which the plan does afterwards. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator, Mapping
from hashlib import sha256
from itertools import count
from typing import Final

from msgspec.structs import replace

from hostward.dataplane.kernel import (
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
from hostward.dataplane.live import Live, gate, hook_of, root
from hostward.dataplane.state import edit_between, edited, hooked, same_set
from hostward.dataplane.strangers import live_in_raw, usual_end
from hostward.model.members import Members
from hostward.render.marks import Marks, clear, is_clear, is_set, put
from hostward.render.roots import HOOKED
from hostward.render.ruleset import (
    MAX_CHAIN_NAME,
    MAX_SET_NAME,
    OWN_CHAIN_PREFIX,
    SHADOW_CHAIN_PREFIX,
    Chain,
    Hook,
    InSet,
    IPSet,
    Jump,
    Rule,
    SetMark,
    Table,
    TableId,
    TableName,
)

_SET_PREFIX: Final = len("hw4-")


def shadow_chain(name: str) -> str:
    """The usual second name of a chain."""
    return SHADOW_CHAIN_PREFIX + name.removeprefix(OWN_CHAIN_PREFIX)


def _more_names(prefix: str, name: str, longest: int) -> Iterator[str]:
    """Further names, without end: after interrupted changes the usual second name may be live too."""
    for number in count():
        yield (prefix + sha256(f"{name}/{number}".encode()).hexdigest())[:longest]


def chain_names(name: str) -> Iterator[str]:
    """The names that a chain may have, its own first."""
    yield name
    yield shadow_chain(name)
    yield from _more_names(SHADOW_CHAIN_PREFIX, name, MAX_CHAIN_NAME)


def set_names(name: str) -> Iterator[str]:
    """The names that a set may have, its own first."""
    prefix = name[: _SET_PREFIX - 1] + "~"
    yield name
    yield prefix + name[_SET_PREFIX:]
    yield from _more_names(prefix, name, MAX_SET_NAME)


def change_set(name: str, actual: ActualSet, wanted: IPSet) -> list[Step]:
    """What gives a set the wanted content.

    In place where that is enough. Additions come first, so the set must have room for old and new members together. A set
    of another type (nothing of ours ever makes one) can't be swapped; it goes first, which the kernel refuses while it's used.
    """
    if actual.type.partition(" ")[0] != wanted.type or actual.family != wanted.family:
        return [DestroySet(name), CreateSet(name, wanted)]
    header = (actual.type, actual.max_members) == (wanted.type, wanted.max_members)
    if not header or (actual.members is None and not same_set(actual, wanted)):
        return [ReplaceSet(name, wanted)]
    if actual.members is None or actual.members is wanted.members:
        return []
    add, remove = Members.of(wanted.members).since(actual.members)
    if not add and not remove:
        return []
    if len(actual.members) + len(add) > wanted.max_members:
        return [ReplaceSet(name, wanted)]
    return [UpdateSet(name, wanted.family, add, remove)]


def place_sets(live: Live, sets: Mapping[str, IPSet]) -> tuple[dict[str, str], list[Step]]:
    """Under which name each wanted set can exist beside what is live, and the steps that make it so."""
    names: dict[str, str] = {}
    steps: list[Step] = []
    for name, wanted in sets.items():
        for candidate in set_names(name):
            actual = live.state.sets.get(candidate)
            if actual is not None and same_set(actual, wanted):
                names[name] = candidate
                break
            if actual is None or not live.uses(candidate):
                names[name] = candidate
                steps += [CreateSet(candidate, wanted)] if actual is None else change_set(candidate, actual, wanted)
                break
    return names, steps


def renamed(chain: Chain, chains: Mapping[str, str], sets: Mapping[str, str]) -> Chain:
    """Rules with other names for chains and sets; the same object where nothing changes."""
    if not chains and not sets:
        return chain
    result = tuple(_renamed_rule(rule, chains, sets) for rule in chain)
    return chain if all(map(_is, result, chain)) else result


def _is(one: object, other: object) -> bool:
    return one is other


def _renamed_rule(rule: Rule, chains: Mapping[str, str], sets: Mapping[str, str]) -> Rule:
    matches, target = rule.matches, rule.target
    if any(isinstance(match, InSet) and sets.get(match.name, match.name) != match.name for match in matches):
        matches = tuple(replace(m, name=sets.get(m.name, m.name)) if isinstance(m, InSet) else m for m in matches)
    if isinstance(target, Jump) and chains.get(target.chain, target.chain) != target.chain:
        target = replace(target, chain=chains[target.chain])
    return rule if matches is rule.matches and target is rule.target else replace(rule, matches=matches, target=target)


def with_sets(table: Table, sets: Mapping[str, str]) -> Table:
    """A table whose rules use other sets."""
    others = _others(sets)
    return replace(table, chains={name: renamed(chain, {}, others) for name, chain in table.chains.items()})


def _others(names: Mapping[str, str]) -> dict[str, str]:
    """The names that aren't kept: at a first start none."""
    return {name: other for name, other in names.items() if other != name}


def _bottom_up(chains: Mapping[str, Chain]) -> list[str]:
    """All chains, each after those that it leads to."""
    done: dict[str, None] = {}
    todo = [(name, False) for name in chains]
    entered = set()
    while todo:
        name, left = todo.pop()
        if left:
            done[name] = None
        elif name not in entered and name in chains:
            entered.add(name)
            todo.append((name, True))
            todo += [(rule.target.chain, False) for rule in chains[name] if isinstance(rule.target, Jump)]
    return list(done)


def _place_chains(
    wanted: Table, actual: ActualTable, sets: Mapping[str, str], taken: Callable[[str], Container[str]]
) -> tuple[dict[str, str], dict[str, Chain]]:
    """Under which name each wanted chain can exist beside what is live, and the content of those to be written.

    A chain that is there already with the wanted content, and leads to the same, serves both trees.
    """
    names: dict[str, str] = {}
    writes: dict[str, Chain] = {}
    other_chains, other_sets = dict[str, str](), _others(sets)
    for name in _bottom_up(wanted.chains):
        content = renamed(wanted.chains[name], other_chains, other_sets)
        for candidate in chain_names(name):
            there = actual.chains.get(candidate) == content
            if there or candidate not in taken(name):
                names[name] = candidate
                if candidate != name:
                    other_chains[name] = candidate
                if not there:
                    writes[candidate] = content
                break
    return names, writes


def _targets(hooks: Collection[Hook]) -> set[str]:
    return {rule.target.chain for hook in hooks for rule in hook.first if isinstance(rule.target, Jump)}


def both(old: Hook, new: Hook, marks: Marks, generation: bool) -> Hook:
    """A kernel chain's own rules for two generations: `new` for the given one, `old` for the other.

    Those for a clear bit come first: a tree that clears the bit can't send its packets into the other tree.
    """
    unset, given = (old, new) if generation else (new, old)
    no, yes = is_clear(marks.generation), is_set(marks.generation)

    def merged(these: Chain, those: Chain) -> Chain:
        return (*(gate(rule, no) for rule in these), *(gate(rule, yes) for rule in those))

    return Hook(merged(unset.first, given.first), merged(unset.last, given.last))


def _prepare(live: Live, name: TableName, wanted: Table, sets: Mapping[str, str], marks: Marks) -> TableEdit | None:
    """The new tree of a table beside the live one, entered by packets of the coming generation."""
    where, coming = TableId(live.family, name), not live.generation
    table = live.tables[name]
    live_roots, roots = _targets(table.hooks.values()), _targets(wanted.hooks.values())
    reached = live.reach[name].chains
    names, writes = _place_chains(wanted, table.actual, sets, lambda chain: live_roots if chain in roots else reached)
    hooks = {}
    for hook in {*table.hooks, *wanted.hooks}:
        old, new = table.hooks.get(hook, Hook()), wanted.hooks.get(hook, Hook())
        new = Hook(renamed(new.first, names, sets), renamed(new.last, names, sets))
        builtin = table.actual.builtins.get(hook, ())
        unknown = sum(isinstance(rule, Unknown) and rule.ours and not rule.leads_to for rule in builtin)
        if not old.last and unknown:
            old = Hook(old.first, usual_end(unknown, wanted))
        if hook_of(builtin, hook, marks, coming) == new:
            continue
        target = new if old == new else both(old, new, marks, coming)
        if hooked(builtin, target) != builtin:
            hooks[hook] = target
    return TableEdit(where, writes, hooks) if writes or hooks else None


def _gives(rule: Rule | Unknown, bit: int) -> SetMark | None:
    """What gives all packets a bit, one way or the other."""
    target = rule.target if isinstance(rule, Rule) and not rule.matches else None
    return target if isinstance(target, SetMark) and target.mask & bit else None


def with_generation(raw: Table, marks: Marks, generation: bool) -> Table:
    """The raw table whose roots give every packet a generation: also packets that raw doesn't judge.

    A first rule that clears our bits stays the first. Rules of a kernel chain that ask for something come after that.
    """
    chains, hooks = dict(raw.chains), dict(raw.hooks)
    for hook in HOOKED["raw"]:
        first, entry = hooks.get(hook, Hook()).first, Rule((), Jump(root(hook)))
        chain = chains.get(root(hook), ()) if first == (entry,) else first
        hooks[hook] = Hook((entry,))
        given = _gives(chain[0], marks.generation) if chain else None
        cleared = given is not None and not given.value & marks.generation
        if generation:
            chains[root(hook)] = (*chain[:cleared], Rule((), put(marks.generation)), *chain[cleared:])
        elif not cleared:
            chains[root(hook)] = (Rule((), clear(marks.generation)), *chain)
    return Table(chains, hooks)


def _all_given(live: Live, first: Chain, bit: int) -> bool:
    """Whether the live rules of a kernel chain of raw give every packet a bit: under another `markMask` they give others."""
    chains = live.tables["raw"].actual.chains
    entered = (rule.target.chain for rule in first if not rule.matches and isinstance(rule.target, Jump))
    return any(_gives(rule, bit) for chain in entered for rule in chains.get(chain, ()))


def transition(live: Live, wanted: Mapping[TableName, Table], sets: Mapping[str, IPSet], marks: Marks) -> list[Step]:
    """The steps after which every packet meets what is wanted, under names that may not be the final ones."""
    names, steps = place_sets(live, sets)
    where, raw = TableId(live.family, "raw"), live.state.table(TableId(live.family, "raw"))
    judged = {hook: live_in_raw(live, hook, wanted["raw"]) for hook in HOOKED["raw"]}
    missing = [hook for hook, first in judged.items() if not _all_given(live, first, marks.generation)]
    if missing:
        # From here on no packet brings a generation of its own choice, those that raw doesn't look at among them.
        give = Rule((), put(marks.generation) if live.generation else clear(marks.generation))
        reached = live.reach["raw"].chains
        entries = {hook: next(name for name in chain_names(root(hook)) if name not in reached) for hook in missing}
        hooks = {hook: Hook((Rule((), Jump(entry)),)) for hook, entry in entries.items()}
        start = TableEdit(where, {entry: (give, *judged[hook]) for hook, entry in entries.items()}, hooks)
        steps.append(start)
        raw = edited(raw, start)
    for name in ("mangle", "filter"):
        edit = _prepare(live, name, wanted[name], names, marks)
        steps += [edit] if edit is not None else []
    flip = edit_between(where, raw, with_generation(with_sets(wanted["raw"], names), marks, not live.generation))
    return [*steps, flip] if flip is not None else steps
