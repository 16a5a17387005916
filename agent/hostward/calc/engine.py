"""The incremental calculation: a change costs what it affects (docs/architecture.md).

Keyed tables one after another: labels, governors and workloads, selections, endpoints, policies and profiles in use, set
members. Each step recomputes the keys that a change can affect and goes on only with those whose value differs.
`calculate` is the oracle. Used by the engine thread only; pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

from msgspec import Struct, field

from hostward.calc import compute
from hostward.calc.compute import Labelled
from hostward.calc.interfaces import Governors
from hostward.calc.label_index import LabelIndex, SelectorIndex
from hostward.calc.members import SetMembers
from hostward.calc.workloads import Workloads
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resolved import ANY_INTERFACE, Changed, Resolved, ResolvedEndpoint, ResolvedWorkload, Scope
from hostward.model.resources import (
    HostEndpoint,
    NetworkSet,
    Policy,
    Profile,
    Resource,
    Tier,
    WorkloadEndpoint,
)
from hostward.model.sets import SetRef, rule_refs

K = TypeVar("K", bound=Hashable)
E = TypeVar("E", ResolvedEndpoint, ResolvedWorkload)


class _Changes(Struct):
    """What one update touches, by table."""

    policies: dict[ResourceKey, Policy | None] = field(default_factory=dict)
    profiles: set[str] = field(default_factory=set)
    endpoints: dict[ResourceKey, HostEndpoint | None] = field(default_factory=dict)
    workloads: dict[ResourceKey, WorkloadEndpoint | None] = field(default_factory=dict)
    labelled: set[ResourceKey] = field(default_factory=set)
    tiers: bool = False


def _refs(holder: Policy | Profile) -> frozenset[SetRef]:
    return frozenset().union(*(rule_refs(rule) for rule in (*holder.ingress_rules, *holder.egress_rules)))


def _differing(before: Mapping[K, object], now: Mapping[K, object], candidates: Iterable[K]) -> frozenset[K]:
    """The keys of those whose value isn't the same object, or is in one table only."""
    return frozenset(key for key in candidates if before.get(key) is not now.get(key))


