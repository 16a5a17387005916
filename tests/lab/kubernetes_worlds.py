"""Random Kubernetes clusters, small and full of coincidences, and packets between what is in them.

Labels have prefixes and dots, pods have an address of each family, and the same port name means another number on another pod.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from tests.lab.pod_model import Packet

Object = dict[str, Any]
KEYS = ("app", "app.kubernetes.io/name", "k8s.example.com/in", "not.a-word_x", "in")
VALUES = ("a", "b", "")
NAMESPACES = ("shop", "bank", "prod-1")
OUTSIDE = ("192.0.2.7", "2001:db8:f::7")
PROTOCOLS = ("TCP", "UDP", "SCTP")
PORT_NAMES = ("web", "dns", "x-y1")
NETS = (
    ("0.0.0.0/0", ["10.1.0.0/16", "10.1.2.0/24", "192.0.2.0/28"]),
    ("10.1.0.7/16", ["10.1.0.0/24", "10.1.0.16/28", "10.1.1.0/25"]),
    ("192.0.2.0/24", ["192.0.2.7/32"]),
    ("::/0", ["2001:db8:1::/48", "2001:db8:f::/64"]),
    ("2001:db8:1::5/48", ["2001:db8:1:2::/64", "2001:db8:1::/50"]),
)


def labels(random: Random) -> dict[str, str]:
    return {key: random.choice(VALUES) for key in KEYS if random.random() < 0.6}


def selector(random: Random) -> Object:
    found: Object = {}
    if random.random() < 0.4:
        found["matchLabels"] = {random.choice(KEYS): random.choice(VALUES)}
    if random.random() < 0.6:
        found["matchExpressions"] = [expression(random) for _ in range(random.randint(1, 2))]
    return found


def expression(random: Random) -> Object:
    operator = random.choice(("In", "NotIn", "Exists", "DoesNotExist"))
    values = {"values": random.sample(VALUES, random.randint(1, 2))} if operator.endswith("In") else {}
    return {"key": random.choice(KEYS), "operator": operator} | values


def peer(random: Random) -> Object:
    if random.random() < 0.35:
        cidr, exceptions = random.choice(NETS)
        chosen = random.sample(exceptions, random.randint(0, len(exceptions)))
        return {"ipBlock": {"cidr": cidr} | ({"except": chosen} if chosen else {})}
    kinds = random.choice((("podSelector",), ("namespaceSelector",), ("podSelector", "namespaceSelector")))
    return {kind: selector(random) for kind in kinds}


def port(random: Random) -> Object:
    entry: Object = {"protocol": random.choice(PROTOCOLS)} if random.random() < 0.7 else {}
    chosen = random.randint(0, 4)
    if chosen <= 1:
        entry["port"] = random.randint(1, 9)
    elif chosen == 2:
        first = random.randint(1, 9)
        entry |= {"port": first, "endPort": random.randint(first, 9)}
    elif chosen == 3:
        entry["port"] = random.choice(PORT_NAMES)
    return entry


def rule(random: Random, peers: str) -> Object:
    found: Object = {}
    if random.random() < 0.7:
        found["ports"] = [port(random) for _ in range(random.randint(0, 4))]
    if random.random() < 0.8:
        found[peers] = [peer(random) for _ in range(random.randint(0, 3))]
    return found


def policy(random: Random, name: str) -> Object:
    spec: Object = {"podSelector": selector(random) if random.random() < 0.6 else {}}
    for way, peers in (("ingress", "from"), ("egress", "to")):
        if random.random() < 0.8:
            spec[way] = [rule(random, peers) for _ in range(random.randint(0, 3))]
    if random.random() < 0.8:
        spec["policyTypes"] = random.choice((["Ingress"], ["Egress"], ["Egress", "Ingress"]))
    metadata = {"name": name, "namespace": random.choice(NAMESPACES)}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def cluster(random: Random, policies: int) -> list[Object]:
    found: list[Object] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels(random)}} for name in NAMESPACES
    ]
    for place, namespace in enumerate(NAMESPACES):
        for number in range(2):
            ports = [
                {"name": name, "protocol": random.choice(PROTOCOLS), "containerPort": random.randint(1, 9)}
                for name in PORT_NAMES
            ]
            addresses = f"10.1.{place}.{16 + number}", f"2001:db8:1:{place + 1}::{number + 1}"
            found.append(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": f"pod-{number}", "namespace": namespace, "labels": labels(random)},
                    "spec": {"nodeName": "w1", "containers": [{"name": "c", "ports": ports}]},
                    "status": {"podIPs": [{"ip": address} for address in addresses]},
                }
            )
    return found + [policy(random, f"p{number}") for number in range(policies)]


def packets(random: Random, objects: list[Object], most: int) -> Iterator[Packet]:
    """Between pods, and between pods and the outside, each within one family; ICMP too."""
    inside = [ip["ip"] for one in objects if one["kind"] == "Pod" for ip in one["status"]["podIPs"]]
    for _ in range(most):
        own = random.choice(inside)
        other = random.choice([one for one in (*inside, *OUTSIDE) if (":" in one) == (":" in own)])
        source, destination = random.choice(((own, other), (other, own)))
        protocol = random.choice((*PROTOCOLS, *PROTOCOLS, "ICMP"))
        yield Packet(source, destination, protocol, 0 if protocol == "ICMP" else random.randint(1, 9))
