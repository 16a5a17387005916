"""What policies and profiles do, rendered: of each and each direction its rules, and what may come of them.

A policy is rendered once for all tables that hold it alike. Owned by the engine thread's renderer; pure but for its memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from hostward.model.resources import Policy, Profile
from hostward.model.rules import Rule
from hostward.model.sets import NetSet
from hostward.render import names
from hostward.render.names import Direction
from hostward.render.options import Options
from hostward.render.policy import Owner, net_sets, rules_chain
from hostward.render.references import settled
from hostward.render.ruleset import Chain, Family, Jump, Protocol, TableId, TableName

Holder = Policy | Profile
Variant = tuple[Family, bool]
"""What a policy's rules depend on beside itself: the family, and whether a Deny rejects there."""
DIRECTIONS: Final[tuple[Direction, ...]] = ("ingress", "egress")


class Traits(Struct, frozen=True):
    """What may come of a jump to rules: a packet accepted or passed on; and the one protocol of all packets that match."""

    accepts: bool
    passes: bool
    protocol: int | None


class Body(Struct, frozen=True):
    """The rules of a policy or profile for one direction, in one family. `nets`: the sets of networks that they name.

    `traits` is None where there are no rules: nothing comes of those.
    """

    rules: Chain
    traits: Traits | None
    nets: Mapping[str, NetSet]


def body_of(rules: Chain, nets: Mapping[str, NetSet]) -> Body:
    """Rules with what may come of them."""
    if not rules:
        return Body((), None, {})
    targets = {rule.target.chain for rule in rules if isinstance(rule.target, Jump)}
    protocols = {_protocol(rule.matches) for rule in rules}
    traits = Traits(names.ALLOW in targets, names.PASS in targets, protocols.pop() if len(protocols) == 1 else None)
    used = {name for rule in rules for name in rule.uses_sets()}
    return Body(rules, traits, {name: nets[name] for name in nets.keys() & used})


def _protocol(matches: tuple[object, ...]) -> int | None:
    return next((match.number for match in matches if isinstance(match, Protocol) and not match.negate), None)


def joint(parts: list[Traits]) -> Traits:
    """What may come of several one after another. There must be some."""
    protocols = {part.protocol for part in parts}
    return Traits(
        any(part.accepts for part in parts),
        any(part.passes for part in parts),
        protocols.pop() if len(protocols) == 1 else None,
    )


def holder_chain(holder: Holder, direction: Direction) -> str:
    """The name of a policy's or profile's own chain."""
    if isinstance(holder, Policy):
        return names.policy_chain(holder.key, direction)
    return names.profile_chain(holder.name, direction)


def _rules(holder: Holder, direction: Direction) -> tuple[Rule, ...]:
    return holder.ingress_rules if direction == "ingress" else holder.egress_rules


def _owner(holder: Holder, direction: Direction) -> Owner:
    if isinstance(holder, Profile):
        return Owner(direction, f"pro/{holder.name}", "", "pro", holder.name)
    full = f"{holder.key.namespace}/{holder.name}" if holder.key.namespace else holder.name
    title = names.policy_title(holder.key)
    return Owner(direction, title, holder.tier, title.partition("/")[0], full)


def _source(holder: Holder, direction: Direction) -> object:
    """All that a body is made of."""
    return _rules(holder, direction), _owner(holder, direction)


class Bodies:
    """The bodies of all policies and profiles in use, by the names of their own chains; each made when first asked for."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._holders: dict[str, tuple[Holder, Direction]] = {}
        self._made: dict[Variant, dict[str, Body]] = {}

    def put(self, holder: Holder, direction: Direction) -> bool:
        """Takes a new or changed policy or profile; whether its rules may differ from those before."""
        chain = holder_chain(holder, direction)
        old = self._holders.get(chain)
        self._holders[chain] = holder, direction
        if old is not None and _source(old[0], direction) == _source(holder, direction):
            return False
        differs = old is None
        for variant, made in self._made.items():
            before = made.pop(chain, None)
            if before is not None:
                after = self._make(chain, variant, before.rules)
                made[chain] = after
                differs |= after.rules is not before.rules
        return differs

    def drop(self, chain: str) -> None:
        """Forgets what isn't in use any more."""
        self._holders.pop(chain, None)
        for made in self._made.values():
            made.pop(chain, None)

    def variant(self, where: TableId) -> Variant:
        """Tables of the same variant hold a policy alike."""
        return where.family, self._options.filter_reject and where.name == "filter"

    def body(self, chain: str, variant: Variant) -> Body:
        """A policy's or profile's rules."""
        made = self._made.setdefault(variant, {})
        found = made.get(chain)
        if found is None:
            found = made[chain] = self._make(chain, variant, ())
        return found

    def _make(self, chain: str, variant: Variant, before: Chain) -> Body:
        holder, direction = self._holders[chain]
        family, rejects = variant
        table: TableName = "filter" if rejects else "raw"
        rules = rules_chain(_rules(holder, direction), table, family, _owner(holder, direction), self._options)
        return body_of(settled(before, rules), net_sets(_rules(holder, direction), family))
