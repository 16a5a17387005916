"""The chains of workload interfaces: one endpoint's, and what surrounds all of them (`statements.md` H-32, H-37, H-39, H-46).

A workload's chains judge and come back with the accept mark, for the other side of the packet to be judged too (M-30). Without
an endpoint of its own a workload interface is cut off (H-52). Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final

from msgspec import Struct

from hostward.model.resolved import ResolvedWorkload
from hostward.model.rules import ICMPV6, UDP
from hostward.render import names
from hostward.render.dispatch import Dispatch, Way, by_interface
from hostward.render.groups import Group, Tier, profiles_of, tiers_of
from hostward.render.marks import is_clear, put
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
    Target,
    Verdict,
)
from hostward.render.steps import ESTABLISHED, Judges, Place, compact, ended, entrance, profile_rules, tier_rules, unmarked

IPIP: Final = 4
TO_HOST_TYPES: Final = (130, 131, 132, 133, 135, 136)
"""ICMPv6 that a workload needs of the host to have a link at all (H-39)."""
_WAYS: Final[tuple[tuple[Direction, Way, str], ...]] = (
    ("egress", "in", names.FROM_WORKLOAD),
    ("ingress", "out", names.TO_WORKLOAD),
)


class WorkloadLists(Struct, frozen=True):
    """What a workload's packets of one direction go through, cut into groups."""

    workload: ResolvedWorkload
    direction: Direction
    tiers: tuple[Tier, ...] = ()
    profiles: tuple[Group, ...] = ()

    @classmethod
    def of(cls, workload: ResolvedWorkload, direction: Direction) -> WorkloadLists:
        """A workload's lists; one that isn't understood has none (D4)."""
        if workload.isolated:
            return cls(workload, direction)
        return cls(workload, direction, tiers_of(workload.tiers, direction), profiles_of(workload, direction))

    def groups(self) -> frozenset[Group]:
        """All groups in them."""
        return frozenset((*(group for tier in self.tiers for group in tier.groups), *self.profiles))


def workload_chains(lists: WorkloadLists, family: Family, options: Options, judges: Judges) -> dict[str, Chain]:
    """A workload's chain of one direction: what it sends is judged by egress policies, what it is sent by ingress policies."""
    place = Place(lists.workload.interface, lists.direction, "filter", family, options)
    rules = _judged(place, lists, judges)
    return {names.workload_chain(place.interface, place.direction): compact(ended(rules), options.marks)}


def _judged(place: Place, lists: WorkloadLists, judges: Judges) -> Iterator[Rule]:
    if lists.workload.isolated:  # open connections too, unlike on a host's interface: no failsafe hangs on them (H-48)
        yield Rule((), place.deny, counter=place.drop("isolated"))
        return
    yield from entrance(place, established=RETURN, failsafe=False)
    if place.direction == "egress":
        yield from _no_tunnels(place)
    judged = chain(
        tier_rules(place, lists.tiers, judges, RETURN, tier_end=True), profile_rules(place, lists.profiles, judges, RETURN)
    )
    # Sent on to a host's interface, it isn't to be taken for a packet that nat OUTPUT rewrote (H-35).
    marks = place.options.marks
    yield from unmarked(judged, marks, marks.accept | (marks.translated if place.direction == "egress" else 0))


def _no_tunnels(place: Place) -> Iterator[Rule]:
    """A workload can't send packets into the cluster's own tunnels (H-46.4)."""
    options = place.options
    if not options.allow_vxlan:
        port = PortSet("dst", ((options.vxlan_port, options.vxlan_port),))
        yield Rule((Protocol(UDP), port), place.deny, counter=place.drop("tunnel"))
    if not options.allow_ipip:
        yield Rule((Protocol(IPIP),), place.deny, counter=place.drop("tunnel"))


def workload_dispatches(options: Options) -> tuple[tuple[Direction, Dispatch], ...]:
    """Dispatch to the workloads' chains; what is no known workload's is cut off (H-52)."""
    return tuple((direction, Dispatch(root, way, (_unknown(direction, options),))) for direction, way, root in _WAYS)


def _unknown(direction: Direction, options: Options) -> Rule:
    return Rule((), Place("*", direction, "filter", 4, options).deny, counter=f"drop * {direction} unknown-workload")


