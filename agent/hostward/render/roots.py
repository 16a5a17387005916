"""The chains that every packet enters first, and those that stay the same whatever governs (enforcement 4.4, 4.6).

docs/chains.md draws them. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hostward.model.rules import ICMPV6
from hostward.render import names, workload
from hostward.render.dispatch import WAYS
from hostward.render.failsafes import failsafe_rules
from hostward.render.marks import clear, is_clear, is_set, put
from hostward.render.options import Options
from hostward.render.ruleset import (
    ACCEPT,
    DROP,
    RETURN,
    Chain,
    ConnectionMark,
    Hook,
    IcmpType,
    Jump,
    Match,
    NoTrack,
    Protocol,
    Reject,
    Rule,
    TableId,
    TableName,
    Verdict,
)
from hostward.render.steps import DNATED, ESTABLISHED

NEIGHBOUR_DISCOVERY_TYPES: Final = (130, 131, 132, 133, 134, 135, 136, 143)
# Where rules of ours may stand. Where they do depends on what is needed: `hooks`.
HOOKED: Final[Mapping[TableName, tuple[str, ...]]] = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}


class Needs(Struct, frozen=True):
    """What the root chains are for: whether any host interface is governed, has untracked policy, has preDNAT policy, and has
    a say in the traffic of workloads; and whether the endpoint of all other interfaces, `*`, has that."""

    hosts: bool = False
    untracked: bool = False
    pre_dnat: bool = False
    of_workloads: bool = False
    any_workloads: bool = False


def hooks(table: TableName, options: Options, needs: Needs) -> dict[str, Hook]:
    """Our rules in the kernel chains: jumps at the top, and at FORWARD's end the accept of what policy accepted (D11).

    Every packet pays for them: where nothing of ours would judge it, none stands there, and where only some packets are judged,
    the jump itself asks for those.
    """
    result = {chain: Hook((Rule((), Jump(f"hw-{chain}")),)) for chain in HOOKED[table]}
    match table:
        case "raw" if not needs.untracked:
            return {"PREROUTING": Hook(workload.spoofing(options))}
        case "mangle":
            entry = {"PREROUTING": result["PREROUTING"]} if needs.pre_dnat else {}
            leave = Hook((Rule(_translated(options), Jump("hw-POSTROUTING")),))
            return entry | ({"POSTROUTING": leave} if needs.hosts else {})
        case "filter":
            result["FORWARD"] = Hook(result["FORWARD"].first, _accepted(options, needs))
            if not needs.hosts and not options.cut:
                del result["OUTPUT"]
    return result


@lru_cache(maxsize=16)
def all_hooks(table: TableName, options: Options) -> frozenset[Rule]:
    """Every rule that may stand in a kernel chain under these options, whatever is needed."""
    found = [hooks(table, options, Needs(*given)) for given in product((False, True), repeat=len(Needs.__struct_fields__))]
    return frozenset(rule for each in found for hook in each.values() for rule in (*hook.first, *hook.last))


def _accepted(options: Options, needs: Needs) -> Chain:
    """Where all others have let a forwarded packet pass, and policy has accepted it.

    What a workload sends or gets is there only if that was so: of such packets hw-FORWARD lets nothing else go back, unless
    hosts' policies may leave one undecided. To ask for the interface costs a packet much less than to set and ask for a mark.
    """
    if options.filter_allow == "RETURN":
        return ()
    accepted = Rule((), ACCEPT, "hw:accepted-by-policy")
    by_mark = (replace(accepted, matches=(is_set(options.marks.accept),)),)
    if needs.of_workloads:
        return by_mark
    of_workloads = [replace(accepted, matches=rule.matches) for way in WAYS for rule in workload.every(options, way, ACCEPT)]
    return (*of_workloads, *(by_mark if needs.hosts else ()))


def root_chains(table: TableName, options: Options, needs: Needs, hosts: Chain) -> dict[str, Chain]:
    """The root chains of a table, and those beside them that stay the same whatever interfaces there are.

    `hosts`: what leads from INPUT to the host interfaces' chains; packets to this host are spared a jump there.
    """
    match table:
        case "raw":
            return _raw(options, needs)
        case "mangle":
            return _mangle(options, needs)
        case "filter":
            return _filter(options, needs, hosts)


def _raw(options: Options, needs: Needs) -> dict[str, Chain]:
    """Untracked policy (H-32, H-33), after our bits are cleared (D15): later tables take its word by the accept mark.

    Not of what workloads send: that is looked at for spoofed sources instead, with or without untracked policy.
    """
    if not needs.untracked:
        return {}
    accepted = is_set(options.marks.accept)
    result = {}
    for root, dispatch in (("hw-PREROUTING", names.FROM_ENDPOINT), ("hw-OUTPUT", names.TO_ENDPOINT)):
        workloads: Chain = ()
        if root == "hw-PREROUTING":
            workloads = (*workload.spoofing(options), *workload.every(options, "in", RETURN))
        judge = (Rule((), Jump(dispatch)), Rule((accepted,), NoTrack()), Rule((accepted,), ACCEPT))
        result[root] = (Rule((), clear(options.marks.all)), *workloads, *judge)
    return result


def _mangle(options: Options, needs: Needs) -> dict[str, Chain]:
    """preDNAT policy on entry (H-34); on the way out what nat OUTPUT gave another destination, and nothing else (H-35).

    Filter takes preDNAT policy's word by the accept mark: it is cleared for open connections too, if raw hasn't done that.
    """
    marks, allow = options.marks, Verdict(options.mangle_allow)
    accepted = (Rule((is_set(marks.accept),), allow),)
    result: dict[str, Chain] = {}
    if needs.pre_dnat:
        cleared = () if needs.untracked else (Rule((), clear(marks.accept | marks.translated)),)
        before, after = accepted if needs.untracked else (), accepted if allow != RETURN else ()
        result["hw-PREROUTING"] = (*cleared, Rule((ESTABLISHED,), allow), *before, Rule((), Jump(names.FROM_ENDPOINT)), *after)
    if needs.hosts:  # asked once more, for who doesn't know the rule that leads here and takes it for one without conditions
        result["hw-POSTROUTING"] = (Rule(_translated(options), Jump(names.TO_ENDPOINT)),)
    return result


def _translated(options: Options) -> tuple[Match, ...]:
    """A packet that nat OUTPUT rewrote: of such a one the mark is ours, from hw-OUTPUT."""
    return is_set(options.marks.translated), DNATED


def _filter(options: Options, needs: Needs, hosts: Chain) -> dict[str, Chain]:
    """INPUT, OUTPUT and FORWARD (H-36..H-38). Without a host endpoint only traffic of workload interfaces is judged.

    What is forwarded on an open connection between host interfaces is looked at once, for both its sides.
    """
    from_workload = workload.every(options, "in", Jump(names.WORKLOAD_TO_HOST, goto=True))
    through_workload = workload.through(options, hosts=needs.of_workloads)
    marked = needs.untracked or needs.pre_dnat
    chains: dict[str, Chain] = {}
    if needs.of_workloads:
        chains |= workload.forward_chains(options, of_workloads=needs.any_workloads, before=marked)
    cut = _cut(options)
    if not needs.hosts:
        leaving = {"hw-OUTPUT": cut} if cut else {}
        return chains | leaving | {"hw-INPUT": (*cut, *from_workload), "hw-FORWARD": (*cut, *through_workload)}
    if not needs.of_workloads:
        through_workload += workload.every(options, "in", RETURN)
    marks = options.marks
    accepted = (Rule((is_set(marks.accept),), Verdict(options.filter_allow)),)
    return chains | {
        # Which interface a DNATed packet leaves by isn't known here yet: POSTROUTING judges it.
        names.TRANSLATED: (Rule((DNATED,), put(marks.translated)),),
        "hw-INPUT": (*cut, *from_workload, *(accepted if marked else ()), *hosts),
        "hw-OUTPUT": (
            *cut,
            *(accepted if needs.untracked else ()),
            *workload.every(options, "out", Jump(names.TRANSLATED, goto=True)),
            Rule((), Jump(names.TO_ENDPOINT)),
            Rule((), Jump(names.TRANSLATED, goto=True)),
            Rule((), clear(marks.all)),  # never reached: tells who comes with another mask which bits are ours
        ),
        "hw-FORWARD": (
            *cut,
            *through_workload,
            Rule((ESTABLISHED,), Jump(names.OPEN_FORWARD, goto=True)),
            *(() if marked else (Rule((), clear(marks.accept | marks.translated)),)),  # else raw or mangle has done it
            Rule((is_clear(marks.accept),) if marked else (), Jump(names.FROM_FORWARD)),
            Rule((), Jump(names.TO_FORWARD)),
        ),
    }


def _cut(options: Options) -> Chain:
    """What is left of open connections that policy newly denies, both directions, before anything else accepts it."""
    if not options.cut:
        return ()
    deny = Reject() if options.filter_reject else DROP
    return (Rule((ConnectionMark(options.cut, options.cut),), deny, counter="drop * both cut"),)


def common_chains(where: TableId, options: Options) -> dict[str, Chain]:
    """Where an Allow and a Pass go, what IPv6 needs to exist at all (D6), and the failsafe ports."""
    table, family = where.name, where.family
    chains: dict[str, Chain] = {
        names.FAILSAFE_IN: failsafe_rules(table, "ingress", family, options),
        names.FAILSAFE_OUT: failsafe_rules(table, "egress", family, options),
        names.ALLOW: (Rule((), put(options.marks.accept)),),
        names.PASS: (Rule((), put(options.marks.passed)),),
    }
    if family == 6:
        chains[names.NEIGHBOUR_DISCOVERY] = tuple(
            Rule((Protocol(ICMPV6), IcmpType(kind)), ACCEPT) for kind in NEIGHBOUR_DISCOVERY_TYPES
        )
    return chains
