"""What is stored for a benchmark: one guarded interface, a number of policies of fixed shapes, and one that is changed.

The same number gives the same documents. Nothing here knows how they are enforced.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

ROOT = "/calico/resources/v3/projectcalico.org/"
PORT = 7777
"""The UDP port that the changed policy opens and closes."""
NETWORK_SETS = 10
NETS_IN_A_SET = 100
Document = dict[str, Any]


def _document(kind: str, name: str, spec: Document, labels: dict[str, str] | None = None) -> Document:
    metadata: Document = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}


def _policy(name: str, order: float, rule: Document) -> tuple[str, Document]:
    spec = {"tier": "default", "order": order, "selector": "role == 'worker'", "types": ["Ingress"], "ingress": [rule]}
    return f"{ROOT}globalnetworkpolicies/default.{name}", _document("GlobalNetworkPolicy", f"default.{name}", spec)


def policy(number: int) -> tuple[str, Document]:
    """Policy `number` of one of four shapes: a port, a port from a net, a port from some nets, a port from a network set."""
    rule: Document = {"action": "Allow", "protocol": "TCP", "destination": {"ports": [10_000 + number % 20_000]}}
    third, fourth = number // 250 % 250, number % 250
    match number % 4:
        case 1:
            rule["source"] = {"nets": [f"198.18.{third}.{fourth}/32"]}
        case 2:
            rule["source"] = {"nets": [f"198.19.{third}.{fourth}/32", "10.200.0.0/16", f"fd77:{number:x}::/64", "fd78::/64"]}
        case 3:
            rule["source"] = {"selector": f"number == '{number // 4 % NETWORK_SETS}'"}
    return _policy(f"p{number:05}", float(number), rule)


def changed_policy(policies: int, *, opened: bool) -> tuple[str, Document]:
    """The policy in the middle that lets the port's datagrams in, or not."""
    action = "Allow" if opened else "Deny"
    return _policy("changed", policies / 2 + 0.5, {"action": action, "protocol": "UDP", "destination": {"ports": [PORT]}})


def documents(policies: int) -> Iterator[tuple[str, Document]]:
    """Everything, with `policies` policies, the changed one among them and closed."""
    cluster = {"clusterGUID": "00112233445566778899aabbccddeeff", "clusterType": "hostward", "datastoreReady": True}
    yield f"{ROOT}clusterinformations/default", _document("ClusterInformation", "default", cluster)
    endpoint = {"node": "worker", "interfaceName": "eth0"}
    yield f"{ROOT}hostendpoints/worker-eth0", _document("HostEndpoint", "worker-eth0", endpoint, {"role": "worker"})
    for number in range(NETWORK_SETS):
        nets = [f"10.{number}.{last}.0/24" for last in range(NETS_IN_A_SET // 2)]
        nets += [f"fd99:{number}:{last:x}::/64" for last in range(NETS_IN_A_SET // 2)]
        spec = {"nets": nets}
        yield f"{ROOT}globalnetworksets/n{number}", _document("GlobalNetworkSet", f"n{number}", spec, {"number": str(number)})
    for number in range(policies - 1):
        yield policy(number)
    yield changed_policy(policies, opened=False)
