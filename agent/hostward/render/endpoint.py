"""The chains of one governing host endpoint, per table (`enforcement.md` H-46, M-33..M-35; D3, D4, D6, D8).

Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hostward.model.resolved import ResolvedEndpoint, TierPolicies
from hostward.render import names
from hostward.render.marks import clear
from hostward.render.names import Direction
from hostward.render.options import Options
from hostward.render.ruleset import RETURN, Chain, Family, Jump, Rule, Target
from hostward.render.steps import Place, entrance, profile_rules, tier_rules


def _has_direction(tiers: Sequence[TierPolicies], direction: Direction) -> bool:
    return any(tier.ingress if direction == "ingress" else tier.egress for tier in tiers)


def _normal(place: Place, endpoint: ResolvedEndpoint) -> Iterator[Rule]:
    if place.accept == RETURN and place.table == "filter":
        established: Target = Jump(names.ALLOW, goto=True)
    else:
        established = place.accept
    yield from entrance(place, established=established)
    if endpoint.isolated:
        yield Rule((), place.deny, counter=place.drop("isolated"))
        return
    yield from tier_rules(place, endpoint.policies.normal, place.accept, no_track=False, tier_end=True)
    yield from profile_rules(place, endpoint.profiles, place.accept)


def _forward(place: Place, endpoint: ResolvedEndpoint, tiers: Sequence[TierPolicies], *, closed: bool) -> Iterator[Rule]:
    """Forwarded traffic has no failsafes. `closed`: profiles and the final deny apply too (D3, hostForwardPolicy All)."""
    yield from entrance(place, established=Jump(names.ALLOW, goto=True), failsafe=False)
    if endpoint.isolated:
        yield Rule((), place.deny, counter=place.drop("isolated"))
        return
    if not closed and not tiers:
        yield Rule((), Jump(names.ALLOW, goto=True))
        return
    yield Rule((), clear(place.options.marks.accept))
    yield from tier_rules(place, tiers, RETURN, no_track=False, tier_end=True)
    if closed:
        yield from profile_rules(place, endpoint.profiles, RETURN)


def filter_chains(endpoint: ResolvedEndpoint, family: Family, options: Options) -> dict[str, Chain]:
    """An endpoint's chains in filter: its own traffic, and forwarded traffic, from and to hosts and workloads."""
    chains = {}
    for direction in ("ingress", "egress"):
        place = Place(endpoint.interface, direction, "filter", family, options)
        workload = tuple(_forward(place, endpoint, endpoint.policies.forward, closed=False))
        tiers = endpoint.policies.normal
        host = tuple(_forward(place, endpoint, tiers, closed=True)) if options.forward_all else workload
        chains[names.endpoint_chain(endpoint.interface, direction)] = tuple(_normal(place, endpoint))
        chains[names.endpoint_chain(endpoint.interface, direction, "fw")] = host
        chains[names.endpoint_chain(endpoint.interface, direction, "wl")] = workload
    return chains


def mangle_chains(endpoint: ResolvedEndpoint, family: Family, options: Options) -> dict[str, Chain]:
    """An endpoint's chains in mangle: preDNAT policy on entry if any; normal egress for what OUTPUT's DNAT has rewritten.

    Open connections don't reach the preDNAT chain: the root chain lets them through (H-34).
    """
    egress = Place(endpoint.interface, "egress", "mangle", family, options)
    chains = {names.endpoint_chain(endpoint.interface, "egress"): tuple(_normal(egress, endpoint))}
    if has_pre_dnat(endpoint):
        place = Place(endpoint.interface, "ingress", "mangle", family, options)
        rules = list(entrance(place, established=None))
        rules += tier_rules(place, endpoint.policies.pre_dnat, RETURN, no_track=False, tier_end=False)
        chains[names.endpoint_chain(endpoint.interface, "ingress")] = tuple(rules)
    return chains


def raw_chains(endpoint: ResolvedEndpoint, family: Family, options: Options) -> dict[str, Chain]:
    """An endpoint's chains in raw, if it has untracked policy: what is allowed is left out of connection tracking."""
    if not has_untracked(endpoint):
        return {}
    chains = {}
    for direction in ("ingress", "egress"):
        place = Place(endpoint.interface, direction, "raw", family, options)
        rules = list(entrance(place, established=None, tracked=False))
        rules += tier_rules(place, endpoint.policies.untracked, RETURN, no_track=True, tier_end=False)
        chains[names.endpoint_chain(endpoint.interface, direction)] = tuple(rules)
    return chains


def has_pre_dnat(endpoint: ResolvedEndpoint) -> bool:
    """Whether mangle judges what enters by this endpoint."""
    return not endpoint.isolated and _has_direction(endpoint.policies.pre_dnat, "ingress")


def has_untracked(endpoint: ResolvedEndpoint) -> bool:
    """Whether raw judges this endpoint's traffic."""
    return not endpoint.isolated and bool(endpoint.policies.untracked)
