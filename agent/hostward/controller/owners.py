"""What in the store belongs to the controller, and to which object of Kubernetes (kubernetes 1.1, 1.6). Pure; any thread.

Ownership is by name, but for Nodes, which are Calico's and only get labels, and HostEndpoints, which a label tells apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hostward.controller.items import Document, Item
from hostward.convert import kubernetes_admin, kubernetes_networkpolicy, kubernetes_nodes, kubernetes_profiles, workload_names
from hostward.model.keys import ResourceKey

SLICE: Final = "KubernetesEndpointSlice"
CREATED_BY: Final = "projectcalico.org/created-by"
CREATOR: Final = "calico-kube-controllers"
"""The label of automatic host endpoints, and its value: Calico's own, so that either controller takes over from the other."""
TIERS: Final[Mapping[str, tuple[str, ...]]] = {
    kubernetes_admin.ADMIN_TIER: ("AdminNetworkPolicy",),
    kubernetes_admin.BASELINE_TIER: ("BaselineAdminNetworkPolicy",),
}
"""Tiers that are made for policies of these kinds. They are never removed: users' policies may be in them."""
_GLOBAL_POLICIES: Final = {
    "AdminNetworkPolicy": kubernetes_admin.ADMIN_PREFIX,
    "BaselineAdminNetworkPolicy": kubernetes_admin.BASELINE_PREFIX,
    "ClusterNetworkPolicy": kubernetes_admin.CLUSTER_PREFIX,
}
KINDS: Final = frozenset(
    ("NetworkPolicy", "GlobalNetworkPolicy", "Tier", "Profile", "WorkloadEndpoint", "Node", "HostEndpoint", SLICE)
)
"""The kinds of stored resources that the controller writes some of."""


def key_of(item: Item) -> ResourceKey:
    """Where the copy of an object is stored; of the kinds that have exactly one under a name of their own."""
    match item.kind:
        case "NetworkPolicy":
            return ResourceKey("NetworkPolicy", item.namespace, f"{kubernetes_networkpolicy.PREFIX}{item.name}")
        case "Namespace":
            return ResourceKey("Profile", "", kubernetes_profiles.of_namespace(item.name))
        case "ServiceAccount":
            return ResourceKey("Profile", "", kubernetes_profiles.of_service_account(item.namespace, item.name))
        case "EndpointSlice":
            return ResourceKey(SLICE, item.namespace, item.name)
        case _:
            return ResourceKey("GlobalNetworkPolicy", "", f"{_GLOBAL_POLICIES[item.kind]}{item.name}")


def item_of(key: ResourceKey) -> Item | None:
    """The object that a stored resource is a copy of, or gets labels from; None for what belongs to nobody or to several."""
    match key.kind:
        case "NetworkPolicy" if key.name.startswith(kubernetes_networkpolicy.PREFIX):
            return Item("NetworkPolicy", key.namespace, key.name.removeprefix(kubernetes_networkpolicy.PREFIX))
        case "Profile":
            return _item_of_profile(key.name)
        case "GlobalNetworkPolicy":
            for kind, prefix in _GLOBAL_POLICIES.items():
                if key.name.startswith(prefix):
                    return Item(kind, "", key.name.removeprefix(prefix))
        case "WorkloadEndpoint":
            parts = workload_names.parts_of(key.name)
            if parts is not None and parts[1] == kubernetes_nodes.ORCHESTRATOR:
                return Item("Pod", key.namespace, parts[2])
        case _ if key.kind == SLICE:
            return Item("EndpointSlice", key.namespace, key.name)
    return None


def _item_of_profile(name: str) -> Item | None:
    if name.startswith(kubernetes_profiles.NAMESPACE):
        return Item("Namespace", "", name.removeprefix(kubernetes_profiles.NAMESPACE))
    if name.startswith(kubernetes_profiles.SERVICE_ACCOUNT):
        # A namespace has no dots, an account may.
        namespace, dot, account = name.removeprefix(kubernetes_profiles.SERVICE_ACCOUNT).partition(".")
        return Item("ServiceAccount", namespace, account) if dot and namespace and account else None
    return None


def is_ours(key: ResourceKey) -> bool:
    """Whether decisions look at what is stored under a key at all."""
    return key.kind in ("Node", "HostEndpoint") or key.name in TIERS or item_of(key) is not None


def is_automatic(document: Document | None) -> bool:
    """Whether a stored HostEndpoint was made by this controller or Calico's (kubernetes 1.6)."""
    labels = _mapping(_mapping(document).get("metadata")).get("labels")
    return _mapping(labels).get(CREATED_BY) == CREATOR


def node_of(document: Document | None) -> str | None:
    """The Calico Node that a stored HostEndpoint is of."""
    node = _mapping(_mapping(document).get("spec")).get("node")
    return node if isinstance(node, str) and node else None


def kubernetes_node_of(name: str, document: Document | None) -> str | None:
    """The node of Kubernetes that the stored Node `name` stands for; None for one that stands for none."""
    references = _mapping(_mapping(document).get("spec")).get("orchRefs")
    for one in references if isinstance(references, list) else ():
        if isinstance(one, dict) and one.get("orchestrator") == kubernetes_nodes.ORCHESTRATOR:
            node = one.get("nodeName")
            return node if isinstance(node, str) and node else name
    return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
