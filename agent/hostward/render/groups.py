"""Groups: neighbouring policies of a list in one chain, shared by all endpoints that have them next to each other (H-49).

Where a list is cut depends on the policies' names alone: one that comes or goes changes the group that it is in, and all lists
that have the same neighbours have the same groups. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final
from zlib import crc32

from msgspec import Struct

from hostward.model.identity import Identified
from hostward.model.keys import ResourceKey
from hostward.model.resolved import ResolvedEndpoint, ResolvedWorkload, TierPolicies
from hostward.model.rules import Action
from hostward.render import names
from hostward.render.bodies import Body, joint
from hostward.render.marks import Marks, any_set
from hostward.render.names import Direction
from hostward.render.ruleset import RETURN, Chain, Jump, Match, Protocol, Rule

ABOUT: Final = 12
"""So many policies are in a group on average: as many as a change of one rewrites, and as many endpoints' rules it spares."""
MOST: Final = 24
INLINED: Final = 2
"""A policy of so few rules is cheaper to go through than to jump to, even where it matches nothing."""


class Group(Identified, frozen=True):
    """Policies by the names of their own chains, and the chain that an endpoint's chain jumps to for them.

    Of a single policy (or profile) that is its own chain.
    """

    chain: str
    members: tuple[str, ...]

    def _identity(self) -> object:
        return self.chain


class Tier(Struct, frozen=True):
    """One tier of an endpoint's list of one direction. `denies`: what none of its policies decides is denied (M-28)."""

    groups: tuple[Group, ...]
    denies: bool


@lru_cache(maxsize=16384)
def _ends_group(name: str) -> bool:
    return crc32(name.encode("utf-8", "surrogatepass")) % ABOUT == 0


@lru_cache(maxsize=1024)
def groups_of(keys: tuple[ResourceKey, ...], direction: Direction) -> tuple[Group, ...]:
    """A list of policies cut into groups; equal lists are the same object."""
    chunks: list[list[str]] = [[]]
    for key in keys:
        chunks[-1].append(names.policy_chain(key, direction))
        if _ends_group(key.name) or len(chunks[-1]) == MOST:
            chunks.append([])
    return tuple(_group(tuple(chunk), direction) for chunk in chunks if chunk)


def _group(members: tuple[str, ...], direction: Direction) -> Group:
    return Group(members[0] if len(members) == 1 else names.group_chain(members, direction), members)


def tiers_of(tiers: Iterable[TierPolicies], direction: Direction) -> tuple[Tier, ...]:
    """The tiers that have a policy for a direction."""
    lists = ((tier, tier.ingress if direction == "ingress" else tier.egress) for tier in tiers)
    return tuple(Tier(groups_of(keys, direction), tier.default_action is not Action.PASS) for tier, keys in lists if keys)


def profiles_of(endpoint: ResolvedEndpoint | ResolvedWorkload, direction: Direction) -> tuple[Group, ...]:
    """An endpoint's profiles, each by itself: their names are no list of anybody's."""
    chains = (names.profile_chain(name, direction) for name in endpoint.profiles)
    return tuple(Group(chain, (chain,)) for chain in chains)


@lru_cache(maxsize=8192)
def jump(chain: str, protocol: int | None, guard: tuple[Match, ...] = ()) -> Rule:
    """The same rule wherever and whenever it is needed. The packet's header is looked at before anything else (D10)."""
    return Rule((*_only(protocol), *guard), Jump(chain))


def _only(protocol: int | None) -> tuple[Match, ...]:
    return () if protocol is None else (Protocol(protocol),)


@lru_cache(maxsize=1024)
def _leave_if_decided(protocol: int | None, decided: Match) -> Rule:
    return Rule((*_only(protocol), decided), RETURN)


def group_chain(bodies: Sequence[tuple[str, Body]], marks: Marks) -> Chain:
    """The policies of a group in order: small ones as they are, others by a jump for the packets that they can match.

    An Allow or Pass that stands here ends the group by its goto; one behind a jump has to be asked for.
    """
    parts = [(chain, body, body.traits) for chain, body in bodies if body.traits is not None]
    all_need = joint([traits for _, _, traits in parts]).protocol if parts else None
    rules: list[Rule] = []
    for position, (chain, body, traits) in enumerate(parts, 1):
        if len(body.rules) <= INLINED:
            rules += body.rules
            continue
        guard = traits.protocol if all_need is None else None  # else the jump to the group has it
        rules.append(jump(chain, guard))
        bits = marks.accept * traits.accepts | marks.passed * traits.passes
        if bits and position < len(parts):
            rules.append(_leave_if_decided(guard, any_set(bits)))
    return tuple(rules)
