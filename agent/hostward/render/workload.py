"""The chains of workload interfaces: one endpoint's, and what surrounds all of them (`enforcement.md` H-32, H-37, H-39, H-46).

A workload's chains judge and come back with the accept mark, for the other side of the packet to be judged too (M-30). Without
an endpoint of its own a workload interface is cut off (H-52). Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from hostward.model.resolved import ResolvedWorkload
from hostward.model.rules import ICMPV6, UDP
from hostward.render import names
from hostward.render.dispatch import Way, tree
from hostward.render.marks import clear, is_clear
from hostward.render.names import Direction
from hostward.render.options import Options
from hostward.render.policy import of_family
from hostward.render.ruleset import (
    RETURN,
    Chain,
    Family,
    IcmpType,
    Interface,
    Jump,
    Net,
    PortSet,
    Protocol,
    ReversePath,
    Rule,
    Verdict,
)
from hostward.render.steps import ESTABLISHED, Place, entrance, profile_rules, tier_rules

IPIP: Final = 4
TO_HOST_TYPES: Final = (130, 131, 132, 133, 135, 136)
"""ICMPv6 that a workload needs of the host to have a link at all (H-39)."""
_WAYS: Final[tuple[tuple[Direction, Way, str], ...]] = (
    ("egress", "in", names.FROM_WORKLOAD),
    ("ingress", "out", names.TO_WORKLOAD),
)


def filter_chains(workload: ResolvedWorkload, family: Family, options: Options) -> dict[str, Chain]:
    """A workload's two chains: what it sends is judged by egress policies, what it is sent by ingress policies."""
    return {
        names.workload_chain(workload.interface, direction): tuple(_judged(workload, direction, family, options))
        for direction, _, _ in _WAYS
    }


def _judged(workload: ResolvedWorkload, direction: Direction, family: Family, options: Options) -> Iterator[Rule]:
    place = Place(workload.interface, direction, "filter", family, options)
    if workload.isolated:  # open connections too, unlike on a host's interface: no failsafe hangs on them (H-48)
        yield Rule((), place.deny, counter=place.drop("isolated"))
        return
    yield from entrance(place, established=Jump(names.ALLOW, goto=True), failsafe=False)
    if direction == "egress":
        yield from _no_tunnels(place)
    yield Rule((), clear(options.marks.accept))
    yield from tier_rules(place, workload.tiers, RETURN, no_track=False, tier_end=True)
    yield from profile_rules(place, workload.profiles, RETURN)


def _no_tunnels(place: Place) -> Iterator[Rule]:
    """A workload can't send packets into the cluster's own tunnels (H-46.4)."""
    options = place.options
    if not options.allow_vxlan:
        port = PortSet("dst", ((options.vxlan_port, options.vxlan_port),))
        yield Rule((Protocol(UDP), port), place.deny, counter=place.drop("tunnel"))
    if not options.allow_ipip:
        yield Rule((Protocol(IPIP),), place.deny, counter=place.drop("tunnel"))


def shared_chains(workloads: Mapping[str, ResolvedWorkload], family: Family, options: Options) -> dict[str, Chain]:
    """Dispatch to the workloads' chains, and what their traffic to this host meets."""
    chains: dict[str, Chain] = {}
    for direction, way, root in _WAYS:
        targets = {interface: names.workload_chain(interface, direction) for interface in workloads}
        unknown = Rule(
            (), Place("*", direction, "filter", family, options).deny, counter=f"drop * {direction} unknown-workload"
        )
        chains |= tree(root, way, targets, (unknown,))
    link: Iterable[int] = TO_HOST_TYPES if family == 6 else ()
    allow = Verdict(options.filter_allow)
    chains[names.WORKLOAD_TO_HOST] = (
        *(Rule((Protocol(ICMPV6), IcmpType(kind)), allow) for kind in link),
        Rule((), Jump(names.FROM_WORKLOAD)),
        Rule((ESTABLISHED,), allow),
        Rule((), Verdict(options.to_host), counter="drop * egress to-host" if options.to_host == "DROP" else ""),
    )
    return chains


def forward_chain(options: Options, *, hosts: bool) -> Chain:
    """Forwarding from or to workloads: `applyOnForward` policies of the host's sides around the workloads' own (H-37)."""
    judged = tuple(
        Rule((Interface(way, prefix, True),), Jump(root)) for prefix in options.workload_prefixes for _, way, root in _WAYS
    )
    if not hosts:
        return judged
    before = Rule((is_clear(options.marks.accept),), Jump(names.FROM_WORKLOAD_FORWARD))
    return (before, *judged, Rule((), Jump(names.TO_WORKLOAD_FORWARD)))


def raw_chain(workloads: Mapping[str, ResolvedWorkload], family: Family, options: Options) -> Chain:
    """No workload sends from an address that isn't routed to it (H-32), but where setting and endpoint allow it (H-73)."""
    spoofing = [
        Rule((Interface("in", interface), Net("src", net)), RETURN)
        for interface, workload in sorted(workloads.items())
        if options.allow_spoofing and not workload.isolated
        for net in of_family(workload.spoofable, family)
    ]
    return (*spoofing, Rule((ReversePath(),), Verdict("DROP"), counter="drop * egress spoofed"))


def enter(options: Options, chain: str, ways: Iterable[Way] = ("in",)) -> tuple[Rule, ...]:
    """The rules of a root chain by which packets of workload interfaces leave it for a chain of their own."""
    return tuple(
        Rule((Interface(way, prefix, True),), Jump(chain, goto=True)) for prefix in options.workload_prefixes for way in ways
    )
