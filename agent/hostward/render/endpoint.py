"""The chains of one governing endpoint, per table (`enforcement.md` H-46, M-33..M-35; D3, D4, D6, D8).

Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from hostward.model.resolved import ResolvedEndpoint, TierPolicies
from hostward.model.rules import ICMPV6, Action
from hostward.render import names
from hostward.render.marks import clear, is_clear, is_set
from hostward.render.names import Direction
from hostward.render.options import Options
from hostward.render.ruleset import (
    ACCEPT,
    DROP,
    RETURN,
    Chain,
    Family,
    Jump,
    Mark,
    NoTrack,
    Protocol,
    Reject,
    Rule,
    State,
    TableName,
    Target,
)

ESTABLISHED = State(("RELATED", "ESTABLISHED"))
INVALID = State(("INVALID",))
Traffic = Literal["normal", "forward", "workload-forward", "pre-dnat", "untracked"]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a chain stands: what its verdicts are there."""

    endpoint: ResolvedEndpoint
    direction: Direction
    table: TableName
    family: Family
    options: Options

    @property
    def accept(self) -> Target:
        """Final in filter's INPUT and OUTPUT; elsewhere the packet goes back with its accept mark for the root chain to see."""
        final = self.table == "filter" and self.options.filter_allow == "ACCEPT"
        return ACCEPT if final else RETURN

    @property
    def deny(self) -> Target:
        return Reject() if self.options.filter_reject and self.table == "filter" else DROP

    def drop(self, reason: str) -> str:
        """The name of a drop rule's counter."""
        return f"drop {self.endpoint.interface} {self.direction} {reason}"


def _entrance(place: _Place, *, established: Target | None, tracked: bool = True, failsafe: bool = True) -> Iterator[Rule]:
    """What comes before any policy: open connections, neighbour discovery, broken packets, failsafe ports."""
    if established is not None:
        yield Rule((ESTABLISHED,), established)
    if failsafe and place.family == 6:
        yield Rule((Protocol(ICMPV6),), Jump(names.NEIGHBOUR_DISCOVERY))
    if tracked and place.options.drop_invalid:
        yield Rule((INVALID,), place.deny, counter=place.drop("invalid"))
    if failsafe:
        yield Rule((), Jump(names.FAILSAFE_IN if place.direction == "ingress" else names.FAILSAFE_OUT))


@lru_cache(maxsize=65536)
def _to_policy(chain: str, guard: tuple[Mark, ...]) -> Rule:
    """The same rule in every chain that has it, and after every change: a backend then knows it at sight."""
    return Rule(guard, Jump(chain))


def _tiers(place: _Place, tiers: Sequence[TierPolicies], accept: Target, *, no_track: bool, tier_end: bool) -> Iterator[Rule]:
    """Each tier's policies in order; the pass mark skips the rest of a tier (H-46.5)."""
    marks = place.options.marks
    accepted = Rule((is_set(marks.accept),), accept)
    untracked = Rule(accepted.matches, NoTrack())
    passing, undecided = clear(marks.passed), (is_clear(marks.passed),)
    for tier in tiers:
        keys = tier.ingress if place.direction == "ingress" else tier.egress
        if not keys:
            continue
        yield Rule((), passing)
        for position, key in enumerate(keys):
            yield _to_policy(names.policy_chain(key, place.direction), undecided if position else ())
            if no_track:
                yield untracked
            yield accepted
        if tier_end and tier.default_action is not Action.PASS:
            yield Rule(undecided, place.deny, counter=place.drop("end-of-tier"))


def _profiles(place: _Place, accept: Target) -> Iterator[Rule]:
    """The profiles in order, then the end: nothing allowed it."""
    for name in place.endpoint.profiles:
        yield Rule((), Jump(names.profile_chain(name, place.direction)))
        yield Rule((is_set(place.options.marks.accept),), accept)
    yield Rule((), place.deny, counter=place.drop("no-policy"))


def _has_direction(tiers: Sequence[TierPolicies], direction: Direction) -> bool:
    return any(tier.ingress if direction == "ingress" else tier.egress for tier in tiers)


