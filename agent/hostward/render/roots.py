"""The chains that every packet enters first, and those that stay the same whatever governs (`enforcement.md` 4.4, 4.6).

docs/chains.md draws them. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hostward.model.rules import ICMPV6
from hostward.render import names, workload
from hostward.render.dispatch import by_interface
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
    NoTrack,
    Protocol,
    Reject,
    Rule,
    State,
    TableId,
    TableName,
    Verdict,
)
from hostward.render.steps import ESTABLISHED

NEIGHBOUR_DISCOVERY_TYPES: Final = (130, 131, 132, 133, 134, 135, 136, 143)
HOOKED: Final[Mapping[TableName, tuple[str, ...]]] = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}


def hooks(table: TableName, options: Options) -> dict[str, Hook]:
    """Our rules in the kernel chains: one jump at the top, and at FORWARD's end the accept of what policy accepted (D11)."""
    result = {chain: Hook(first=(Rule((), Jump(f"hw-{chain}")),)) for chain in HOOKED[table]}
    if table == "filter":
        accepted = Rule((is_set(options.marks.accept),), Verdict(options.filter_allow), "hw:accepted-by-policy")
        result["FORWARD"] = Hook(result["FORWARD"].first, (accepted,))
    return result


@dataclass(frozen=True, slots=True)
class Needs:
    """What the root chains are for: whether any host interface is governed, has untracked policy, has preDNAT policy, and has
    a say in the traffic of workloads; and whether the endpoint of all other interfaces, `*`, has that."""

    hosts: bool = False
    untracked: bool = False
    pre_dnat: bool = False
    of_workloads: bool = False
    any_workloads: bool = False


def root_chains(table: TableName, options: Options, needs: Needs) -> dict[str, Chain]:
    """The root chains of a table, and those beside them that stay the same whatever interfaces there are."""
    match table:
        case "raw":
            return _raw(options, needs)
        case "mangle":
            return _mangle(options, needs)
        case "filter":
            return _filter(options, needs)


def _raw(options: Options, needs: Needs) -> dict[str, Chain]:
    """raw is the first hook of every packet: our bits are cleared there (D15), then untracked policy judges (H-32, H-33).

    Not what workloads send: that is looked at for spoofed sources instead.
    """
    accepted = is_set(options.marks.accept)
    result = {}
    for root, dispatch in (("hw-PREROUTING", names.FROM_ENDPOINT), ("hw-OUTPUT", names.TO_ENDPOINT)):
        workloads = workload.enter(options, "in", names.WORKLOAD_RAW) if root == "hw-PREROUTING" else ()
        judge: Chain = ()
        if needs.untracked:
            judge = (Rule((), Jump(dispatch)), Rule((accepted,), NoTrack()), Rule((accepted,), ACCEPT))
        result[root] = (Rule((), clear(options.marks.all)), *workloads, *judge)
    return result


def _mangle(options: Options, needs: Needs) -> dict[str, Chain]:
    """preDNAT policy on entry (H-34); on the way out what nat OUTPUT gave another destination, and nothing else (H-35)."""
    marks, allow = options.marks, Verdict(options.mangle_allow)
    accepted = (Rule((is_set(marks.accept),), allow),)
    entry: Chain = ()
    if needs.pre_dnat:
        before, after = accepted if needs.untracked else (), accepted if allow != RETURN else ()
        entry = (Rule((ESTABLISHED,), allow), *before, Rule((), Jump(names.FROM_ENDPOINT)), *after)
    leave = (Rule((is_set(marks.translated),), Jump(names.TO_ENDPOINT)),) if needs.hosts else ()
    return {"hw-PREROUTING": entry, "hw-POSTROUTING": leave}


def _filter(options: Options, needs: Needs) -> dict[str, Chain]:
    """INPUT, OUTPUT and FORWARD (H-36..H-38). Without a host endpoint only traffic of workload interfaces is judged.

    What is forwarded on an open connection between host interfaces is looked at once, for both its sides.
    """
    from_workload = workload.enter(options, "in", names.WORKLOAD_TO_HOST)
    through_workload = (
        *workload.enter(options, "in", names.FORWARD_FROM_WORKLOAD),
        *workload.enter(options, "out", names.FORWARD_TO_WORKLOAD),
    )
    marked = needs.untracked or needs.pre_dnat
    hosts = workload.HostsWord(needs.of_workloads, needs.any_workloads, marked)
    chains = workload.forward_chains(options, hosts)
    cut = _cut(options)
    if not needs.hosts:
        return chains | {"hw-INPUT": (*cut, *from_workload), "hw-FORWARD": (*cut, *through_workload), "hw-OUTPUT": cut}
    marks = options.marks
    accepted = (Rule((is_set(marks.accept),), Verdict(options.filter_allow)),)
    to_workload = (by_interface("out", prefix, RETURN, prefix=True) for prefix in options.workload_prefixes)
    return chains | {
        names.TRANSLATED: (Rule((), put(marks.translated)),),
        "hw-INPUT": (*cut, *from_workload, *(accepted if marked else ()), Rule((), Jump(names.FROM_ENDPOINT))),
        "hw-OUTPUT": (
            *cut,
            *(accepted if needs.untracked else ()),
            # Which interface such a packet leaves by isn't known here yet: POSTROUTING judges it.
            Rule((State(("DNAT",)),), Jump(names.TRANSLATED, goto=True)),
            *to_workload,
            Rule((), Jump(names.TO_ENDPOINT)),
        ),
        "hw-FORWARD": (
            *cut,
            *through_workload,
            Rule((ESTABLISHED,), Jump(names.OPEN_FORWARD, goto=True)),
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
