"""Neighbouring rules of one policy made one, where no packet can tell: the same verdicts, in the same order, counted alike.

Rules of two policies are never made one, for each policy is to have counters of its own. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, Literal

from msgspec.structs import replace

from hostward.model.rules import Action, Entity, PortRange, Ports, Rule

MULTIPORT_SLOTS: Final = 15
NETS_IN_A_ROW: Final = 8
"""So many rules that differ in their network stay rules: one whose header doesn't match costs a packet 5 ns, a set 110."""
_SIDES: Final[tuple[Literal["source", "destination"], ...]] = ("source", "destination")
_NO_PORTS: Final = Ports()


def merged_ports(ranges: Iterable[PortRange]) -> list[tuple[int, int]]:
    """Port ranges in order, those that touch or overlap made one: the same ports in the fewest slots."""
    result: list[tuple[int, int]] = []
    for item in sorted(ranges):
        if result and item.first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(result[-1][1], item.last))
        else:
            result.append((item.first, item.last))
    return result


def slots(first: int, last: int) -> int:
    """How many multiport slots a range takes: two, if it isn't one port (R-31)."""
    return 1 if first == last else 2


def merged_rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Rules with the same effect, never more of them. What matches nothing is left out."""
    result: list[Rule] = []
    for rule in rules:
        if rule.never:
            continue
        joined = _with_ports_of(result[-1], rule) if result else None
        if joined is None:
            result.append(rule)
        else:
            result[-1] = joined
    for side in _SIDES:
        result = list(_with_nets_joined(result, side))
    return tuple(result)


def _may_merge(rule: Rule) -> bool:
    return rule.action in (Action.ALLOW, Action.DENY) and not rule.annotations


def _with(rule: Rule, side: Literal["source", "destination"], entity: Entity) -> Rule:
    return replace(rule, source=entity) if side == "source" else replace(rule, destination=entity)


def _with_ports_of(rule: Rule, other: Rule) -> Rule | None:
    """One rule for two that differ in the numeric ports of one side alone, if the ports of both fit into one match."""
    if not _may_merge(rule) or rule.action is not other.action:
        return None
    for side in _SIDES:
        mine, theirs = getattr(rule, side), getattr(other, side)
        if not mine.ports or not theirs.ports or mine.ports.names or theirs.ports.names:
            continue
        if _with(rule, side, replace(mine, ports=_NO_PORTS)) != _with(other, side, replace(theirs, ports=_NO_PORTS)):
            continue
        ranges = (*mine.ports.ranges, *theirs.ports.ranges)
        if sum(slots(*item) for item in merged_ports(ranges)) <= MULTIPORT_SLOTS:
            return _with(rule, side, replace(mine, ports=Ports(tuple(sorted(set(ranges))))))
    return None


def _with_nets_joined(rules: Sequence[Rule], side: Literal["source", "destination"]) -> Iterator[Rule]:
    """The rules, with long rows that differ in the one network of a side alone made one rule with a set."""

    def but_for_net(rule: Rule) -> object:
        entity: Entity = getattr(rule, side)
        return _with(rule, side, replace(entity, nets=())) if _may_merge(rule) and len(entity.nets) == 1 else id(rule)

    for _, row in groupby(rules, but_for_net):
        alike = list(row)
        if len(alike) <= NETS_IN_A_ROW:
            yield from alike
        else:
            entity: Entity = getattr(alike[0], side)
            listed = tuple(dict.fromkeys(net for rule in alike for net in getattr(rule, side).nets))
            yield _with(alike[0], side, replace(entity, nets=listed))