def _normal(place: _Place) -> Iterator[Rule]:
    if place.accept == RETURN and place.table == "filter":
        established: Target = Jump(names.ALLOW, goto=True)
    else:
        established = place.accept
    yield from _entrance(place, established=established)
    if place.endpoint.isolated:
        yield Rule((), place.deny, counter=place.drop("isolated"))
        return
    yield from _tiers(place, place.endpoint.policies.normal, place.accept, no_track=False, tier_end=True)
    yield from _profiles(place, place.accept)


def _forward(place: _Place, tiers: Sequence[TierPolicies], *, closed: bool) -> Iterator[Rule]:
    """Forwarded traffic has no failsafes. `closed`: profiles and the final deny apply too (D3, hostForwardPolicy All)."""
    endpoint, marks = place.endpoint, place.options.marks
    yield from _entrance(place, established=Jump(names.ALLOW, goto=True), failsafe=False)
    if endpoint.isolated:
        yield Rule((), place.deny, counter=place.drop("isolated"))
        return
    if not closed and not tiers:
        yield Rule((), Jump(names.ALLOW, goto=True))
        return
    yield Rule((), clear(marks.accept))
    yield from _tiers(place, tiers, RETURN, no_track=False, tier_end=True)
    if closed:
        yield from _profiles(place, RETURN)


def filter_chains(endpoint: ResolvedEndpoint, family: Family, options: Options) -> dict[str, Chain]:
    """An endpoint's chains in filter: its own traffic, and forwarded traffic, from and to hosts and workloads."""
    chains = {}
    for direction in ("ingress", "egress"):
        place = _Place(endpoint, direction, "filter", family, options)
        workload = tuple(_forward(place, endpoint.policies.forward, closed=False))
        tiers = endpoint.policies.normal
        host = tuple(_forward(place, tiers, closed=True)) if options.forward_all else workload
        chains[names.endpoint_chain(endpoint.interface, direction)] = tuple(_normal(place))
        chains[names.endpoint_chain(endpoint.interface, direction, "fw")] = host
        chains[names.endpoint_chain(endpoint.interface, direction, "wl")] = workload
    return chains


def mangle_chains(endpoint: ResolvedEndpoint, family: Family, options: Options) -> dict[str, Chain]:
    """An endpoint's chains in mangle: preDNAT policy on entry if any; normal egress for what OUTPUT's DNAT has rewritten.

    Open connections don't reach the preDNAT chain: the root chain lets them through (H-34).
    """
    egress = _Place(endpoint, "egress", "mangle", family, options)
    chains = {names.endpoint_chain(endpoint.interface, "egress"): tuple(_normal(egress))}
    if has_pre_dnat(endpoint):
        place = _Place(endpoint, "ingress", "mangle", family, options)
        rules = list(_entrance(place, established=None))
        rules += _tiers(place, endpoint.policies.pre_dnat, RETURN, no_track=False, tier_end=False)
        chains[names.endpoint_chain(endpoint.interface, "ingress")] = tuple(rules)
    return chains


def raw_chains(endpoint: ResolvedEndpoint, family: Family, options: Options) -> dict[str, Chain]:
    """An endpoint's chains in raw, if it has untracked policy: what is allowed is left out of connection tracking."""
    if not has_untracked(endpoint):
        return {}
    chains = {}
    for direction in ("ingress", "egress"):
        place = _Place(endpoint, direction, "raw", family, options)
        rules = list(_entrance(place, established=None, tracked=False))
        rules += _tiers(place, endpoint.policies.untracked, RETURN, no_track=True, tier_end=False)
        chains[names.endpoint_chain(endpoint.interface, direction)] = tuple(rules)
    return chains


def has_pre_dnat(endpoint: ResolvedEndpoint) -> bool:
    """Whether mangle judges what enters by this endpoint."""
    return not endpoint.isolated and _has_direction(endpoint.policies.pre_dnat, "ingress")


def has_untracked(endpoint: ResolvedEndpoint) -> bool:
    """Whether raw judges this endpoint's traffic."""
    return not endpoint.isolated and bool(endpoint.policies.untracked)
