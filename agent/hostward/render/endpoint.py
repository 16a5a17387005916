"""The chains of one governing host endpoint, per table (`statements.md` H-46, M-33..M-35; D3, D4, D6, D8).

Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal

from msgspec import Struct

from hostward.model.resolved import ResolvedEndpoint, TierPolicies
from hostward.render import names
from hostward.render.groups import Group, Tier, profiles_of, tiers_of
from hostward.render.marks import clear
from hostward.render.names import Direction
from hostward.render.options import Options
from hostward.render.ruleset import RETURN, Chain, Family, Jump, Rule, TableName
from hostward.render.steps import Judges, Place, compact, ended, entrance, profile_rules, tier_rules, unmarked

Traffic = Literal["", "fw", "wl"]


class HostLists(Struct, frozen=True):
    """What a host endpoint's packets of one direction go through, by the traffic that is judged (M-33), cut into groups."""

    endpoint: ResolvedEndpoint
    direction: Direction
    untracked: tuple[Tier, ...] = ()
    pre_dnat: tuple[Tier, ...] = ()
    normal: tuple[Tier, ...] = ()
    forward: tuple[Tier, ...] = ()
    profiles: tuple[Group, ...] = ()

    @classmethod
    def of(cls, endpoint: ResolvedEndpoint, direction: Direction) -> HostLists:
        """An endpoint's lists; one that isn't understood has none (D4)."""
        if endpoint.isolated:
            return cls(endpoint, direction)
        lists = endpoint.policies
        return cls(
            endpoint,
            direction,
            tiers_of(lists.untracked, direction),
            tiers_of(lists.pre_dnat, direction),
            tiers_of(lists.normal, direction),
            tiers_of(lists.forward, direction),
            profiles_of(endpoint, direction),
        )

    def groups(self) -> frozenset[Group]:
        """All groups in them."""
        tiers = (*self.untracked, *self.pre_dnat, *self.normal, *self.forward)
        return frozenset((*(group for tier in tiers for group in tier.groups), *self.profiles))


def _place(lists: HostLists, table: TableName, family: Family, options: Options) -> Place:
    return Place(lists.endpoint.interface, lists.direction, table, family, options)


def _normal(place: Place, lists: HostLists, judges: Judges) -> Iterator[Rule]:
    yield from entrance(place, established=place.accept)
    if lists.endpoint.isolated:
        yield Rule((), place.deny, counter=place.drop("isolated"))
        return
    tiers = tier_rules(place, lists.normal, judges, place.accept, tier_end=True)
    profiles = profile_rules(place, lists.profiles, judges, place.accept)
    yield from unmarked(chain(tiers, profiles), place.options.marks, place.options.marks.accept)


def _forward(place: Place, lists: HostLists, judges: Judges, traffic: Traffic, *, closed: bool) -> Iterator[Rule]:
    """Forwarded traffic has no failsafes. `closed`: profiles and the final deny apply too (D3, hostForwardPolicy All).

    Open connections don't get here between host interfaces. Packets of workloads are allowed if nobody denies them: their
    accept mark is set before the workload's side judges.
    """
    yield from entrance(place, established=RETURN if traffic == "wl" else None, failsafe=False)
    if lists.endpoint.isolated:
        yield Rule((), place.deny, counter=place.drop("isolated"))
        return
    if not closed and not lists.endpoint.policies.forward:
        if traffic != "wl":
            yield Rule((), Jump(names.ALLOW, goto=True))
        return
    rules = tier_rules(place, lists.normal if closed else lists.forward, judges, RETURN, tier_end=True)
    if closed:
        rules = chain(rules, profile_rules(place, lists.profiles, judges, RETURN))
    marks = place.options.marks
    if place.direction == "egress":  # the other side's word, which doesn't stand where this one leaves it undecided
        yield Rule((), clear(marks.accept))
    elif traffic == "wl":  # else the root chain has cleared it
        rules = unmarked(rules, marks, marks.accept)
    yield from rules


def _chain(rules: Iterator[Rule], options: Options) -> Chain:
    return compact(ended(rules), options.marks)


def filter_chains(lists: HostLists, family: Family, options: Options, judges: Judges) -> dict[str, Chain]:
    """An endpoint's chains in filter: its own traffic, and forwarded traffic, with hosts and with workloads."""
    place = _place(lists, "filter", family, options)
    made: list[tuple[Traffic, Iterator[Rule]]] = [
        ("", _normal(place, lists, judges)),
        ("fw", _forward(place, lists, judges, "fw", closed=options.forward_all)),
    ]
    if speaks_of_workloads(lists.endpoint):
        made.append(("wl", _forward(place, lists, judges, "wl", closed=False)))
    return {names.endpoint_chain(place.interface, place.direction, traffic): _chain(rules, options) for traffic, rules in made}


def mangle_chains(lists: HostLists, family: Family, options: Options, judges: Judges) -> dict[str, Chain]:
    """An endpoint's chains in mangle: preDNAT policy on entry if any; normal egress for what OUTPUT's DNAT has rewritten.

    Open connections don't reach the preDNAT chain: the root chain lets them through (H-34).
    """
    place = _place(lists, "mangle", family, options)
    if lists.direction == "egress":
        rules = _normal(place, lists, judges)
    elif lists.pre_dnat:
        rules = _pre_dnat(place, lists, judges)
    else:
        return {}
    return {names.endpoint_chain(place.interface, place.direction): _chain(rules, options)}


def _pre_dnat(place: Place, lists: HostLists, judges: Judges) -> Iterator[Rule]:
    yield from entrance(place, established=None)
    yield from tier_rules(place, lists.pre_dnat, judges, RETURN, tier_end=False)


def raw_chains(lists: HostLists, family: Family, options: Options, judges: Judges) -> dict[str, Chain]:
    """An endpoint's chains in raw, if it has untracked policy: what is allowed is left out of connection tracking."""
    if not has_untracked(lists.endpoint):
        return {}
    place = _place(lists, "raw", family, options)
    return {names.endpoint_chain(place.interface, place.direction): _chain(_untracked(place, lists, judges), options)}


def _untracked(place: Place, lists: HostLists, judges: Judges) -> Iterator[Rule]:
    yield from entrance(place, established=None, tracked=False)
    yield from tier_rules(place, lists.untracked, judges, RETURN, tier_end=False)


def _has_direction(tiers: Sequence[TierPolicies], direction: Direction) -> bool:
    return any(tier.ingress if direction == "ingress" else tier.egress for tier in tiers)


def has_pre_dnat(endpoint: ResolvedEndpoint) -> bool:
    """Whether mangle judges what enters by this endpoint."""
    return not endpoint.isolated and _has_direction(endpoint.policies.pre_dnat, "ingress")


def has_untracked(endpoint: ResolvedEndpoint) -> bool:
    """Whether raw judges this endpoint's traffic."""
    return not endpoint.isolated and bool(endpoint.policies.untracked)


def speaks_of_workloads(endpoint: ResolvedEndpoint) -> bool:
    """Whether this endpoint may deny what is forwarded from or to workloads. Broken packets their own side denies."""
    return endpoint.isolated or bool(endpoint.policies.forward)
