"""The chains that every packet enters first, failsafes, and dispatch to the endpoints (`enforcement.md` 4.4, 4.6, 4.7).

docs/chains.md draws them. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from hostward.model.failsafe import FailsafePort
from hostward.model.nets import family as family_of
from hostward.model.resolved import ANY_INTERFACE
from hostward.model.rules import ICMPV6, PortRange
from hostward.render import names, workload
from hostward.render.marks import clear, is_clear, is_set, put
from hostward.render.names import Direction
from hostward.render.options import Options
from hostward.render.policy import port_groups
from hostward.render.ruleset import (
    ACCEPT,
    RETURN,
    Chain,
    Family,
    Hook,
    IcmpType,
    Interface,
    Jump,
    Net,
    PortSet,
    Protocol,
    Rule,
    SetMark,
    State,
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
Traffic = Literal["", "fw", "wl"]


def hooks(table: TableName, options: Options) -> dict[str, Hook]:
    """Our rules in the kernel chains: one jump at the top, and at FORWARD's end the accept of what policy accepted (D11)."""
    result = {chain: Hook(first=(Rule((), Jump(f"hw-{chain}")),)) for chain in HOOKED[table]}
    if table == "filter":
        accepted = Rule((is_set(options.marks.accept),), Verdict(options.filter_allow), "hw:accepted-by-policy")
        result["FORWARD"] = Hook(result["FORWARD"].first, (accepted,))
    return result


def raw_roots(options: Options, *, untracked: bool) -> dict[str, Chain]:
    """raw is the first hook of every packet: our bits are cleared there (D15), then untracked policy judges (H-32, H-33).

    Not what workloads send: that is looked at for spoofed sources instead.
    """
    accepted = Rule((is_set(options.marks.accept),), ACCEPT)
    result = {}
    for root, dispatch in (("hw-PREROUTING", names.FROM_ENDPOINT), ("hw-OUTPUT", names.TO_ENDPOINT)):
        workloads = workload.enter(options, names.WORKLOAD_RAW) if root == "hw-PREROUTING" else ()
        judge = (Rule((), Jump(dispatch)), accepted) if untracked else ()
        result[root] = (Rule((), clear(options.marks.all)), *workloads, *judge)
    return result


def mangle_roots(options: Options, *, endpoints: bool, pre_dnat: bool) -> dict[str, Chain]:
    """preDNAT policy on entry (H-34); on the way out, what OUTPUT's DNAT rewrote, and nothing that was forwarded (H-35)."""
    marks, allow = options.marks, Verdict(options.mangle_allow)
    entry: Chain = ()
    if pre_dnat:
        accepted = Rule((is_set(marks.accept),), allow)
        entry = (Rule((ESTABLISHED,), allow), accepted, Rule((), Jump(names.FROM_ENDPOINT)), accepted)
    leave: Chain = ()
    if endpoints:
        leave = (
            Rule((is_set(marks.forwarded),), RETURN),
            Rule((is_set(marks.accept),), RETURN),
            Rule((State(("DNAT",)),), Jump(names.TO_ENDPOINT)),
        )
    return {"hw-PREROUTING": entry, "hw-POSTROUTING": leave}


