"""Rules of ours in kernel chains that aren't known, as other settings or another version made them: what they are taken for.

Pure; any thread.
"""

from __future__ import annotations

from msgspec.structs import replace

from hostward.dataplane.kernel import ActualTable, Unknown
from hostward.dataplane.live import Live, root
from hostward.dataplane.state import ActualState, is_own
from hostward.render.marks import Marks
from hostward.render.names import WORKLOAD_RAW
from hostward.render.options import Options
from hostward.render.roots import HOOKED, all_hooks
from hostward.render.ruleset import (
    TABLES,
    Chain,
    Family,
    Hook,
    Interface,
    Jump,
    Mark,
    Match,
    Rule,
    SetMark,
    Table,
    TableId,
    TableName,
)


def readings(name: TableName, table: ActualTable, marks: Marks) -> set[Rule]:
    """What rules that aren't known may be, if a process with another `markMask` or other prefixes wrote them.

    In kernel chains one of the usual rules, which may be for one generation alone, also under several masks, after as many
    changes that were interrupted; elsewhere what gives every packet a bit.
    """
    usual = {*(Rule((), Jump(root(hook))) for hook in HOOKED[name]), *all_hooks(name, Options(marks=marks))}
    strangers = {rule for chain in table.builtins.values() for rule in chain if isinstance(rule, Unknown) and rule.ours}
    found = {read for rule in usual for stranger in strangers if (read := _read(rule, stranger)) is not None}
    rules = (rule for chain in table.chains.values() for rule in chain)
    return found | {Rule((), rule.gives) for rule in rules if isinstance(rule, Unknown) and rule.gives is not None}


def _read(usual: Rule, stranger: Unknown) -> Rule | None:
    """A usual rule with what can be told of a stranger; None where they differ in more. Marks are asked for before all else."""
    target, matches = usual.target, list[Match]()
    if isinstance(target, Jump):
        target = replace(target, chain=stranger.leads_to)
    if bool(stranger.leads_to) is not isinstance(target, Jump):
        return None
    for match in usual.matches:
        if isinstance(match, Interface) and match.prefix:
            if not stranger.prefix:
                return None
            matches.append(replace(match, name=stranger.prefix))
        elif not isinstance(match, Mark):
            matches.append(match)
    return replace(usual, matches=(*stranger.marks, *matches), target=target)


def telling_bit(state: ActualState, family: Family, marks: Marks) -> int:
    """The bit of a packet's mark that can tell two trees apart: the generation, unless rules in the kernel set that for another
    end. Those of another `markMask` may; the last of its bits, which they clear with all others and never set, is free then.
    """
    put = cleared = 0
    for name in TABLES:
        roots = {root(hook) for hook in HOOKED[name]}  # in raw they give the generation itself
        for chain, rules in state.table(TableId(family, name)).chains.items():
            for gives in filter(None, map(_gives, rules)):
                cleared |= gives.mask & ~gives.value
                put |= 0 if name == "raw" and chain in roots else gives.value
    free = cleared & ~put & ~(marks.all ^ marks.generation)
    return 1 << free.bit_length() - 1 if free and put & marks.generation else marks.generation


def _gives(rule: Rule | Unknown) -> SetMark | None:
    if isinstance(rule, Unknown):
        return rule.gives
    return rule.target if isinstance(rule.target, SetMark) else None


def live_in_raw(live: Live, hook: str, wanted: Table) -> Chain:
    """What is live in a kernel chain of raw: rules that ask for something, or a jump that all packets take.

    Rules that aren't known are of other settings or another version. Where none stands in OUTPUT, they don't give packets their
    bits either, but look for spoofed sources alone: they are taken for those that do so here, with the chain that they lead to.
    """
    builtins = live.tables["raw"].actual.builtins
    unknown = next((rule.leads_to for rule in builtins.get(hook, ()) if isinstance(rule, Unknown) and rule.leads_to), "")
    if unknown and not any(map(is_own, builtins.get("OUTPUT", ()))):
        usual = (rule for rule in wanted.other_hooks if rule.target == Jump(WORKLOAD_RAW))
        return tuple(replace(rule, target=Jump(unknown)) for rule in usual)
    return live.tables["raw"].hooks.get(hook, Hook()).first


def usual_end(unknown: int, wanted: Table) -> Chain:
    """What so many unknown rules at a kernel chain's end are taken for: one asks for the mark, several for interfaces.

    If they are more than those, they do both.
    """
    ends = [rule for rule in wanted.other_hooks if not isinstance(rule.target, Jump)]
    marked = [rule for rule in ends if any(isinstance(match, Mark) for match in rule.matches)]
    others = [rule for rule in ends if rule not in marked]
    return tuple(marked if unknown == 1 else others if unknown <= len(others) else ends)
