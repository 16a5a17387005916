"""Resources as the agent understands them: policies, endpoints, sets, profiles, tiers (`statements.md` enforcement 1.1).

These are the decoded values, not the stored JSON: `decode` makes them. Pure values; any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct, field

from hostward.model.keys import ResourceKey
from hostward.model.rules import Action, Rule

Labels = Mapping[str, str]
NO_LABELS: Final[Labels] = MappingProxyType({})


class Policy(Struct, frozen=True):
    """A GlobalNetworkPolicy or, with a namespace in its key, a NetworkPolicy. `name` is what the user typed (A.3).

    `key` is the identity; `selector` is the effective canonical selector (M-12, M-14); `ingress`/`egress` say whether `types`
    has the direction.
    """

    key: ResourceKey
    name: str
    tier: str
    order: float | None
    selector: str
    ingress: bool
    egress: bool
    ingress_rules: tuple[Rule, ...] = ()
    egress_rules: tuple[Rule, ...] = ()
    do_not_track: bool = False
    pre_dnat: bool = False
    apply_on_forward: bool = False


class Tier(Struct, frozen=True):
    """A tier. `default_action` is DENY or PASS (M-3)."""

    name: str
    order: float | None
    default_action: Action = Action.DENY


class Profile(Struct, frozen=True):
    """A profile: rules, and labels that its endpoints inherit."""

    name: str
    ingress_rules: tuple[Rule, ...] = ()
    egress_rules: tuple[Rule, ...] = ()
    labels: Labels = field(default_factory=dict)


class NamedPort(Struct, frozen=True):
    """A port that an endpoint names. `protocol` is a number."""

    name: str
    protocol: int
    port: int


class HostEndpoint(Struct, frozen=True):
    """A host endpoint. `expected_ips` are canonical addresses. `isolated`: not wholly understood, so deny all (D4)."""

    name: str
    node: str
    interface: str
    expected_ips: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    ports: tuple[NamedPort, ...] = ()
    labels: Labels = field(default_factory=dict)
    isolated: bool = False


class WorkloadEndpoint(Struct, frozen=True):
    """A pod's or virtual machine's interface (M-6). `addresses` are canonical, of both families; none only when `isolated`.

    `labels` are its own with those that its place gives it (namespace, orchestrator, service account); it can't claim another's
    namespace by them (M-17). `spoofable`: CIDRs that it may send from beside its own addresses (H-73). `isolated`: not wholly
    understood, so nothing may pass (D4, H-48).
    """

    namespace: str
    name: str
    node: str
    interface: str
    addresses: tuple[str, ...]
    profiles: tuple[str, ...] = ()
    ports: tuple[NamedPort, ...] = ()
    labels: Labels = field(default_factory=dict)
    spoofable: tuple[str, ...] = ()
    isolated: bool = False


class NetworkSet(Struct, frozen=True):
    """A GlobalNetworkSet or NetworkSet: canonical CIDRs, its labels, and the profiles whose labels it inherits (M-7)."""

    name: str
    nets: tuple[str, ...] = ()
    labels: Labels = field(default_factory=dict)
    profiles: tuple[str, ...] = ()


class EndpointSlice(Struct, frozen=True):
    """A part of what stands behind a Kubernetes service: addresses, and (protocol number, port) of each port (R-26)."""

    namespace: str
    service: str
    addresses: tuple[str, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()


class Node(Struct, frozen=True):
    """A node's name; the agent counts nodes."""

    name: str


class Configuration(Struct, frozen=True):
    """A FelixConfiguration: the raw `spec`, setting name to value."""

    name: str
    spec: Mapping[str, Any] = field(default_factory=dict)


class ClusterInformation(Struct, frozen=True):
    """Identity and readiness of the cluster's datastore (A.6). `ready` is True only for an explicit true."""

    guid: str
    ready: bool


class StagedPolicy(Struct, frozen=True):
    """A staged policy of any kind: counted, never enforced (M-32)."""

    key: ResourceKey


Resource = (
    Policy
    | Tier
    | Profile
    | HostEndpoint
    | WorkloadEndpoint
    | NetworkSet
    | EndpointSlice
    | StagedPolicy
    | Node
    | Configuration
    | ClusterInformation
)

DEFAULT_ALLOW_PROFILE: Final = "projectcalico-default-allow"
BUILT_IN_TIERS: Final[Mapping[str, Tier]] = MappingProxyType(
    {
        "kube-admin": Tier("kube-admin", 1000.0, Action.PASS),
        "default": Tier("default", 1_000_000.0, Action.DENY),
        "kube-baseline": Tier("kube-baseline", 10_000_000.0, Action.PASS),
    }
)
BUILT_IN_PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {DEFAULT_ALLOW_PROFILE: Profile(DEFAULT_ALLOW_PROFILE, (Rule(Action.ALLOW),), (Rule(Action.ALLOW),))}
)