class Engine:
    """Holds the tables between updates."""

    def __init__(self, scope: Scope) -> None:
        self._resources: dict[ResourceKey, Resource] = {}
        self._policies: dict[ResourceKey, Policy] = {}
        self._selecting: SelectorIndex[ResourceKey] = SelectorIndex()
        self._profiles: dict[str, Profile] = {}
        self._tiers: dict[str, Tier] = compute.all_tiers({})
        self._labelled: dict[ResourceKey, Labelled] = {}
        self._with_profile: dict[str, set[ResourceKey]] = {}
        self._governors = Governors(scope)
        self._workloads = Workloads(scope)
        self._active: dict[ResourceKey, set[str]] = {}
        self._behind: dict[str, ResourceKey] = {}
        self._active_labels: LabelIndex[ResourceKey] = LabelIndex()
        self._selected: dict[ResourceKey, set[ResourceKey]] = {}
        self._users: dict[ResourceKey, set[ResourceKey]] = {}
        self._profile_users: Counter[str] = Counter()
        self._members = SetMembers()
        self._endpoints_out: dict[str, ResolvedEndpoint] = {}
        self._workloads_out: dict[str, ResolvedWorkload] = {}
        self._policies_out: dict[ResourceKey, Policy] = {}
        self._profiles_out: dict[str, Profile] = {}
        self._resolved = Resolved()
        self.computed = 0
        """How many values the last update computed: labels, lists of policies, contributions to sets and the like."""

    def update(self, resources: Mapping[ResourceKey, Resource | None], links: Mapping[str, Link] | None = None) -> Resolved:
        """Takes changed resources (None: gone) and, unless None, the whole new link table; the resolved state after them."""
        return self.advance(resources, links)[0]

    def advance(
        self, resources: Mapping[ResourceKey, Resource | None], links: Mapping[str, Link] | None = None
    ) -> tuple[Resolved, Changed]:
        """As `update`, and what differs from the resolved state before. What isn't named is the same objects in both."""
        before = self._resolved
        changes = self._take(resources)
        relabelled = self._relabel(changes)
        moved = self._governors.update(changes.endpoints, links) | self._workloads.update(changes.workloads)
        fresh, idle = self._follow(moved)
        reordered, touched = self._select(changes, fresh | (self._active.keys() & relabelled.keys()), idle)
        dirty = moved.union(*(self._active[key] for key in reordered))
        profiles = self._replace(self._endpoints_out, self._governors.table, self._host, dirty)
        profiles |= self._replace(self._workloads_out, self._workloads.table, self._workload, dirty)
        self._use(touched, profiles | changes.profiles)
        self._members.relabel(relabelled)
        sets = self._members.settle()
        self.computed = len(changes.labelled) + len(dirty) + len(touched) + len(profiles) + len(sets)
        changed = Changed(
            _differing(before.endpoints, self._endpoints_out, dirty),
            _differing(before.workloads, self._workloads_out, dirty),
            _differing(before.policies, self._policies_out, touched),
            _differing(before.profiles, self._profiles_out, profiles | changes.profiles),
            sets,
        )
        # A table of which nothing changed isn't copied.
        self._resolved = Resolved(
            dict(self._endpoints_out) if changed.endpoints else before.endpoints,
            dict(self._policies_out) if changed.policies else before.policies,
            dict(self._profiles_out) if changed.profiles else before.profiles,
            dict(self._members.sets) if changed.sets else before.sets,
            dict(self._workloads_out) if changed.workloads else before.workloads,
        )
        return self._resolved, changed

    def _take(self, resources: Mapping[ResourceKey, Resource | None]) -> _Changes:
        changes = _Changes()
        for key, new in resources.items():
            old = self._resources.get(key)
            if old == new:
                continue
            if new is None:
                del self._resources[key]
            else:
                self._resources[key] = new
            for value in (old, new):
                match value:
                    case Policy():
                        changes.policies[key] = new if isinstance(new, Policy) else None
                    case Tier():
                        changes.tiers = True
                    case Profile():
                        changes.profiles.add(value.name)
                        changes.labelled |= self._with_profile.get(value.name, set())
                    case HostEndpoint():
                        changes.endpoints[key] = new if isinstance(new, HostEndpoint) else None
                    case WorkloadEndpoint():
                        changes.workloads[key] = new if isinstance(new, WorkloadEndpoint) else None
                if isinstance(value, compute.Contributor):
                    changes.labelled.add(key)
                if isinstance(value, HostEndpoint | WorkloadEndpoint | NetworkSet):
                    self._hold_profiles(key, value.profiles, add=value is new)
            match old:
                case Profile():
                    del self._profiles[old.name]
                case Tier():
                    self._tiers.pop(old.name, None)
            match new:
                case Profile():
                    self._profiles[new.name] = new
                case Tier():
                    self._tiers[new.name] = new
        if changes.tiers:
            self._tiers = compute.all_tiers(self._tiers)
        return changes

    def _hold_profiles(self, key: ResourceKey, names: Iterable[str], *, add: bool) -> None:
        for name in names:
            holders = self._with_profile.setdefault(name, set())
            (holders.add if add else holders.discard)(key)
            if not holders:
                del self._with_profile[name]

    def _relabel(self, changes: _Changes) -> dict[ResourceKey, tuple[Labelled | None, Labelled | None]]:
        result = {}
        for key in changes.labelled:
            resource = self._resources.get(key)
            old = self._labelled.pop(key, None)
            new = None
            if isinstance(resource, compute.Contributor):
                new = self._labelled[key] = compute.labelled(resource, self._profiles)
            if old != new:
                result[key] = (old, new)
        return result

    def _follow(self, moved: set[str]) -> tuple[set[ResourceKey], set[ResourceKey]]:
        """Which endpoints stand behind interfaces now: those whose policies must be looked for, and those that are idle."""
        fresh, left = set(), set()
        for interface in moved:
            if (old := self._behind.pop(interface, None)) is not None:
                self._active[old].discard(interface)
                left.add(old)
            new = self._governors.table.get(interface) or self._workloads.table.get(interface)
            if new is not None:
                self._behind[interface] = new
                self._active.setdefault(new, set()).add(interface)
                fresh.add(new)
        idle = {key for key in left if not self._active[key]}
        for key in idle:
            del self._active[key]
        return fresh, idle

    def _select(
        self, changes: _Changes, whole: set[ResourceKey], idle: set[ResourceKey]
    ) -> tuple[set[ResourceKey], set[ResourceKey]]:
        """Endpoints whose policy list may differ, and policies whose use or value may differ.

        `whole`: active endpoints of which nothing is known any more.
        """
        reordered: set[ResourceKey] = set(self._active) if changes.tiers else set()
        touched: set[ResourceKey] = set(changes.policies)
        restood: set[ResourceKey] = set()
        for key in idle & self._selected.keys():
            touched |= self._reselect(key, set())
            del self._selected[key]
            self._active_labels.put(key, None)
        for key, policy in changes.policies.items():
            before = self._policies.get(key)
            if before is not None and policy is not None and compute.standing(before) == compute.standing(policy):
                self._policies[key] = policy
                continue
            restood.add(key)
            self._selecting.put(key, policy.selector if policy is not None else None)
            if policy is None:
                self._policies.pop(key, None)
            else:
                self._policies[key] = policy
        for key in whole:
            labels = self._labelled[key].labels
            self._active_labels.put(key, labels)
            candidates = (self._policies[p] for p in self._selecting.candidates(labels))
            touched |= self._reselect(key, {p.key for p in candidates if self._applies(p, key)})
        for policy_key in restood:
            policy = changes.policies[policy_key]
            users = self._users.get(policy_key, set())
            found = self._active_labels.candidates(policy.selector) if policy is not None else set[ResourceKey]()
            for key in (users | found) - whole:
                wanted = policy is not None and self._applies(policy, key)
                if wanted or policy_key in self._selected[key]:
                    reordered.add(key)
                    selected = self._selected[key]
                    self._reselect(key, selected | {policy_key} if wanted else selected - {policy_key})
        return reordered | whole, touched

    def _applies(self, policy: Policy, key: ResourceKey) -> bool:
        endpoint = self._resources[key]
        assert isinstance(endpoint, HostEndpoint | WorkloadEndpoint), "only endpoints are active"  # noqa: S101 # for the type checker
        return compute.applies(policy, endpoint, self._labelled[key].labels)

    def _reselect(self, endpoint: ResourceKey, wanted: set[ResourceKey]) -> set[ResourceKey]:
        before = self._selected.get(endpoint, set())
        for policy in before - wanted:
            self._users[policy].discard(endpoint)
        for policy in wanted - before:
            self._users.setdefault(policy, set()).add(endpoint)
        self._selected[endpoint] = wanted
        return before ^ wanted

    def _replace(
        self,
        out: dict[str, E],
        table: Mapping[str, ResourceKey],
        resolve: Callable[[str, ResourceKey], E],
        dirty: Iterable[str],
    ) -> set[str]:
        """Resolves again what may differ of one table of interfaces. Counts who uses which profile; those counted."""
        counted = set()
        for interface in dirty:
            old = out.pop(interface, None)
            new = None
            if (key := table.get(interface)) is not None:
                new = resolve(interface, key)
                new = old if new == old else new  # the same object tells rendering that there is nothing to do
                out[interface] = new
            for value, step in ((old, -1), (new, 1)):
                for name in value.profiles if value is not None and not value.isolated and old is not new else ():
                    self._profile_users[name] += step
                    counted.add(name)
        return counted

    def _host(self, interface: str, key: ResourceKey) -> ResolvedEndpoint:
        endpoint = self._governors.endpoint(key)
        selected = [self._policies[p] for p in self._selected[key]]
        lists = compute.policy_lists(selected, self._tiers, any_interface=interface == ANY_INTERFACE)
        return ResolvedEndpoint(interface, endpoint.name, lists, endpoint.profiles, endpoint.isolated)

    def _workload(self, _: str, key: ResourceKey) -> ResolvedWorkload:
        selected = [self._policies[p] for p in self._selected[key]]
        return compute.resolved_workload(self._workloads.endpoint(key), selected, self._tiers)

    def _use(self, touched: Iterable[ResourceKey], profiles: Iterable[str]) -> None:
        """Brings the policies and profiles in use, and the sets that they need, up to date."""
        for key in touched:
            if self._users.get(key) and key in self._policies:
                self._policies_out[key] = self._policies[key]
                self._members.use(key, _refs(self._policies[key]))
            else:
                self._users.pop(key, None)
                self._policies_out.pop(key, None)
                self._members.use(key, frozenset())
        for name in profiles:
            if self._profile_users[name]:
                profile = compute.profile_or_deny(name, self._profiles)
                if profile != self._profiles_out.get(name):
                    self._profiles_out[name] = profile
                    self._members.use(("profile", name), _refs(profile))
            else:
                self._profiles_out.pop(name, None)
                del self._profile_users[name]
                self._members.use(("profile", name), frozenset())
