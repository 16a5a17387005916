"""Whether anybody can open a TCP connection to an address that a host endpoint guards: a rough answer for warnings.

Judges policies and profiles as the agent orders them; what depends on who asks counts as possible. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from hostward.calc.compute import all_tiers, policy_lists, profile_or_deny
from hostward.model import nets, selectors
from hostward.model.keys import ResourceKey
from hostward.model.resolved import ANY_INTERFACE, TierPolicies
from hostward.model.resources import HostEndpoint, Policy, Profile, Tier
from hostward.model.rules import TCP, Action, Entity, Ports, Rule


class World(Struct, frozen=True):
    """What is stored, as far as it matters here."""

    endpoints: tuple[HostEndpoint, ...] = ()
    policies: Mapping[ResourceKey, Policy] = field(default_factory=dict)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    addresses: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Of each node."""


def blocking(world: World, address: str, port: int) -> tuple[HostEndpoint, ...]:
    """The host endpoints that guard this address, or may, and through which no policy lets anybody reach the TCP port."""
    known = tuple(one for one in world.endpoints if address in one.expected_ips)
    return tuple(
        one for one in known or world.endpoints if _may_guard(world, one, address) and not _lets_in(world, one, address, port)
    )


def _may_guard(world: World, endpoint: HostEndpoint, address: str) -> bool:
    """Whether the address is the endpoint's, or its node's and may be on the interface that the endpoint names."""
    if address in endpoint.expected_ips:
        return True
    if endpoint.interface == ANY_INTERFACE and _is_loopback(address):
        return False  # it never governs lo (decision D7)
    named = endpoint.interface == ANY_INTERFACE or (endpoint.interface and not endpoint.expected_ips)
    return bool(named) and address in world.addresses.get(endpoint.node, ())


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def _lets_in(world: World, endpoint: HostEndpoint, address: str, port: int) -> bool:
    labels: dict[str, str] = {}
    for name in endpoint.profiles:
        labels |= profile_or_deny(name, world.profiles).labels
    labels |= endpoint.labels
    selecting = [one for one in world.policies.values() if selectors.parse(one.selector).matches(labels)]
    lists = policy_lists(selecting, all_tiers(world.tiers), any_interface=endpoint.interface == ANY_INTERFACE)
    for tiers in (lists.untracked, lists.pre_dnat):
        early = _first(_rules(world, (key for tier in tiers for key in tier.ingress)), address, port)
        if early in (Action.ALLOW, Action.DENY):
            return early is Action.ALLOW
    late = _normal(world, lists.normal, address, port)
    if late is None:
        late = _first((rule for name in endpoint.profiles for rule in _profile_rules(world, name)), address, port)
    return late is Action.ALLOW


def _normal(world: World, tiers: Iterable[TierPolicies], address: str, port: int) -> Action | None:
    """Allow or Deny by policy; None where profiles decide."""
    for tier in tiers:
        if not tier.ingress:
            continue
        found = _first(_rules(world, tier.ingress), address, port) or tier.default_action
        if found is not Action.PASS:
            return found
    return None


def _rules(world: World, keys: Iterable[ResourceKey]) -> Iterable[Rule]:
    return (rule for key in keys for rule in world.policies[key].ingress_rules)


def _profile_rules(world: World, name: str) -> tuple[Rule, ...]:
    return profile_or_deny(name, world.profiles).ingress_rules


def _first(rules: Iterable[Rule], address: str, port: int) -> Action | None:
    """The first action that decides: an Allow that may match somebody, or another one that matches everybody."""
    for rule in rules:
        if rule.never or rule.action is Action.LOG or not _may_match(rule, address, port):
            continue
        if rule.action is Action.ALLOW or _matches_all(rule):
            return rule.action
    return None


def _may_match(rule: Rule, address: str, port: int) -> bool:
    if rule.protocol not in (None, TCP) or rule.not_protocol == TCP or rule.icmp is not None:
        return False
    if rule.ip_version not in (None, nets.family(address)):
        return False
    there = rule.destination
    if there.nets and not any(nets.contains(net, address) for net in there.nets):
        return False
    if any(nets.contains(net, address) for net in there.not_nets) or _holds(there.not_ports, port):
        return False
    return not there.ports or bool(there.ports.names) or _holds(there.ports, port)


def _holds(ports: Ports, port: int) -> bool:
    return any(one.first <= port <= one.last for one in ports.ranges)


def _matches_all(rule: Rule) -> bool:
    """Whether a rule that may match does so whoever asks. Destination nets and ports have been compared."""
    there = rule.destination
    from_anywhere = rule.source == Entity() or (set(rule.source.nets) & {"0.0.0.0/0", "::/0"} and _only_nets(rule.source))
    named = there.ports.names or there.not_ports.names
    return bool(from_anywhere) and not (there.selector or there.not_selector or named)


def _only_nets(entity: Entity) -> bool:
    return Entity(nets=entity.nets) == entity
