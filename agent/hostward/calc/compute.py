"""The rules of calculation, one pure function a table: labels, governing endpoint, policy order, set members.

`calculate` calls them for everything, `engine` for what a change affects. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from hostward.model import nets
from hostward.model.links import Link
from hostward.model.resolved import ANY_INTERFACE, PolicyLists, ResolvedWorkload, Scope, TierPolicies
from hostward.model.resources import (
    BUILT_IN_PROFILES,
    BUILT_IN_TIERS,
    NO_LABELS,
    EndpointSlice,
    HostEndpoint,
    NamedPort,
    NetworkSet,
    Policy,
    Profile,
    Tier,
    WorkloadEndpoint,
)
from hostward.model.rules import PORT_PROTOCOLS, Action, Rule
from hostward.model.selectors import parse
from hostward.model.sets import NamedPortSet, NetSet, SelectorSet, ServiceSet, SetRef

_NO_HOST = ("0.0.0.0", "::")  # noqa: S104 # not to bind to: no set of addresses and ports can hold them, and nothing has them
DENY_PROFILE_RULES = (Rule(Action.DENY),)


class Labelled(Struct, frozen=True):
    """What rules see of an endpoint, network set or endpoint slice: effective labels, set members, named ports.

    Of a slice no selector sees anything: it belongs to its `service` (namespace, name), with the ports that are behind it.
    """

    labels: Mapping[str, str]
    members: tuple[str, ...]
    ports: tuple[NamedPort, ...] = ()
    service: tuple[str, str] | None = None
    service_ports: tuple[tuple[int, int], ...] = ()


Contributor = HostEndpoint | WorkloadEndpoint | NetworkSet | EndpointSlice


def labelled(resource: Contributor, profiles: Mapping[str, Profile]) -> Labelled:
    """Own labels win; between profiles the first listed that has the label wins (M-11). Addresses as in M-44."""
    if isinstance(resource, EndpointSlice):
        return Labelled(NO_LABELS, resource.addresses, (), (resource.namespace, resource.service), resource.ports)
    labels: dict[str, str] = {}
    for name in reversed(resource.profiles):
        if (profile := profiles.get(name)) is not None:
            labels.update(profile.labels)
    labels.update(resource.labels)
    match resource:
        case NetworkSet():
            return Labelled(labels, tuple(m for net in resource.nets for m in nets.set_members(net)))
        case HostEndpoint():
            return Labelled(labels, resource.expected_ips, resource.ports)
        case WorkloadEndpoint():
            return Labelled(labels, resource.addresses, resource.ports)


def applies(policy: Policy, endpoint: HostEndpoint | WorkloadEndpoint, labels: Mapping[str, str]) -> bool:
    """Whether a policy judges an endpoint of these effective labels.

    A policy in a namespace never selects hosts, whatever labels they claim (M-14); untracked and preDNAT policies mean nothing
    to workloads (M-33).
    """
    if endpoint.isolated:
        return False
    if isinstance(endpoint, HostEndpoint):
        if policy.key.namespace:
            return False
    elif policy.do_not_track or policy.pre_dnat:
        return False
    return parse(policy.selector).matches(labels)


def governs(endpoint: HostEndpoint, interface: str, link: Link | None) -> bool:
    """Whether an endpoint claims an interface, by name, or by address when it gives no name (H-4)."""
    if endpoint.interface:
        return endpoint.interface == interface
    return link is not None and not link.addresses.isdisjoint(endpoint.expected_ips)


def governing(candidates: Iterable[HostEndpoint], interface: str, link: Link | None) -> HostEndpoint | None:
    """The endpoint with the smallest name, bytewise, among those that claim the interface (H-5, H-7)."""
    claims = [e for e in candidates if governs(e, interface, link)]
    return min(claims, key=lambda e: e.name.encode(), default=None)


def candidate_interfaces(endpoints: Iterable[HostEndpoint], links: Collection[str], scope: Scope) -> set[str]:
    """Interfaces that may be governed: those that exist, and those that an endpoint names.

    A named interface is guarded before it exists, so that its first packet meets the rules (better than H-8).
    """
    names = set(links) | {e.interface for e in endpoints if e.interface and e.interface != ANY_INTERFACE}
    return {name for name in names if scope.is_host_interface(name)}


def all_tiers(stored: Mapping[str, Tier]) -> dict[str, Tier]:
    """Stored tiers over the built-in ones, which keep their forced order and action (D5, M-3)."""
    return {**stored, **BUILT_IN_TIERS}


def tier_order(name: str, tiers: Mapping[str, Tier]) -> tuple[int, float, bytes]:
    """Where a tier sorts: by order, without one after those, missing ones last; ties by name bytewise (M-25, D5)."""
    tier = tiers.get(name)
    if tier is None:
        return (2, 0.0, name.encode())
    if tier.order is None:
        return (1, 0.0, name.encode())
    return (0, tier.order, name.encode())


def policy_order(policy: Policy) -> tuple[float, bytes]:
    """Where a policy sorts within its tier: by order, none last; ties by `name/namespace/kind` bytewise (M-26)."""
    order = float("inf") if policy.order is None else policy.order
    return (order, f"{policy.key.name}/{policy.key.namespace}/{policy.key.kind}".encode())


def standing(policy: Policy) -> Policy:
    """A policy but for its rules: whom it judges, and where it stands among others."""
    return replace(policy, ingress_rules=(), egress_rules=())


def _list(policies: Iterable[Policy], tiers: Mapping[str, Tier], *, egress: bool = True) -> tuple[TierPolicies, ...]:
    by_tier: dict[str, list[Policy]] = {}
    for policy in policies:
        by_tier.setdefault(policy.tier, []).append(policy)
    result = []
    for name in sorted(by_tier, key=lambda n: tier_order(n, tiers)):
        ordered = sorted(by_tier[name], key=policy_order)
        tier = tiers.get(name)
        entry = TierPolicies(
            name,
            tier.default_action if tier is not None else Action.DENY,
            tuple(p.key for p in ordered if p.ingress),
            tuple(p.key for p in ordered if p.egress and egress),
        )
        if entry.ingress or entry.egress:
            result.append(entry)
    return tuple(result)


def policy_lists(policies: Collection[Policy], tiers: Mapping[str, Tier], *, any_interface: bool) -> PolicyLists:
    """An endpoint's policies split by kind, in order (M-33). Untracked ones don't exist on a `*` endpoint (H-16)."""
    normal = [p for p in policies if not p.do_not_track and not p.pre_dnat]
    return PolicyLists(
        untracked=() if any_interface else _list((p for p in policies if p.do_not_track), tiers),
        pre_dnat=_list((p for p in policies if p.pre_dnat and not p.do_not_track), tiers, egress=False),
        normal=_list(normal, tiers),
        forward=_list((p for p in normal if p.apply_on_forward), tiers),
    )


def resolved_workload(endpoint: WorkloadEndpoint, policies: Collection[Policy], tiers: Mapping[str, Tier]) -> ResolvedWorkload:
    """A workload endpoint with the policies that select it."""
    return ResolvedWorkload(
        endpoint.interface,
        f"{endpoint.namespace}/{endpoint.name}",
        endpoint.addresses,
        _list(policies, tiers),
        endpoint.profiles,
        endpoint.spoofable,
        endpoint.isolated,
    )


def profile_or_deny(name: str, profiles: Mapping[str, Profile]) -> Profile:
    """The profile; a missing one denies both directions (D5, M-31)."""
    found = BUILT_IN_PROFILES.get(name) or profiles.get(name)
    return found if found is not None else Profile(name, DENY_PROFILE_RULES, DENY_PROFILE_RULES)


def contribution(ref: SetRef, item: Labelled) -> frozenset[str]:
    """What one endpoint or network set adds to a set."""
    if isinstance(ref, NetSet):
        return frozenset()
    if isinstance(ref, ServiceSet):
        return _service_members(ref, item)
    if item.service is not None or not parse(ref.selector).matches(item.labels):
        return frozenset()
    if isinstance(ref, SelectorSet):
        return frozenset(item.members)
    return frozenset(
        f"{address},{PORT_PROTOCOLS[port.protocol]}:{port.port}"
        for port in item.ports
        if port.name == ref.name and _protocol_fits(ref, port)
        for address in item.members
        if address not in _NO_HOST
    )


def _service_members(ref: ServiceSet, item: Labelled) -> frozenset[str]:
    if item.service != (ref.service.namespace, ref.service.name):
        return frozenset()
    if not ref.service.ports:
        return frozenset(item.members)
    return frozenset(
        f"{address},{PORT_PROTOCOLS[protocol]}:{port}"
        for protocol, port in item.service_ports
        for address in item.members
        if address not in _NO_HOST
    )


def _protocol_fits(ref: NamedPortSet, port: NamedPort) -> bool:
    return port.protocol in PORT_PROTOCOLS and ref.protocol in (None, port.protocol)
