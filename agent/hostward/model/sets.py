"""Which address sets a rule needs: the link between calculation, which fills them, and rendering, which matches on them.

Pure values and functions; any thread.
"""

from __future__ import annotations

from msgspec import Struct

from hostward.model.rules import Entity, Rule, Service
from hostward.model.selectors import canonical


class SelectorSet(Struct, frozen=True):
    """The addresses of all endpoints and network sets that a canonical selector matches (R-25, M-44)."""

    selector: str


class NamedPortSet(Struct, frozen=True):
    """(address, protocol, port) of every endpoint port of a name, of endpoints that the selector matches (M-40..M-43).

    `protocol` is a number, or None for any that an endpoint declares.
    """

    selector: str
    protocol: int | None
    name: str


class ServiceSet(Struct, frozen=True):
    """What stands behind a service: addresses, or with `service.ports` (address, protocol, port) (R-26)."""

    service: Service


class NetSet(Struct, frozen=True):
    """The CIDRs that a rule lists itself, when more than one: a set instead of OR blocks (D9)."""

    nets: tuple[str, ...]


SetRef = SelectorSet | NamedPortSet | ServiceSet | NetSet
ANY_SELECTOR = "all()"


class SetMatch(Struct, frozen=True):
    """A required (or, negated, forbidden) membership of one side of the packet."""

    ref: SetRef
    negate: bool = False


class SideSets(Struct, frozen=True):
    """The sets of one side of a rule. `named_ports` are alternatives, OR-ed with the numeric ports; `all_of` are AND-ed."""

    all_of: tuple[SetMatch, ...]
    named_ports: tuple[NamedPortSet, ...]


def side_sets(entity: Entity, protocol: int | None) -> SideSets:
    """The sets that one side of a rule matches on, without those of its own nets (they depend on the IP version).

    A selector beside a notSelector makes one set (R-24). Named ports hold the selector already, so it isn't matched twice
    where the port list has only names (M-42).
    """
    positive = entity.selector
    if positive is not None and entity.not_selector is not None:
        positive = canonical(f"({positive}) && !({entity.not_selector})")
    within = positive if positive is not None else ANY_SELECTOR
    names = tuple(NamedPortSet(within, protocol, name) for name in entity.ports.names)
    all_of: list[SetMatch] = []
    if positive is not None and not (names and not entity.ports.ranges):
        all_of.append(SetMatch(SelectorSet(positive)))
    if entity.selector is None and entity.not_selector is not None:
        all_of.append(SetMatch(SelectorSet(entity.not_selector), negate=True))
    all_of += [SetMatch(NamedPortSet(within, protocol, name), negate=True) for name in entity.not_ports.names]
    if entity.service is not None:
        all_of.append(SetMatch(ServiceSet(entity.service)))
    return SideSets(tuple(all_of), names)


def holds_ports(ref: SetRef) -> bool:
    """Whether a set's members are (address, protocol, port), not addresses."""
    return isinstance(ref, NamedPortSet) or (isinstance(ref, ServiceSet) and ref.service.ports)


def rule_refs(rule: Rule) -> frozenset[SetRef]:
    """The sets that calculation must fill for a rule; NetSets fill themselves."""
    if rule.never:
        return frozenset()
    refs: set[SetRef] = set()
    for entity in (rule.source, rule.destination):
        sides = side_sets(entity, rule.protocol)
        refs.update(match.ref for match in sides.all_of)
        refs.update(sides.named_ports)
    return frozenset(refs)