def filter_roots(options: Options, *, hosts: bool) -> dict[str, Chain]:
    """INPUT, OUTPUT and FORWARD (H-36..H-38). Without a host endpoint only traffic of workload interfaces is judged."""
    from_workload = workload.enter(options, names.WORKLOAD_TO_HOST)
    through_workload = workload.enter(options, names.WORKLOAD_FORWARD, ("in", "out"))
    chains = {names.WORKLOAD_FORWARD: workload.forward_chain(options, hosts=hosts)}
    if not hosts:
        return chains | {"hw-INPUT": from_workload, "hw-FORWARD": through_workload, "hw-OUTPUT": ()}
    marks = options.marks
    accepted = Rule((is_set(marks.accept),), Verdict(options.filter_allow))
    after = () if options.filter_allow == "ACCEPT" else (accepted,)
    to_workload = [Rule((Interface("out", prefix, True),), RETURN) for prefix in options.workload_prefixes]
    return chains | {
        "hw-INPUT": (*from_workload, accepted, Rule((), Jump(names.FROM_ENDPOINT)), *after),
        "hw-OUTPUT": (
            accepted,
            *to_workload,
            Rule((State(("DNAT",), negate=True),), Jump(names.TO_ENDPOINT)),
            *after,
        ),
        "hw-FORWARD": (
            # The generation bit is raw's alone: the end of FORWARD still asks for it.
            Rule((), SetMark(marks.forwarded, marks.all & ~(marks.accept | marks.generation))),
            *through_workload,
            Rule((is_clear(marks.accept),), Jump(names.FROM_FORWARD)),
            Rule((), Jump(names.TO_FORWARD)),
        ),
    }


def host_dispatch(
    interfaces: Iterable[str],
    direction: Direction,
    traffic: Traffic,
    options: Options,
    *,
    governed: Iterable[str] = (),
    except_workloads: bool = False,
) -> Chain:
    """To each interface's chain; to the `*` endpoint's for all others but `lo` (D7) and, if said, workloads (H-52).

    `governed`: the interfaces that have an endpoint, whose own word counts even where it has none (H-7).
    """
    way: Literal["in", "out"] = "in" if direction == "ingress" else "out"
    named = sorted(name for name in interfaces if name != ANY_INTERFACE)
    rules = [Rule((Interface(way, name),), Jump(names.endpoint_chain(name, direction, traffic), goto=True)) for name in named]
    if ANY_INTERFACE in interfaces:
        silent = sorted({"lo", *governed}.difference(named, (ANY_INTERFACE,)))
        rules += [Rule((Interface(way, name),), RETURN) for name in silent]
        if except_workloads:
            rules += [Rule((Interface(way, prefix, True),), RETURN) for prefix in options.workload_prefixes]
        rules.append(Rule((), Jump(names.endpoint_chain(ANY_INTERFACE, direction, traffic), goto=True)))
    return tuple(rules)


def _failsafe(
    ports: Iterable[FailsafePort], port_side: Literal["src", "dst"], remote: Literal["src", "dst"], family: Family
) -> list[Rule]:
    by_peer: dict[tuple[int, str | None], list[PortRange]] = {}
    for item in ports:
        if item.net is None or family_of(item.net) == family:
            by_peer.setdefault((item.protocol, item.net), []).append(PortRange(item.port, item.port))
    return [
        Rule((*((Net(remote, net),) if net else ()), Protocol(protocol), PortSet(port_side, group)), ACCEPT)
        for (protocol, net), ranges in by_peer.items()
        for group in port_groups(ranges)
    ]


def failsafe_chains(table: TableName, family: Family, options: Options) -> dict[str, Chain]:
    """The failsafe ports in and out; in raw also their replies, which no state tells apart there (H-60, H-61)."""
    inbound = _failsafe(options.failsafe_in, "dst", "src", family)
    outbound = _failsafe(options.failsafe_out, "dst", "dst", family)
    if table == "raw":
        inbound += _failsafe(options.failsafe_out, "src", "src", family)
        outbound += _failsafe(options.failsafe_in, "src", "dst", family)
    return {names.FAILSAFE_IN: tuple(inbound), names.FAILSAFE_OUT: tuple(outbound)}


def common_chains(family: Family, options: Options) -> dict[str, Chain]:
    """Where an Allow and a Pass go, and what IPv6 needs to exist at all (D6)."""
    chains: dict[str, Chain] = {
        names.ALLOW: (Rule((), put(options.marks.accept)),),
        names.PASS: (Rule((), put(options.marks.passed)),),
    }
    if family == 6:
        chains[names.NEIGHBOUR_DISCOVERY] = tuple(
            Rule((Protocol(ICMPV6), IcmpType(kind)), ACCEPT) for kind in NEIGHBOUR_DISCOVERY_TYPES
        )
    return chains
