"""The steps that every endpoint's chain is made of: the entrance, the tiers, the profiles (`statements.md` H-46).

Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from hostward.model.rules import ICMPV6
from hostward.render import names
from hostward.render.bodies import Traits
from hostward.render.failsafes import failsafe_rules
from hostward.render.groups import Group, Tier, jump
from hostward.render.marks import Marks, clear, is_clear, is_set
from hostward.render.names import Direction
from hostward.render.options import Options
from hostward.render.ruleset import (
    ACCEPT,
    DROP,
    RETURN,
    Chain,
    Family,
    Jump,
    Match,
    Reject,
    Rule,
    State,
    TableName,
    Target,
    Verdict,
)

ESTABLISHED = State(("RELATED", "ESTABLISHED"))
INVALID = State(("INVALID",))
DNATED = State(("DNAT",))


class Place(Struct, frozen=True):
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

    @property
    def has_failsafes(self) -> bool:
        """Whether any port is always open here."""
        return bool(failsafe_rules(self.table, self.direction, self.family, self.options))

    def drop(self, reason: str) -> str:
        """The name of a drop rule's counter."""
        return f"drop {self.interface} {self.direction} {reason}"


def entrance(place: Place, *, established: Target | None, tracked: bool = True, failsafe: bool = True) -> Iterator[Rule]:
    """What comes before any policy: open connections, neighbour discovery, broken packets, failsafe ports."""
    if established is not None:
        yield Rule((ESTABLISHED,), established)
    if failsafe and place.table == "filter" and place.direction == "egress":  # mangle judges it, once its way out is known
        yield Rule((DNATED,), Jump(names.TRANSLATED, goto=True))
    if failsafe and place.family == 6:
        yield jump(names.NEIGHBOUR_DISCOVERY, ICMPV6)
    if tracked and place.options.drop_invalid:
        yield Rule((INVALID,), place.deny, counter=place.drop("invalid"))
    if failsafe and place.has_failsafes:
        yield jump(names.FAILSAFE_IN if place.direction == "ingress" else names.FAILSAFE_OUT, None)


Judges = Callable[[tuple[Group, ...]], Sequence[tuple[str, Traits]]]
"""Which chains groups are in one table, with what may come of a jump to them; those without a rule are left out."""


def tier_rules(place: Place, tiers: Iterable[Tier], judges: Judges, accept: Target, *, tier_end: bool) -> Iterator[Rule]:
    """Each tier's policies in order (H-46.5).

    The pass mark skips the rest of a tier, where a policy of it can set that.
    """
    marks = place.options.marks
    for tier in tiers:
        guard: tuple[Match, ...] = ()
        for chain, traits in judges(tier.groups):
            if traits.passes and not guard:
                yield _without_matches(clear(marks.passed))
            yield jump(chain, traits.protocol, guard)
            if traits.passes:
                guard = (is_clear(marks.passed),)
            if traits.accepts:
                yield _if_set(marks.accept, accept)
        if tier_end and tier.denies:
            yield Rule(guard, place.deny, counter=place.drop("end-of-tier"))


def profile_rules(place: Place, profiles: tuple[Group, ...], judges: Judges, accept: Target) -> Iterator[Rule]:
    """The profiles in order, then the end: nothing allowed it."""
    for chain, traits in judges(profiles):
        yield jump(chain, traits.protocol)
        if traits.accepts:
            yield _if_set(place.options.marks.accept, accept)
    yield Rule((), place.deny, counter=place.drop("no-policy"))


def unmarked(rules: Iterable[Rule], marks: Marks, bits: int) -> Iterator[Rule]:
    """The rules, and before them what clears these bits where a rule looks at the accept mark: whatever set it, nobody has
    accepted the packet here yet (D15). Open connections don't get to it."""
    rules = tuple(ended(rules))
    if any(is_set(marks.accept) in rule.matches for rule in rules):
        yield _without_matches(clear(bits))
    yield from rules


def ended(rules: Iterable[Rule]) -> Iterator[Rule]:
    """The rules up to the first that decides about every packet that comes to it: nothing after it is ever looked at."""
    for rule in rules:
        yield rule
        if not rule.matches and isinstance(rule.target, Verdict | Reject):
            return


def compact(rules: Iterable[Rule], marks: Marks) -> Chain:
    """A chain without what its end makes needless: of "accepted: go back. Deny." it keeps "not accepted: deny."."""
    result = list(rules)
    denies = bool(result) and not result[-1].matches and (result[-1].target == DROP or isinstance(result[-1].target, Reject))
    if denies and len(result) > 1 and result[-2] == _if_set(marks.accept, RETURN):
        result[-2:] = [replace(result[-1], matches=(is_clear(marks.accept),))]
    while result and result[-1].target == RETURN:
        result.pop()
    return tuple(result)


@lru_cache(maxsize=64)
def _if_set(bit: int, target: Target) -> Rule:
    return Rule((is_set(bit),), target)


@lru_cache(maxsize=64)
def _without_matches(target: Target) -> Rule:
    return Rule((), target)
