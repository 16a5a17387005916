"""The resolved state: which endpoint governs which interface, by which policies, and what the sets hold.

What calculation hands to rendering; it lives here because neither knows the other. Pure values; any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Set
from functools import cached_property
from typing import TypeVar

from msgspec import Struct, field

from hostward.model.interface_names import excluder
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resources import Policy, Profile, Resource
from hostward.model.rules import Action
from hostward.model.sets import SetRef

ANY_INTERFACE = "*"
K = TypeVar("K", bound=Hashable)


class Scope(Struct, frozen=True, dict=True):
    """Which endpoints and interfaces are this agent's: node name, workload prefixes, excluded names or /regexes/ (H-1, H-2)."""

    node: str
    workload_prefixes: tuple[str, ...] = ("cali",)
    excluded: tuple[str, ...] = ("kube-ipvs0",)

    @cached_property
    def _is_excluded(self) -> Callable[[str], bool]:
        return excluder(self.excluded)

    def is_host_interface(self, name: str) -> bool:
        """Whether a host endpoint may govern an interface of this name."""
        return not self.is_workload_interface(name) and not self._is_excluded(name)

    def is_workload_interface(self, name: str) -> bool:
        """Whether an interface of this name is a workload's: judged by workload endpoints alone, and cut off without one."""
        return name.startswith(self.workload_prefixes)


class TierPolicies(Struct, frozen=True):
    """One tier's policies that apply to an endpoint, in order, for each direction; `default_action` ends it (M-28)."""

    name: str
    default_action: Action
    ingress: tuple[ResourceKey, ...] = ()
    egress: tuple[ResourceKey, ...] = ()


class PolicyLists(Struct, frozen=True):
    """An endpoint's policies by the traffic that they judge (M-33). Tiers without a policy are left out."""

    untracked: tuple[TierPolicies, ...] = ()
    pre_dnat: tuple[TierPolicies, ...] = ()
    normal: tuple[TierPolicies, ...] = ()
    forward: tuple[TierPolicies, ...] = ()


class ResolvedEndpoint(Struct, frozen=True):
    """The host endpoint that governs an interface, ready to be rendered. `interface` is "*" for the default of all others."""

    interface: str
    endpoint: str
    policies: PolicyLists = PolicyLists()
    profiles: tuple[str, ...] = ()
    isolated: bool = False


class ResolvedWorkload(Struct, frozen=True):
    """The workload endpoint behind an interface, ready to be rendered. `endpoint` is its key's `namespace/name`.

    `tiers` are the policies of both directions: workloads know only normal ones (M-33).
    """

    interface: str
    endpoint: str
    addresses: tuple[str, ...] = ()
    tiers: tuple[TierPolicies, ...] = ()
    profiles: tuple[str, ...] = ()
    spoofable: tuple[str, ...] = ()
    isolated: bool = False


class Resolved(Struct, frozen=True):
    """All that rendering needs: the endpoints by interface, and what they use.

    Policies and profiles are those in use; a missing profile stands as one that denies (D5).
    """

    endpoints: Mapping[str, ResolvedEndpoint] = field(default_factory=dict)
    policies: Mapping[ResourceKey, Policy] = field(default_factory=dict)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    sets: Mapping[SetRef, Set[str]] = field(default_factory=dict)
    workloads: Mapping[str, ResolvedWorkload] = field(default_factory=dict)


class Changed(Struct, frozen=True):
    """What differs between two resolved states, by the keys of their tables; everything else is the same objects in both."""

    endpoints: frozenset[str] = frozenset()
    workloads: frozenset[str] = frozenset()
    policies: frozenset[ResourceKey] = frozenset()
    profiles: frozenset[str] = frozenset()
    sets: frozenset[SetRef] = frozenset()

    def __or__(self, other: Changed) -> Changed:
        return Changed(
            self.endpoints | other.endpoints,
            self.workloads | other.workloads,
            self.policies | other.policies,
            self.profiles | other.profiles,
            self.sets | other.sets,
        )

    def __bool__(self) -> bool:
        return bool(self.endpoints or self.workloads or self.policies or self.profiles or self.sets)


def between(old: Resolved, new: Resolved) -> Changed:
    """What differs between any two states, found by looking at everything."""

    def differing(before: Mapping[K, object], now: Mapping[K, object]) -> frozenset[K]:
        return frozenset(key for key in before.keys() | now.keys() if before.get(key) is not now.get(key))

    return Changed(
        differing(old.endpoints, new.endpoints),
        differing(old.workloads, new.workloads),
        differing(old.policies, new.policies),
        differing(old.profiles, new.profiles),
        differing(old.sets, new.sets),
    )


class Inputs(Struct, frozen=True):
    """Everything that the resolved state depends on."""

    scope: Scope
    resources: Mapping[ResourceKey, Resource]
    links: Mapping[str, Link]
