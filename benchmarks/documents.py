"""Documents as Calico's writers store them in etcd: one function a kind, each with its key. Knows no workload and no agent."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

ROOT = "/calico/resources/v3/projectcalico.org/"
NODE = "worker"
NAMESPACE = "projectcalico.org/namespace"
ORCHESTRATOR = "projectcalico.org/orchestrator"
Document = dict[str, Any]
Stored = tuple[str, Document]
"""A key and what is stored there."""


def _document(kind: str, metadata: Document, spec: Document) -> Document:
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}


def cluster() -> Stored:
    """ClusterInformation: the store may be relied on."""
    spec = {"clusterGUID": "00112233445566778899aabbccddeeff", "clusterType": "hostward", "datastoreReady": True}
    return f"{ROOT}clusterinformations/default", _document("ClusterInformation", {"name": "default"}, spec)


def settings(**fields: object) -> Stored:
    """FelixConfiguration for all nodes."""
    return f"{ROOT}felixconfigurations/default", _document("FelixConfiguration", {"name": "default"}, dict(fields))


def host_endpoint(name: str, labels: dict[str, str], **spec: object) -> Stored:
    """A host endpoint of the node."""
    document = _document("HostEndpoint", {"name": name, "labels": labels}, {"node": NODE, **spec})
    return f"{ROOT}hostendpoints/{name}", document


def network_set(name: str, labels: dict[str, str], nets: Sequence[str]) -> Stored:
    """A GlobalNetworkSet."""
    document = _document("GlobalNetworkSet", {"name": name, "labels": labels}, {"nets": list(nets)})
    return f"{ROOT}globalnetworksets/{name}", document


def profile(namespace: str) -> Stored:
    """The profile of a namespace: without policy, everything is allowed."""
    spec = {"ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}], "labelsToApply": {"pcns.team": namespace}}
    return f"{ROOT}profiles/kns.{namespace}", _document("Profile", {"name": f"kns.{namespace}"}, spec)


def global_policy(name: str, order: float, selector: str, **spec: object) -> Stored:
    """A GlobalNetworkPolicy; its types are the directions given."""
    return (
        f"{ROOT}globalnetworkpolicies/default.{name}",
        _document("GlobalNetworkPolicy", {"name": f"default.{name}"}, _policy_spec(order, selector, spec)),
    )


def policy(namespace: str, name: str, order: float, selector: str, **spec: object) -> Stored:
    """A NetworkPolicy of a namespace."""
    return (
        f"{ROOT}networkpolicies/{namespace}/{name}",
        _document("NetworkPolicy", {"name": name, "namespace": namespace}, _policy_spec(order, selector, spec)),
    )


def _policy_spec(order: float, selector: str, spec: Document) -> Document:
    types = [direction.capitalize() for direction in ("ingress", "egress") if direction in spec]
    return {"tier": "default", "order": order, "selector": selector, "types": types, **spec}


def interface_of(namespace: str, pod: str) -> str:
    """The host's end of a pod's interface, as Calico's network plugin names it."""
    return f"cali{sha1(f'{namespace}.{pod}'.encode(), usedforsecurity=False).hexdigest()[:11]}"


def workload_endpoint(
    namespace: str, pod: str, addresses: Sequence[str], labels: dict[str, str], *, interface: str = ""
) -> Stored:
    """A pod of the node, as Calico's network plugin writes it."""
    name = f"{NODE}-k8s-{pod.replace('-', '--')}-eth0"
    own = {**labels, NAMESPACE: namespace, ORCHESTRATOR: "k8s"}
    spec = {
        "orchestrator": "k8s", "node": NODE, "pod": pod, "endpoint": "eth0",
        "interfaceName": interface or interface_of(namespace, pod),
        "ipNetworks": [f"{address}/{128 if ':' in address else 32}" for address in addresses],
        "profiles": [f"kns.{namespace}"],
    }  # fmt: skip
    metadata = {"name": name, "namespace": namespace, "labels": own}
    return f"{ROOT}workloadendpoints/{namespace}/{name}", _document("WorkloadEndpoint", metadata, spec)


def rule(action: str = "Allow", protocol: str = "", ports: Sequence[int | str] = (), **fields: object) -> Document:
    """A rule; `ports` are destination ports."""
    found: Document = {"action": action, **fields}
    if protocol:
        found["protocol"] = protocol
    if ports:
        found["destination"] = {**found.get("destination", {}), "ports": list(ports)}
    return found
