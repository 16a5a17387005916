"""Which resources of Kubernetes are watched for which controller, and what of their objects is kept. Pure; any thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hostward.convert.kubernetes_pods import KEPT_ANNOTATIONS
from hostward.kube.watching import Object, Resource

_ADMIN: Final = "/apis/policy.networking.k8s.io"
CONTROLLERS: Final[Mapping[str, tuple[Resource, ...]]] = {
    "policy": (Resource("/apis/networking.k8s.io/v1", "networkpolicies", "NetworkPolicy"),),
    "namespace": (Resource("/api/v1", "namespaces", "Namespace", namespaced=False),),
    "serviceaccount": (Resource("/api/v1", "serviceaccounts", "ServiceAccount"),),
    "workloadendpoint": (Resource("/api/v1", "pods", "Pod"),),
    "node": (Resource("/api/v1", "nodes", "Node", namespaced=False),),
    "service": (
        Resource("/apis/discovery.k8s.io/v1", "endpointslices", "EndpointSlice", older=("/apis/discovery.k8s.io/v1beta1",)),
    ),
    "admin": (
        Resource(f"{_ADMIN}/v1alpha1", "adminnetworkpolicies", "AdminNetworkPolicy", namespaced=False),
        Resource(f"{_ADMIN}/v1alpha1", "baselineadminnetworkpolicies", "BaselineAdminNetworkPolicy", namespaced=False),
        Resource(f"{_ADMIN}/v1alpha2", "clusternetworkpolicies", "ClusterNetworkPolicy", namespaced=False),
    ),
}
"""The controllers by the names that Calico's have in ENABLED_CONTROLLERS, and two of ours: `service` and `admin`."""

_METADATA: Final = ("name", "namespace", "labels", "deletionTimestamp")
_KEPT: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "Namespace": {},
    "ServiceAccount": {},
    "Pod": {"spec": ("nodeName", "hostNetwork", "serviceAccountName"), "status": ("podIP", "podIPs", "phase")},
    "Node": {"status": ("addresses",)},
    "EndpointSlice": {},
}
"""Kinds of which not everything matters, and what of `spec` and `status` does: there may be very many, and memory is dear."""


def projected(value: Object) -> Object:
    """An object without what no decision looks at, such as managed fields and, of a pod, its containers. Never raises."""
    kept: dict[str, Any] = {name: value[name] for name in ("apiVersion", "kind") if name in value}
    metadata = value.get("metadata")
    kept["metadata"] = _metadata(metadata) if isinstance(metadata, dict) else metadata
    kind = value.get("kind")
    parts = _KEPT.get(kind) if isinstance(kind, str) else None
    if parts is None:
        return kept | {name: value[name] for name in ("spec",) if name in value}
    for part, names in parts.items():
        whole = value.get(part)
        kept[part] = {name: whole[name] for name in names if name in whole} if isinstance(whole, dict) else whole
    if kind == "EndpointSlice":
        kept |= {name: value[name] for name in ("addressType", "endpoints", "ports") if name in value}
        if isinstance(kept.get("endpoints"), list):
            kept["endpoints"] = [_addresses(one) for one in kept["endpoints"]]
    return kept


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: metadata[name] for name in _METADATA if name in metadata}
    notes = metadata.get("annotations")
    if isinstance(notes, dict) and (some := {name: notes[name] for name in KEPT_ANNOTATIONS if name in notes}):
        kept["annotations"] = some
    return kept


def _addresses(endpoint: object) -> object:
    return {"addresses": endpoint.get("addresses")} if isinstance(endpoint, dict) else endpoint
