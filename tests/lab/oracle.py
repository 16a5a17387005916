"""What policy says about one packet, straight from the resources: the verdict that calculation and rendering are held to.

It shares no code with `calc` or `render`: labels, order, sets and traffic kinds are worked out here again, slowly, packet by
packet, from `enforcement.md` 1, 3 and H-10 as design D3-D8 change them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hostward.model.failsafe import FailsafePort
from hostward.model.links import Link
from hostward.model.resources import (
    BUILT_IN_PROFILES,
    BUILT_IN_TIERS,
    HostEndpoint,
    NetworkSet,
    Policy,
    Profile,
    Resource,
    Tier,
)
from hostward.model.rules import Action, Entity, Rule
from hostward.model.selectors import parse
from hostward.render.evaluate import Packet

Direction = Literal["ingress", "egress"]
Answer = Literal["allow", "deny", "pass", "undecided"]
PORT_NAMES = {6: "tcp", 17: "udp", 132: "sctp"}
ND = {130, 131, 132, 133, 134, 135, 136, 143}


@dataclass
class Host:
    """All that the verdict depends on."""

    node: str
    resources: list[Resource]
    links: Mapping[str, Link]
    forward_all: bool = True
    failsafe_in: tuple[FailsafePort, ...] = ()
    failsafe_out: tuple[FailsafePort, ...] = ()
    workload_prefixes: tuple[str, ...] = ("cali",)
    excluded: tuple[str, ...] = ("kube-ipvs0",)
    profiles: dict[str, Profile] = field(init=False)
    tiers: dict[str, Tier] = field(init=False)

    def __post_init__(self) -> None:
        self.profiles = {r.name: r for r in self.resources if isinstance(r, Profile)} | dict(BUILT_IN_PROFILES)
        self.tiers = {r.name: r for r in self.resources if isinstance(r, Tier)} | dict(BUILT_IN_TIERS)

    def labels(self, thing: HostEndpoint | NetworkSet) -> dict[str, str]:
        found = dict(thing.labels)
        for name in thing.profiles if isinstance(thing, HostEndpoint) else ():
            for key, value in self.profiles[name].labels.items() if name in self.profiles else ():
                found.setdefault(key, value)
        return found

    def governor(self, interface: str) -> HostEndpoint | None:
        """The endpoint that governs an interface by itself, else the `*` endpoint (never for lo)."""
        mine = [r for r in self.resources if isinstance(r, HostEndpoint) and r.node == self.node]
        if interface in self.excluded or interface.startswith(self.workload_prefixes):
            own = []
        else:
            addresses = self.links[interface].addresses if interface in self.links else frozenset()
            own = [e for e in mine if e.interface == interface or (not e.interface and addresses & set(e.expected_ips))]
        if not own and interface != "lo":
            own = [e for e in mine if e.interface == "*"]
        return min(own, key=lambda e: e.name.encode(), default=None)

    def policies(self, endpoint: HostEndpoint) -> list[Policy]:
        labels = self.labels(endpoint)
        return [p for p in self.resources if isinstance(p, Policy) and parse(p.selector).matches(labels)]

    # --- one rule ---------------------------------------------------------------------------------------------------------
    def in_selector(self, selector: str, address: str) -> bool:
        return any(
            parse(selector).matches(self.labels(thing)) and any(_inside(address, net) for net in _nets(thing))
            for thing in self.resources
            if isinstance(thing, HostEndpoint | NetworkSet)
        )

    def has_named_port(self, selector: str, name: str, rule: Rule, packet: Packet, address: str, port: int) -> bool:
        if packet.protocol not in PORT_NAMES or rule.protocol not in (None, packet.protocol):
            return False
        return any(
            address in thing.expected_ips and (p.name, p.protocol, p.port) == (name, packet.protocol, port)
            for thing in self.resources
            if isinstance(thing, HostEndpoint) and parse(selector).matches(self.labels(thing))
            for p in thing.ports
        )

    def side_matches(self, entity: Entity, rule: Rule, packet: Packet, address: str, port: int) -> bool:
        family = packet.family
        for nets, wanted in ((entity.nets, True), (entity.not_nets, False)):
            mine = [n for n in nets if (":" in n) == (family == 6)]
            if nets and not mine:
                return False
            if mine and any(_inside(address, n) for n in mine) != wanted:
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
        return True

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
        self, endpoint: HostEndpoint, policies: list[Policy], direction: Direction, packet: Packet, destination: tuple[str, int]
    ) -> bool:
        answer = self.tiers_answer(policies, direction, packet, destination, tier_end=True)
        for name in endpoint.profiles if answer == "undecided" else ():
            if name not in self.profiles:
                return False
            profile = self.profiles[name]
            rules = profile.ingress_rules if direction == "ingress" else profile.egress_rules
            answer = self.rules_answer(rules, packet, destination)
            if answer in ("allow", "deny"):
                break
        return answer == "allow"

    def failsafe(self, direction: Direction, packet: Packet, destination: tuple[str, int], *, raw: bool = False) -> bool:
        if packet.family == 6 and packet.protocol == 58 and packet.icmp_type in ND:
            return True
        remote = packet.source if direction == "ingress" else destination[0]
        same, other = (self.failsafe_in, self.failsafe_out) if direction == "ingress" else (self.failsafe_out, self.failsafe_in)
        hits = [(f, destination[1]) for f in same] + ([(f, packet.source_port) for f in other] if raw else [])
        return any(
            f.protocol == packet.protocol and f.port == port and (f.net is None or _inside(remote, f.net)) for f, port in hits
        )

    # --- a packet's way ---------------------------------------------------------------------------------------------------
    def accepts(self, packet: Packet) -> bool:
        """Whether the packet passes this host."""
        before = (packet.destination, packet.destination_port)
        after = packet.dnat or before
        first: Direction = "egress" if packet.path == "output" else "ingress"
        interface = packet.out_interface if packet.path == "output" else packet.in_interface
        endpoint = self.governor(interface)
        accepted = False
        tracked_state = packet.state
        if endpoint is not None and not endpoint.isolated and endpoint.interface != "*":
            untracked = [p for p in self.policies(endpoint) if p.do_not_track]
            if _lists(untracked) and not self.failsafe(first, packet, before, raw=True):
                answer = self.tiers_answer(untracked, first, packet, before, tier_end=False)
                if answer == "deny":
                    return False
                accepted = answer == "allow"
        if accepted:
            tracked_state = "UNTRACKED"
            after = before  # what isn't tracked isn't translated
        if packet.path == "output":
            return accepted or self.own(packet.out_interface, "egress", packet, after, tracked_state)
        if endpoint is not None and not endpoint.isolated and not accepted and tracked_state not in ("ESTABLISHED", "RELATED"):
            pre = [p for p in self.policies(endpoint) if p.pre_dnat and not p.do_not_track and p.ingress]
            if pre:
                if tracked_state == "INVALID" and not _is_nd(packet):
                    return False
                if not self.failsafe("ingress", packet, before):
                    answer = self.tiers_answer(pre, "ingress", packet, before, tier_end=False)
                    if answer == "deny":
                        return False
                    accepted = answer == "allow"
        if packet.path == "input":
            return accepted or self.own(packet.in_interface, "ingress", packet, after, tracked_state)
        workload = (packet.in_interface + " " + packet.out_interface).split()
        host_only = not any(name.startswith(self.workload_prefixes) for name in workload)
        if not accepted and not self.forwarded(packet.in_interface, "ingress", packet, after, tracked_state, host_only):
            return False
        return self.forwarded(packet.out_interface, "egress", packet, after, tracked_state, host_only)

    def own(self, interface: str, direction: Direction, packet: Packet, destination: tuple[str, int], state: str) -> bool:
        endpoint = self.governor(interface)
        if endpoint is None or interface.startswith(self.workload_prefixes):
            return True
        if state in ("ESTABLISHED", "RELATED") or _is_nd(packet):
            return True
        if state == "INVALID":
            return False
        if self.failsafe(direction, packet, destination):
            return True
        if endpoint.isolated:
            return False
        normal = [p for p in self.policies(endpoint) if not p.pre_dnat and not p.do_not_track]
        return self.with_profiles(endpoint, normal, direction, packet, destination)

    def forwarded(
        self, interface: str, direction: Direction, packet: Packet, destination: tuple[str, int], state: str, host_only: bool
    ) -> bool:
        endpoint = self.governor(interface)
        if endpoint is None or state in ("ESTABLISHED", "RELATED"):
            return True
        if state == "INVALID" or endpoint.isolated:
            return False
        normal = [p for p in self.policies(endpoint) if not p.pre_dnat and not p.do_not_track]
        if host_only and self.forward_all:
            return self.with_profiles(endpoint, normal, direction, packet, destination)
        applied = [p for p in normal if p.apply_on_forward]
        return self.tiers_answer(applied, direction, packet, destination, tier_end=True) != "deny"


def _lists(policies: list[Policy]) -> bool:
    return any(p.ingress or p.egress for p in policies)


def _is_nd(packet: Packet) -> bool:
    return packet.family == 6 and packet.protocol == 58 and packet.icmp_type in ND


def _policy_key(policy: Policy) -> tuple[float, bytes]:
    order = float("inf") if policy.order is None else policy.order
    return order, f"{policy.key.name}/{policy.key.namespace}/{policy.key.kind}".encode()


def _nets(thing: HostEndpoint | NetworkSet) -> tuple[str, ...]:
    return thing.nets if isinstance(thing, NetworkSet) else thing.expected_ips


def _inside(address: str, net: str) -> bool:
    parsed, network = ipaddress.ip_address(address), ipaddress.ip_network(net)
    return parsed.version == network.version and parsed in network
