"""Resource keys: which kinds exist and where each is stored in etcd (`statements.md` A.1).

Pure values; any thread.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec import Struct

ROOT: Final = "/calico/resources/v3/projectcalico.org/"
API_VERSION: Final = "projectcalico.org/v3"


class Kind(Struct, frozen=True):
    """One resource kind: its name in documents, its plural in keys, and whether it lives in a namespace."""

    name: str
    plural: str
    namespaced: bool


KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("GlobalNetworkPolicy", "globalnetworkpolicies", False),
        Kind("NetworkPolicy", "networkpolicies", True),
        Kind("Tier", "tiers", False),
        Kind("HostEndpoint", "hostendpoints", False),
        Kind("WorkloadEndpoint", "workloadendpoints", True),
        Kind("Profile", "profiles", False),
        Kind("NetworkSet", "networksets", True),
        Kind("GlobalNetworkSet", "globalnetworksets", False),
        Kind("Node", "nodes", False),
        Kind("IPPool", "ippools", False),
        Kind("FelixConfiguration", "felixconfigurations", False),
        Kind("ClusterInformation", "clusterinformations", False),
        Kind("StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicies", False),
        Kind("StagedNetworkPolicy", "stagednetworkpolicies", True),
        Kind("StagedKubernetesNetworkPolicy", "stagedkubernetesnetworkpolicies", True),
        # Felix's own word for what it reads of a service; here the controller writes it for rules that name services.
        Kind("KubernetesEndpointSlice", "kubernetesendpointslices", True),
        Kind("KubeControllersConfiguration", "kubecontrollersconfigurations", False),
    )
}
_BY_PLURAL: Final = {kind.plural: kind for kind in KINDS.values()}


class ResourceKey(NamedTuple):
    """The identity of a stored resource. `namespace` is "" for cluster-scoped kinds; `name` is the stored name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind}({where})"


def parse(path: str) -> ResourceKey | None:
    """The resource that a datastore key names; None for any key that is not a resource of a known kind.

    A key with the wrong depth for its kind is no resource (A.1).
    """
    if not path.startswith(ROOT):
        return None
    parts = path[len(ROOT) :].split("/")
    kind = _BY_PLURAL.get(parts[0])
    if kind is None or "" in parts or len(parts) != (3 if kind.namespaced else 2):
        return None
    return ResourceKey(kind.name, parts[1] if kind.namespaced else "", parts[-1])


def path(key: ResourceKey) -> str:
    """The datastore key of a resource."""
    kind = KINDS[key.kind]
    middle = f"{key.namespace}/" if kind.namespaced else ""
    return f"{ROOT}{kind.plural}/{middle}{key.name}"


def prefix(kind: str) -> str:
    """The prefix under which all resources of a kind are stored; ends in "/" so that no sibling matches."""
    return f"{ROOT}{KINDS[kind].plural}/"
