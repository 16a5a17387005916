"""The steps that every endpoint's chain is made of: the entrance, the tiers, the profiles (`enforcement.md` H-46).

Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from hostward.model.resolved import TierPolicies
from hostward.model.rules import ICMPV6, Action
from hostward.render import names
from hostward.render.marks import clear, is_clear, is_set
from hostward.render.names import Direction
from hostward.render.options import Options
from hostward.render.ruleset import (
    ACCEPT,
    DROP,
    RETURN,
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chain stands: what its verdicts are there. `direction` is the policies'."""

    interface: str
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
        """A drop, or in filter what `iptablesFilterDenyAction` says."""
        return Reject() if self.options.filter_reject and self.table == "filter" else DROP

    def drop(self, reason: str) -> str:
        """The name of a drop rule's counter."""
        return f"drop {self.interface} {self.direction} {reason}"


def entrance(place: Place, *, established: Target | None, tracked: bool = True, failsafe: bool = True) -> Iterator[Rule]:
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


def tier_rules(
    place: Place, tiers: Sequence[TierPolicies], accept: Target, *, no_track: bool, tier_end: bool
) -> Iterator[Rule]:
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


def profile_rules(place: Place, profiles: Iterable[str], accept: Target) -> Iterator[Rule]:
    """The profiles in order, then the end: nothing allowed it."""
    for name in profiles:
        yield Rule((), Jump(names.profile_chain(name, place.direction)))
        yield Rule((is_set(place.options.marks.accept),), accept)
    yield Rule((), place.deny, counter=place.drop("no-policy"))
