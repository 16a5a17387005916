"""Pods of Kubernetes to the workload endpoints that Calico's network plugin keeps for them (`statements.md` kubernetes 1.5).

Pods in the host's own network have none, nor have those that aren't placed on a node yet: for them there is no document and no
problem. Unlike Calico's, an endpoint never takes the label of a service account from the pod's author. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha1
from typing import Any, Final

from hostward.convert import kubernetes_checks as checks
from hostward.convert import kubernetes_profiles as profiles
from hostward.convert import names, workload_names
from hostward.convert.defaults import NAMESPACE_LABEL, ORCHESTRATOR_LABEL
from hostward.convert.kubernetes_rules import Converted, Document, passes
from hostward.model import nets
from hostward.model.fields import Found, Problem, show
from hostward.model.keys import API_VERSION
from hostward.model.selector_scope import SERVICE_ACCOUNT

ENDPOINT: Final = "eth0"
_FINISHED: Final = ("Succeeded", "Failed", "Completed")
_LONGEST_ACCOUNT_LABEL: Final = 62
_ADDRESSES: Final = ("cni.projectcalico.org/podIPs", "cni.projectcalico.org/podIP", "vpc.amazonaws.com/pod-ips")
_REMOVED_WHEN_EMPTY: Final = ("cni.projectcalico.org/podIP", "vpc.amazonaws.com/pod-ips")
_CONTAINER: Final = "cni.projectcalico.org/containerID"
KEPT_ANNOTATIONS: Final = (*_ADDRESSES, _CONTAINER)
"""All annotations of a pod that matter here."""


def interface_name(namespace: str, pod: str, prefix: str) -> str:
    """The host's end of a pod's interface, as Calico's network plugin names it."""
    digest = sha1(f"{namespace}.{pod}".encode(), usedforsecurity=False).hexdigest()
    return f"{prefix}{digest[:11]}"


def to_v3(document: Document, namespace: str, interface_prefix: str) -> Converted:
    """The WorkloadEndpoint of a pod. None for a pod without one; none beside a problem with its name, labels or addresses."""
    found: Found = []
    meta = document.get("metadata")
    spec, status = document.get("spec"), document.get("status")
    spec, status = {} if spec is None else spec, {} if status is None else status
    understood = all(
        [
            passes(checks.namespaced_metadata, meta, "metadata", found),
            passes(checks.pod_spec, spec, "spec", found),
            passes(checks.pod_status, status, "status", found),
        ]
    )
    if not understood or not isinstance(meta, dict) or not isinstance(spec, dict) or not isinstance(status, dict):
        return Converted((), tuple(found))
    if spec.get("hostNetwork") or not spec.get("nodeName"):
        return Converted((), ())
    home, notes = meta.get("namespace") or namespace, meta.get("annotations") or {}
    account = spec.get("serviceAccountName") or ""
    addresses = _networks(meta, status, notes, found)
    if addresses is None:
        return Converted((), tuple(found))
    converted: Document = {
        "orchestrator": "k8s",
        "node": spec["nodeName"],
        "pod": meta["name"],
        "endpoint": ENDPOINT,
        "interfaceName": interface_name(home, meta["name"], interface_prefix),
        "ipNetworks": addresses,
        "profiles": [profiles.of_namespace(home), *([profiles.of_service_account(home, account)] if account else [])],
    }
    optional = {"containerID": notes.get(_CONTAINER), "serviceAccountName": account, "ports": list(_ports(spec, found))}
    converted |= {name: value for name, value in optional.items() if value}
    named = _named(converted, home, _labels(meta, home, account), found)
    return Converted((named,) if named else (), tuple(found))


def _named(spec: Document, namespace: str, labels: Document, found: Found) -> Document | None:
    name = workload_names.name_of(spec)
    if name is None:
        found.append(Problem("spec.nodeName", f"{show(spec['node'])} can't be part of an endpoint's name"))
        return None
    if reason := names.wrong_name(name):
        found.append(Problem("metadata.name", f"{name!r} is no name for this pod's endpoint: {reason}"))
        return None
    return {
        "apiVersion": API_VERSION,
        "kind": workload_names.KIND,
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": spec,
    }


def _labels(meta: Document, namespace: str, account: str) -> Document:
    """The pod's labels and those that selectors trust, which a pod's author can't choose."""
    own = {key: value for key, value in (meta.get("labels") or {}).items() if key != SERVICE_ACCOUNT}
    trusted = {NAMESPACE_LABEL: namespace, ORCHESTRATOR_LABEL: "k8s"}
    if 0 < len(account) <= _LONGEST_ACCOUNT_LABEL:
        trusted[SERVICE_ACCOUNT] = account
    return own | trusted


def _networks(meta: Document, status: Document, notes: Document, found: Found) -> list[str] | None:
    """The pod's addresses as networks of one address; none once they are given back. None when one isn't understood."""
    addresses = [] if _is_finished(meta, status, notes) else _addresses(status, notes)
    networks = [nets.parse_net(address.strip()) for address in addresses]
    for address, network in zip(addresses, networks, strict=True):
        if network is None or not network.endswith("/128" if nets.family(network) == 6 else "/32"):
            found.append(Problem("status.podIP", f"{show(address)} is no address"))
            return None
    return [network for network in networks if network]


def _addresses(status: Document, notes: Document) -> list[str]:
    several = [one["ip"] for one in status.get("podIPs") or () if one.get("ip")]
    if several:
        return several
    noted = [status.get("podIP"), *(notes.get(name) for name in _ADDRESSES)]
    return next((text.split(",") for text in noted if text), [])


def _is_finished(meta: Document, status: Document, notes: Document) -> bool:
    """Whether the pod has lost its addresses: it ended, or its network plugin says so. A terminating pod keeps them."""
    removed = bool(meta.get("deletionTimestamp")) and any(notes.get(name) == "" for name in _REMOVED_WHEN_EMPTY)
    return removed or status.get("phase") in _FINISHED


def _ports(spec: Document, found: Found) -> Iterator[Document]:
    """The ports of all containers that have a name or a port of the host."""
    for group in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(group) or ()):
            for place, port in enumerate(container.get("ports") or ()):
                path = f"spec.{group}[{index}].ports[{place}]"
                if passes(checks.container_port, port, path, found, "this port is left out") and _matters(port):
                    yield _port(port)


def _matters(port: Document) -> bool:
    return bool(port.get("name") or port.get("hostPort"))


def _port(port: dict[str, Any]) -> Document:
    kept = {name: port[name] for name in ("name", "hostPort", "hostIP") if port.get(name)}
    return kept | {"protocol": port.get("protocol") or "TCP", "port": port["containerPort"]}
