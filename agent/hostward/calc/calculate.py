"""The whole calculation from scratch: the specification, and the oracle that the incremental engine is tested against.

Costs in proportion to everything. Pure; any thread.
"""

from __future__ import annotations

from hostward.calc import compute
from hostward.calc.workloads import behind, is_local
from hostward.model.keys import ResourceKey
from hostward.model.resolved import ANY_INTERFACE, Inputs, Resolved, ResolvedEndpoint, ResolvedWorkload
from hostward.model.resources import HostEndpoint, Policy, Profile, Tier, WorkloadEndpoint
from hostward.model.sets import SetRef, rule_refs


def calculate(inputs: Inputs) -> Resolved:
    """The resolved state of these inputs."""
    values = inputs.resources.values()
    profiles = {r.name: r for r in values if isinstance(r, Profile)}
    tiers = compute.all_tiers({r.name: r for r in values if isinstance(r, Tier)})
    policies = [r for r in values if isinstance(r, Policy)]
    items = [compute.labelled(r, profiles) for r in values if isinstance(r, compute.Contributor)]
    local = [r for r in values if isinstance(r, HostEndpoint) and r.node == inputs.scope.node]

    endpoints: dict[str, ResolvedEndpoint] = {}
    active: dict[ResourceKey, Policy] = {}
    interfaces = compute.candidate_interfaces(local, inputs.links.keys(), inputs.scope)
    for interface in interfaces | {ANY_INTERFACE}:
        endpoint = compute.governing(local, interface, inputs.links.get(interface))
        if endpoint is None:
            continue
        labels = compute.labelled(endpoint, profiles).labels
        selected = [p for p in policies if compute.applies(p, endpoint, labels)]
        active.update((p.key, p) for p in selected)
        lists = compute.policy_lists(selected, tiers, any_interface=interface == ANY_INTERFACE)
        endpoints[interface] = ResolvedEndpoint(interface, endpoint.name, lists, endpoint.profiles, endpoint.isolated)

    workloads: dict[str, ResolvedWorkload] = {}
    pods = {k: r for k, r in inputs.resources.items() if isinstance(r, WorkloadEndpoint) and is_local(r, inputs.scope)}
    for interface in {pod.interface for pod in pods.values()}:
        pod = pods[behind(key for key, pod in pods.items() if pod.interface == interface)]
        labels = compute.labelled(pod, profiles).labels
        selected = [p for p in policies if compute.applies(p, pod, labels)]
        active.update((p.key, p) for p in selected)
        workloads[interface] = compute.resolved_workload(pod, selected, tiers)

    in_use: list[ResolvedEndpoint | ResolvedWorkload] = [*endpoints.values(), *workloads.values()]
    used_profiles = {name: compute.profile_or_deny(name, profiles) for e in in_use if not e.isolated for name in e.profiles}
    refs: set[SetRef] = set()
    holders: list[Policy | Profile] = [*active.values(), *used_profiles.values()]
    for holder in holders:
        for rule in (*holder.ingress_rules, *holder.egress_rules):
            refs |= rule_refs(rule)
    return Resolved(
        endpoints=endpoints,
        policies={p.key: p for p in active.values()},
        profiles=used_profiles,
        sets={ref: frozenset[str]().union(*(compute.contribution(ref, item) for item in items)) for ref in refs},
        workloads=workloads,
    )
