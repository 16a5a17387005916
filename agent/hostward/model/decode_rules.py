"""Rules from JSON: what is understood, and what stays of a rule that isn't (enforcement 3.1, M-50; decision D4).

A rule is all or nothing: an Allow or Log with anything odd in it never matches; every other becomes a Deny on the criteria that
are understood. Two criteria that contradict each other both count as not understood, so that the Deny covers every reading.
Knows no policies. Pure; any thread.
"""

from __future__ import annotations

import re
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from hostward.model.decode_entity import Place, read_entity
from hostward.model.fields import Found, Problem, read_integer, read_labels, read_object, show
from hostward.model.nets import family
from hostward.model.rules import ICMP, ICMPV6, PORT_PROTOCOLS, PROTOCOL_NUMBERS, Action, Entity, Icmp, Ports, Rule

DENY_ALL: Final = Rule(Action.DENY)

_RULE_FIELDS: Final = frozenset(
    ("action", "ipVersion", "protocol", "notProtocol", "icmp", "notICMP", "source", "destination", "http", "metadata")
)
_ACTIONS: Final = {**{action.value.lower(): action for action in Action}, "next-tier": Action.PASS}
_PROTOCOLS: Final = {name.lower(): number for name, number in PROTOCOL_NUMBERS.items()}
_ICMP_VERSION: Final = {ICMP: 4, ICMPV6: 6}
_DIGITS: Final = re.compile(r"[0-9]+")


def read_rules(value: object, path: str, place: Place, found: Found, field_problems: Found) -> tuple[Rule, ...]:
    """The rules of one direction. What isn't a list stands for one unreadable rule, so it denies; it is a `field_problem`."""
    if value is None:
        return ()
    if not isinstance(value, list):
        field_problems.append(Problem(path, f"expected a list, not {show(value)}"))
        return (DENY_ALL,)
    return tuple(read_rule(rule, f"{path}[{index}]", place, found) for index, rule in enumerate(value))


def read_rule(value: object, path: str, place: Place, found: Found) -> Rule:
    """One rule; with problems in `found`, the rule that D4 puts in its place."""
    if not isinstance(value, dict):
        found.append(Problem(path, f"expected an object, not {show(value)}"))
        return DENY_ALL
    mine: Found = []
    fields = read_object(value, path, _RULE_FIELDS, mine)
    action = _action(fields.get("action"), f"{path}.action", mine)
    if "http" in fields:
        mine.append(Problem(f"{path}.http", "HTTP matches can't be enforced by a packet filter"))
    annotations = _annotations(fields.get("metadata"), f"{path}.metadata", mine)
    rule = _Criteria.read(fields, path, place, mine).rule(action, path, mine)
    if not mine:
        return replace(rule, annotations=annotations) if annotations else rule
    found.extend(mine)
    return Rule(action, never=True) if action in (Action.ALLOW, Action.LOG) else replace(rule, action=Action.DENY)


def _action(value: object, path: str, found: Found) -> Action:
    """The action, in any case of letters (R-2). Felix takes a missing one for Allow; here it is unknown, so it denies."""
    action = _ACTIONS.get(value.lower()) if isinstance(value, str) else None
    if action is None:
        found.append(Problem(path, "missing" if value is None else f"unknown action {show(value)}"))
    return action or Action.DENY


def _annotations(value: object, path: str, found: Found) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    fields = read_object(value, path, ("annotations",), found)
    return tuple(sorted(read_labels(fields.get("annotations"), f"{path}.annotations", found).items()))


