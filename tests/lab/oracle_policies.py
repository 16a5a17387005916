"""What a policy, or a list of them, says about one packet, straight from the resources: the lower half of the oracle.

It shares no code with `calc` or `render`: labels, order and sets are worked out here again, slowly, packet by packet, from
`statements.md` enforcement 1 and 3.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Literal

from hostward.model.resources import (
    BUILT_IN_PROFILES,
    BUILT_IN_TIERS,
    EndpointSlice,
    HostEndpoint,
    NetworkSet,
    Policy,
    Profile,
    Resource,
    Tier,
    WorkloadEndpoint,
)
from hostward.model.rules import Action, Entity, Rule, Service
from hostward.model.selectors import parse
from hostward.render.evaluate import Packet

Direction = Literal["ingress", "egress"]
Answer = Literal["allow", "deny", "pass", "undecided"]
Endpoint = HostEndpoint | WorkloadEndpoint
PORT_NAMES = {6: "tcp", 17: "udp", 132: "sctp"}


@dataclass
class Policies:
    """The resources, as seen from one node."""

    node: str
    resources: list[Resource]
    profiles: dict[str, Profile] = field(init=False)
    tiers: dict[str, Tier] = field(init=False)

    def __post_init__(self) -> None:
        self.profiles = {r.name: r for r in self.resources if isinstance(r, Profile)} | dict(BUILT_IN_PROFILES)
        self.tiers = {r.name: r for r in self.resources if isinstance(r, Tier)} | dict(BUILT_IN_TIERS)

    def labels(self, thing: Endpoint | NetworkSet) -> dict[str, str]:
        """M-11: its own, and what it inherits from its profiles."""
        found = dict(thing.labels)
        for name in thing.profiles:
            for key, value in self.profiles[name].labels.items() if name in self.profiles else ():
                found.setdefault(key, value)
        return found

    def policies(self, endpoint: Endpoint) -> list[Policy]:
        """Those that select an endpoint and mean something to it: hosts are in no namespace (M-14), workloads know only normal
        policies (M-33)."""
        labels = self.labels(endpoint)
        return [
            p
            for p in self.resources
            if isinstance(p, Policy)
            and not (isinstance(endpoint, HostEndpoint) and p.key.namespace)
            and not (isinstance(endpoint, WorkloadEndpoint) and (p.do_not_track or p.pre_dnat))
            and parse(p.selector).matches(labels)
        ]

    # --- one rule ---------------------------------------------------------------------------------------------------------
    def in_selector(self, selector: str, address: str) -> bool:
        return any(
            parse(selector).matches(self.labels(thing)) and any(inside(address, net) for net in _nets(thing))
            for thing in self.resources
            if isinstance(thing, HostEndpoint | WorkloadEndpoint | NetworkSet)
        )

    def has_named_port(self, selector: str, name: str, rule: Rule, packet: Packet, address: str, port: int) -> bool:
        if packet.protocol not in PORT_NAMES or rule.protocol not in (None, packet.protocol):
            return False
        return any(
            address in _nets(thing) and (p.name, p.protocol, p.port) == (name, packet.protocol, port)
            for thing in self.resources
            if isinstance(thing, HostEndpoint | WorkloadEndpoint) and parse(selector).matches(self.labels(thing))
            for p in thing.ports
        )

    def serves(self, service: Service, packet: Packet, address: str, port: int) -> bool:
        """R-26: whether the address, or where ports count the address with its port, is behind a service."""
        return any(
            address in thing.addresses and (not service.ports or (packet.protocol, port) in thing.ports)
            for thing in self.resources
            if isinstance(thing, EndpointSlice) and (thing.namespace, thing.service) == (service.namespace, service.name)
        )

    def side_matches(self, entity: Entity, rule: Rule, packet: Packet, address: str, port: int) -> bool:
        family = packet.family
        for nets, wanted in ((entity.nets, True), (entity.not_nets, False)):
            mine = [n for n in nets if (":" in n) == (family == 6)]
            if nets and not mine:
                return False
            if mine and any(inside(address, n) for n in mine) != wanted:
                return False
        selector = entity.selector
        if selector is not None and entity.not_selector is not None:
            selector = f"({selector}) && !({entity.not_selector})"
        elif entity.not_selector is not None and self.in_selector(entity.not_selector, address):
            return False
        within = selector if selector is not None else "all()"
        only_names = bool(entity.ports.names) and not entity.ports.ranges
        if selector is not None and not only_names and not self.in_selector(selector, address):
            return False
        for ports, wanted in ((entity.ports, True), (entity.not_ports, False)):
            if ports:
                hit = any(r.first <= port <= r.last for r in ports.ranges) or any(
                    self.has_named_port(within, name, rule, packet, address, port) for name in ports.names
                )
                if hit != wanted:
                    return False
        return entity.service is None or self.serves(entity.service, packet, address, port)

    def rule_matches(self, rule: Rule, packet: Packet, destination: tuple[str, int]) -> bool:
        if rule.never or rule.ip_version not in (None, packet.family):
            return False
        if rule.protocol not in (None, packet.protocol) or rule.not_protocol == packet.protocol:
            return False
        for icmp, wanted in ((rule.icmp, True), (rule.not_icmp, False)):
            if icmp is not None:
                if packet.protocol != (1 if packet.family == 4 else 58):
                    return False
                if (packet.icmp_type == icmp.type and icmp.code in (None, packet.icmp_code)) != wanted:
                    return False
        return self.side_matches(rule.source, rule, packet, packet.source, packet.source_port) and self.side_matches(
            rule.destination, rule, packet, *destination
        )

    def rules_answer(self, rules: tuple[Rule, ...], packet: Packet, destination: tuple[str, int]) -> Answer:
        answers: dict[Action, Answer] = {Action.ALLOW: "allow", Action.DENY: "deny", Action.PASS: "pass"}
        for rule in rules:
            if rule.action is not Action.LOG and self.rule_matches(rule, packet, destination):
                return answers[rule.action]
        return "undecided"

    # --- lists of policies ------------------------------------------------------------------------------------------------
    def tiers_answer(
        self, policies: list[Policy], direction: Direction, packet: Packet, destination: tuple[str, int], *, tier_end: bool
    ) -> Answer:
        active = [p for p in policies if (p.ingress if direction == "ingress" else p.egress)]
        for tier in sorted({p.tier for p in active}, key=self._tier_key):
            answer: Answer = "undecided"
            for policy in sorted((p for p in active if p.tier == tier), key=_policy_key):
                rules = policy.ingress_rules if direction == "ingress" else policy.egress_rules
                answer = self.rules_answer(rules, packet, destination)
                if answer != "undecided":
                    break
            if answer in ("allow", "deny"):
                return answer
            passes = answer == "pass" or (tier in self.tiers and self.tiers[tier].default_action is Action.PASS)
            if tier_end and not passes:
                return "deny"
        return "undecided"

    def _tier_key(self, name: str) -> tuple[int, float, bytes]:
        tier = self.tiers.get(name)
        return (2, 0, name.encode()) if tier is None else (tier.order is None, tier.order or 0, name.encode())

    def with_profiles(
        self, endpoint: Endpoint, policies: list[Policy], direction: Direction, packet: Packet, destination: tuple[str, int]
    ) -> Answer:
        """M-28 from 3 on: allowed or denied."""
        answer = self.tiers_answer(policies, direction, packet, destination, tier_end=True)
        for name in endpoint.profiles if answer == "undecided" else ():
            if name not in self.profiles:
                return "deny"
            profile = self.profiles[name]
            rules = profile.ingress_rules if direction == "ingress" else profile.egress_rules
            answer = self.rules_answer(rules, packet, destination)
            if answer in ("allow", "deny"):
                break
        return "allow" if answer == "allow" else "deny"


def _policy_key(policy: Policy) -> tuple[float, bytes]:
    order = float("inf") if policy.order is None else policy.order
    return order, f"{policy.key.name}/{policy.key.namespace}/{policy.key.kind}".encode()


def _nets(thing: Endpoint | NetworkSet) -> tuple[str, ...]:
    match thing:
        case NetworkSet():
            return thing.nets
        case HostEndpoint():
            return thing.expected_ips
        case WorkloadEndpoint():
            return thing.addresses


def inside(address: str, net: str) -> bool:
    parsed, network = ipaddress.ip_address(address), ipaddress.ip_network(net)
    return parsed.version == network.version and parsed in network
