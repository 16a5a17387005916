"""Documents as a writer stores them, by key, for tests of the whole agent. Nothing here owes anything to our own encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ROOT = "/calico/resources/v3/projectcalico.org/"
CLUSTER = f"{ROOT}clusterinformations/default"
GUID = "6c1d0e3f7a5b4c2d8e9f0a1b2c3d4e5f"
WORKER = "role == 'worker'"
Document = dict[str, Any]


def cluster(guid: str = GUID, *, ready: bool = True) -> Document:
    """ClusterInformation."""
    spec = {"clusterGUID": guid, "clusterType": "hostward", "datastoreReady": ready}
    return {"kind": "ClusterInformation", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "default"}, "spec": spec}


def policy_key(name: str, tier: str = "default") -> str:
    return f"{ROOT}globalnetworkpolicies/{tier}.{name}"


def policy(name: str, order: float, ingress: Sequence[Mapping[str, Any]], *, tier: str = "default", **spec: Any) -> Document:
    """A policy for the worker's interfaces; `spec` adds or replaces fields."""
    return {
        "kind": "GlobalNetworkPolicy",
        "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": f"{tier}.{name}"},
        "spec": {"tier": tier, "order": order, "selector": WORKER, "types": ["Ingress"], "ingress": list(ingress), **spec},
    }


def endpoint_key(name: str) -> str:
    return f"{ROOT}hostendpoints/{name}"


def endpoint(name: str, interface: str | None, *, node: str = "worker", **spec: Any) -> Document:
    """A host endpoint with the label that policies select."""
    fields = {"node": node, **({"interfaceName": interface} if interface else {}), **spec}
    return {
        "kind": "HostEndpoint",
        "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": name, "labels": {"role": "worker"}},
        "spec": fields,
    }


def set_key(name: str) -> str:
    return f"{ROOT}globalnetworksets/{name}"


def network_set(name: str, labels: Mapping[str, str], nets: Sequence[str]) -> Document:
    return {
        "kind": "GlobalNetworkSet",
        "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {"nets": list(nets)},
    }


def tier_key(name: str) -> str:
    return f"{ROOT}tiers/{name}"


def tier(name: str, order: float, default_action: str = "Deny") -> Document:
    return {
        "kind": "Tier",
        "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": name},
        "spec": {"order": order, "defaultAction": default_action},
    }


def to_ports(action: str, ports: Sequence[int | str], protocol: str = "UDP", **source: Any) -> Document:
    """A rule on destination ports; `source` is its source block."""
    rule: Document = {"action": action, "protocol": protocol, "destination": {"ports": list(ports)}}
    return rule | ({"source": source} if source else {})