def to_host_chains(family: Family, options: Options) -> dict[str, Chain]:
    """What the workloads' traffic to this host meets (H-39)."""
    allow = Verdict(options.filter_allow)
    to_host = Rule((), Verdict(options.to_host), counter="drop * egress to-host" if options.to_host == "DROP" else "")
    answers = () if to_host.target == allow else (Rule((ESTABLISHED,), allow),)
    judged = (Rule((), Jump(names.FROM_WORKLOAD)), *answers, to_host)
    if family == 4:
        return {names.WORKLOAD_TO_HOST: judged}
    link = tuple(Rule((Protocol(ICMPV6), IcmpType(kind)), allow) for kind in TO_HOST_TYPES)
    return {
        names.WORKLOAD_LINK: (*link, *judged),
        names.WORKLOAD_TO_HOST: (Rule((Protocol(ICMPV6),), Jump(names.WORKLOAD_LINK, goto=True)), *judged),
    }


def through(options: Options, *, hosts: bool) -> Chain:
    """What leads in FORWARD from and to workloads (H-37). What comes back from a workload's chain is allowed by it.

    `hosts`: there are hosts' `applyOnForward` policies, which judge too, in chains around those.
    """
    if hosts:
        sent, got = Jump(names.FORWARD_FROM_WORKLOAD, goto=True), Jump(names.FORWARD_TO_WORKLOAD, goto=True)
    else:
        sent, got = Jump(names.FROM_WORKLOAD), Jump(names.TO_WORKLOAD, goto=True)
    return (*every(options, "in", sent), *every(options, "out", got))


def forward_chains(options: Options, *, of_workloads: bool, before: bool) -> dict[str, Chain]:
    """Forwarding from and to workloads with hosts' `applyOnForward` policies around the workloads' own. `of_workloads`: `*` has
    such for workloads' interfaces, too. `before`: hosts' policies may have spoken before, in raw or mangle.

    The accept mark says what the last one came to: it is set once for all that let the packet go back, as they do with open
    connections; who judges clears it. What goes to a workload and isn't judged any more after that doesn't come back here.
    """
    accept = options.marks.accept
    into = Rule((is_clear(accept),) if before else (), Jump(names.FROM_WORKLOAD_FORWARD))
    marked, out = Rule((), put(accept)), Rule((), Jump(names.TO_WORKLOAD_FORWARD))
    to_workload = Jump(names.TO_WORKLOAD, goto=not of_workloads)
    return {
        names.FORWARD_FROM_WORKLOAD: (
            *((into,) if of_workloads else ()),
            marked,
            Rule((), Jump(names.FROM_WORKLOAD)),
            *every(options, "out", to_workload),
            out,
        ),
        names.FORWARD_TO_WORKLOAD: (into, marked, Rule((), to_workload), *((out,) if of_workloads else ())),
    }


def lent(workload: ResolvedWorkload, family: Family, options: Options) -> Chain:
    """What lets a workload send from addresses that aren't routed to it: setting and endpoint both (H-73)."""
    if not options.allow_spoofing or workload.isolated:
        return ()
    nets = of_family(workload.spoofable, family)
    return tuple(Rule((Interface("in", workload.interface), Net("src", net)), RETURN) for net in nets)


def raw_chain(lent_to: Mapping[str, Chain]) -> Chain:
    """For what a workload sends from an address that isn't routed to it (H-32): dropped, but for what is lent to it."""
    lending = (rule for _, rules in sorted(lent_to.items()) for rule in rules)
    return (*lending, Rule((), Verdict("DROP"), counter="drop * egress spoofed"))


def spoofing(options: Options) -> Chain:
    """What leads there: all that others pay is one rule."""
    return tuple(
        Rule((Interface("in", prefix, prefix=True), ReversePath()), Jump(names.WORKLOAD_RAW))
        for prefix in options.workload_prefixes
    )


def every(options: Options, way: Way, target: Target) -> Chain:
    """What is done with all packets that come from workload interfaces, or go to one."""
    return tuple(by_interface(way, prefix, target, prefix=True) for prefix in options.workload_prefixes)