class _Criteria(Struct):
    """What a rule matches on, while it is being read; `settle` removes what doesn't go together."""

    ip_version: int | None
    protocol: int | None
    implies_version: bool  # the protocol was named, so it is of one IP version
    protocol_given: bool
    not_protocol: int | None
    icmp: Icmp | None
    not_icmp: Icmp | None
    source: Entity
    destination: Entity

    @classmethod
    def read(cls, fields: dict[str, Any], path: str, place: Place, found: Found) -> _Criteria:
        version = read_integer(fields.get("ipVersion"), 4, 6, f"{path}.ipVersion", found)
        if version == 5:
            found.append(Problem(f"{path}.ipVersion", "expected 4 or 6, not 5"))
            version = None
        return cls(
            version,
            _protocol(fields.get("protocol"), f"{path}.protocol", found),
            isinstance(fields.get("protocol"), str) and not fields["protocol"].isdigit(),
            "protocol" in fields,
            _protocol(fields.get("notProtocol"), f"{path}.notProtocol", found),
            _icmp(fields.get("icmp"), f"{path}.icmp", found),
            _icmp(fields.get("notICMP"), f"{path}.notICMP", found),
            read_entity(fields.get("source"), f"{path}.source", place, "source", found),
            read_entity(fields.get("destination"), f"{path}.destination", place, "destination", found),
        )

    def rule(self, action: Action, path: str, found: Found) -> Rule:
        """The rule of the criteria that go together; reports those that don't."""
        self._settle_versions(path, found)
        self._settle_icmp(path, found)
        self._settle_ports(path, found)
        version = self.ip_version
        if version is None and self.protocol in _ICMP_VERSION and (self.implies_version or self.icmp or self.not_icmp):
            version = _ICMP_VERSION[self.protocol]  # by number too when a type is matched: no kernel can in the other version
        return Rule(action, version, self.protocol, self.not_protocol, self.icmp, self.not_icmp, self.source, self.destination)

    def _settle_versions(self, path: str, found: Found) -> None:
        version = self.ip_version
        if version is None:
            return
        if self.protocol is not None and _ICMP_VERSION.get(self.protocol, version) != version:
            found.append(Problem(f"{path}.protocol", f"contradicts ipVersion {version}"))
            self.ip_version = self.protocol = None
        if self.not_protocol is not None and _ICMP_VERSION.get(self.not_protocol, version) != version:
            found.append(Problem(f"{path}.notProtocol", f"contradicts ipVersion {version}"))
            self.ip_version = self.not_protocol = None
        for side in ("source", "destination"):
            entity: Entity = getattr(self, side)
            if entity.nets and not _any_of(version, entity.nets):
                found.append(Problem(f"{path}.{side}.nets", f"no CIDR of ipVersion {version}"))
                self.ip_version, entity = None, replace(entity, nets=())
            if entity.not_nets and not _any_of(version, entity.not_nets):
                found.append(Problem(f"{path}.{side}.notNets", f"no CIDR of ipVersion {version}"))
                self.ip_version, entity = None, replace(entity, not_nets=())
            setattr(self, side, entity)

    def _settle_icmp(self, path: str, found: Found) -> None:
        if (self.icmp is None and self.not_icmp is None) or self.protocol in _ICMP_VERSION:
            return
        if self.protocol is not None or not self.protocol_given:
            found.append(Problem(f"{path}.{'notICMP' if self.icmp is None else 'icmp'}", "needs protocol ICMP or ICMPv6"))
        self.protocol = self.icmp = self.not_icmp = None

    def _settle_ports(self, path: str, found: Found) -> None:
        if self.protocol in PORT_PROTOCOLS:
            return
        source, destination = self.source, self.destination
        if self._is_stray(source.ports, f"{path}.source.ports", found):
            self.source = replace(self.source, ports=Ports())
        if self._is_stray(source.not_ports, f"{path}.source.notPorts", found):
            self.source = replace(self.source, not_ports=Ports())
        if self._is_stray(destination.ports, f"{path}.destination.ports", found):
            self.destination = replace(self.destination, ports=Ports())
        if self._is_stray(destination.not_ports, f"{path}.destination.notPorts", found):
            self.destination = replace(self.destination, not_ports=Ports())
        if (source, destination) != (self.source, self.destination):
            self.protocol = self.icmp = self.not_icmp = None

    def _is_stray(self, ports: Ports, path: str, found: Found) -> bool:
        """Whether ports stand without the protocol that they need; names say theirs themselves (M-41)."""
        if not ports or (self.protocol is None and not ports.ranges):
            return False
        if self.protocol is not None or not self.protocol_given:  # else the protocol itself is the problem
            found.append(Problem(path, "needs protocol TCP, UDP or SCTP"))
        return True


def _any_of(version: int, nets: tuple[str, ...]) -> bool:
    return any(family(net) == version for net in nets)


def _protocol(value: object, path: str, found: Found) -> int | None:
    """A protocol's number, from a number, its digits, or one of six names in any case (R-4, A.2)."""
    if value is None:
        return None
    if isinstance(value, str):
        number = int(value) if _DIGITS.fullmatch(value) and len(value) <= 3 else _PROTOCOLS.get(value.lower())
    else:
        number = value if type(value) is int else None
    if number is not None and 1 <= number <= 255:
        return number
    found.append(Problem(path, f"expected {', '.join(PROTOCOL_NUMBERS)} or 1 to 255, not {show(value)}"))
    return None


def _icmp(value: object, path: str, found: Found) -> Icmp | None:
    if value is None:
        return None
    before = len(found)
    fields = read_object(value, path, ("type", "code"), found)
    kind = read_integer(fields.get("type"), 0, 254, f"{path}.type", found)
    code = read_integer(fields.get("code"), 0, 255, f"{path}.code", found)
    if kind is None and code is not None:
        found.append(Problem(f"{path}.code", "needs a type"))
    return Icmp(kind, code) if kind is not None and len(found) == before else None
