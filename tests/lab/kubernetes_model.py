"""What Kubernetes NetworkPolicies say about one packet, straight from Kubernetes' objects and its documentation.

Knows nothing of Calico: the verdicts that converted policies are held to. Objects are well-formed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from tests.lab.pod_model import Packet

Object = Mapping[str, Any]
WAYS = {"ingress": ("Ingress", "from"), "egress": ("Egress", "to")}


class Cluster:
    """Namespaces, pods and policies at one moment."""

    def __init__(self, objects: Iterable[Object]) -> None:
        found = list(objects)
        self.namespaces = {
            one["metadata"]["name"]: one["metadata"].get("labels", {}) for one in found if one["kind"] == "Namespace"
        }
        self.policies = [one for one in found if one["kind"] == "NetworkPolicy"]
        self.by_address = {ip["ip"]: one for one in found if one["kind"] == "Pod" for ip in one["status"]["podIPs"]}

    def verdict(self, packet: Packet) -> tuple[bool, bool]:
        """Whether the destination lets it in and whether the source lets it out; True for an address that is no pod's."""
        return (
            self._allowed("ingress", packet.destination, packet.source, packet),
            self._allowed("egress", packet.source, packet.destination, packet),
        )

    def _allowed(self, way: str, own: str, other: str, packet: Packet) -> bool:
        pod = self.by_address.get(own)
        mine = [one for one in self.policies if pod is not None and self._isolates(one, way, pod)]
        return not mine or any(
            self._rule_allows(one, rule, way, other, packet) for one in mine for rule in one["spec"].get(way, ())
        )

    def _isolates(self, policy: Object, way: str, pod: Object) -> bool:
        spec = policy["spec"]
        here = policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
        return here and WAYS[way][0] in spec.get("policyTypes", ["Ingress"]) and _selects(spec["podSelector"], _labels(pod))

    def _rule_allows(self, policy: Object, rule: Object, way: str, other: str, packet: Packet) -> bool:
        peers, ports = rule.get(WAYS[way][1]) or (), rule.get("ports") or ()
        home = policy["metadata"]["namespace"]
        on_peers = not peers or any(self._is_peer(peer, home, other) for peer in peers)
        return on_peers and (not ports or any(self._is_port(port, packet) for port in ports))

    def _is_peer(self, peer: Object, home: str, address: str) -> bool:
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            return _inside(address, block["cidr"]) and not any(_inside(address, net) for net in block.get("except", ()))
        if (pod := self.by_address.get(address)) is None:
            return False
        namespace = pod["metadata"]["namespace"]
        if "namespaceSelector" in peer:
            in_namespace = _selects(peer["namespaceSelector"], self.namespaces[namespace])
        else:
            in_namespace = namespace == home
        return in_namespace and _selects(peer.get("podSelector", {}), _labels(pod))

    def _is_port(self, entry: Object, packet: Packet) -> bool:
        if entry.get("protocol", "TCP") != packet.protocol:
            return False
        port = entry.get("port")
        if isinstance(port, str):
            pod = self.by_address.get(packet.destination, {"spec": {"containers": []}})
            served = [one for container in pod["spec"]["containers"] for one in container["ports"]]
            return (port, packet.protocol, packet.port) in [
                (one["name"], one["protocol"], one["containerPort"]) for one in served
            ]
        return port is None or port <= packet.port <= entry.get("endPort", port)


def _labels(pod: Object) -> Mapping[str, str]:
    return pod["metadata"].get("labels", {})  # type: ignore[no-any-return] # objects are plain JSON


def _inside(address: str, net: str) -> bool:
    return ip_address(address) in ip_network(net, strict=False)


def _selects(selector: Object, labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items()
    return all(labels.get(key) == value for key, value in wanted) and all(
        _holds(one["operator"], labels.get(one["key"]), one.get("values", ())) for one in selector.get("matchExpressions", ())
    )


def _holds(operator: str, own: str | None, values: Sequence[str]) -> bool:
    answers = {"In": own in values, "NotIn": own not in values, "Exists": own is not None, "DoesNotExist": own is None}
    return answers[operator]
