"""The cluster for what the public data leaves out (`statements.md` kubernetes 2.4), and the parts that its cases are made of.

Pods with addresses of both families or of one alone, with ports of the same name and other numbers; labels with prefixes and
dots.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.lab.pipeline import NODE
from tests.lab.pod_model import Packet
from tests.lab.podnode import OUTSIDE

Object = dict[str, Any]
WEB, WEB6 = "10.244.1.1", "2001:db8:1::1"
API, API6 = "10.244.1.17", "2001:db8:1:2::17"
DB, DB6 = "10.244.2.1", "2001:db8:2::1"
OLD, NEW6 = "10.244.1.130", "2001:db8:1::130"
OUT, OUT6 = OUTSIDE
PODS: Final = {
    "shop/web": (WEB, WEB6),
    "shop/api": (API, API6),
    "bank/db": (DB, DB6),
    "shop/old": (OLD,),
    "shop/new": (NEW6,),
}
ODD: Final = tuple(range(7001, 7041, 2))
TCP: Final = (80, 81, 8080, 9000, *range(7000, 7043))
UDP: Final = (53, 80, 81)
"""What everybody serves. More than a pod's named ports: whether a packet passes is up to policies alone."""


@dataclass(frozen=True)
class Case:
    """Objects that stand beside `CLUSTER`, and packets. `plain`: of Kubernetes' own policies alone, so its model has a say."""

    name: str
    objects: Sequence[Object]
    passes: Sequence[Packet] = ()
    denied: Sequence[Packet] = ()

    @property
    def cluster(self) -> list[Object]:
        """All objects."""
        return [*CLUSTER, *self.objects]

    @property
    def plain(self) -> bool:
        """Whether it holds nothing but NetworkPolicies."""
        return all(one["kind"] == "NetworkPolicy" and one["apiVersion"] == NETWORKING for one in self.objects)

    def asked(self) -> list[tuple[Packet, bool]]:
        """All packets with whether they pass."""
        return [*((packet, True) for packet in self.passes), *((packet, False) for packet in self.denied)]


# --- objects ----------------------------------------------------------------------------------------------------------------
NETWORKING: Final = "networking.k8s.io/v1"
CALICO: Final = "projectcalico.org/v3"


def port(name: str, protocol: str, number: int) -> Object:
    return {"name": name, "protocol": protocol, "containerPort": number}


def pod(name: str, ports: Sequence[Object] = (), **labels: str) -> Object:
    namespace, _, own = name.partition("/")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": own, "namespace": namespace, "labels": {"app": own} | labels},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "ports": list(ports)}]},
        "status": {"phase": "Running", "podIPs": [{"ip": address} for address in PODS[name]]},
    }


def namespace(name: str, **labels: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


CLUSTER: Final = (
    namespace("shop", team="x"),
    namespace("bank", **{"corp.example.com/tier.name": "b_1.x", "team": "y"}),
    pod("shop/web", [port("http", "TCP", 80), port("dns", "UDP", 53)]),
    pod("shop/api", [port("http", "TCP", 8080), port("dns", "TCP", 81)], **{"app.kubernetes.io/empty": ""}),
    pod("bank/db", [port("http", "TCP", 81)], **{"app.kubernetes.io/part-of": "ledger.v2_x"}),
    pod("shop/old"),
    pod("shop/new"),
)


def policy(rules: Iterable[Object], way: str = "ingress", app: str | None = "web", name: str = "p") -> Object:
    """A NetworkPolicy in `shop`."""
    selected = {"matchLabels": {"app": app}} if app else {}
    spec = {"podSelector": selected, "policyTypes": [way.capitalize()], way: list(rules)}
    return {"apiVersion": NETWORKING, "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "shop"}, "spec": spec}


def calico(kind: str, name: str, /, **spec: Any) -> Object:
    """A v3 document; a NetworkPolicy is in `shop`."""
    metadata = {"name": name} | ({"namespace": "shop"} if kind == "NetworkPolicy" else {})
    return {"apiVersion": CALICO, "kind": kind, "metadata": metadata, "spec": spec}


def admin(kind: str, version: str, /, **spec: Any) -> Object:
    """A policy of administrators for all pods of `shop`."""
    subject = {"namespaces": {"matchLabels": {"team": "x"}}}
    api = f"policy.networking.k8s.io/{version}"
    name = "default" if kind.startswith("Baseline") else "first"
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": {"subject": subject} | spec}


def app(value: str) -> Object:
    return {"podSelector": {"matchLabels": {"app": value}}}


def expression(key: str, operator: str, *values: str, of: str = "podSelector") -> Object:
    """A peer chosen by one expression."""
    one = {"key": key, "operator": operator} | ({"values": list(values)} if values else {})
    return {of: {"matchExpressions": [one]}}


def in_blocks(*blocks: Object) -> list[Object]:
    return [{"from": [{"ipBlock": block} for block in blocks]}]


def tcp(source: str, destination: str, number: int = 80) -> Packet:
    return Packet(source, destination, "TCP", number)


def every_way(source: str, destination: str) -> list[Packet]:
    """A packet of each kind."""
    return [*(Packet(source, destination, protocol, 80) for protocol in ("TCP", "UDP", "SCTP")), ping(source, destination)]


def udp(source: str, destination: str, number: int = 80) -> Packet:
    return Packet(source, destination, "UDP", number)


def ping(source: str, destination: str) -> Packet:
    return Packet(source, destination, "ICMP")


FROM_API = policy([{"from": [app("api")]}])
BY_API, BY_DB = [tcp(API, WEB), tcp(API6, WEB6)], [tcp(DB, WEB), tcp(DB6, WEB6)]
