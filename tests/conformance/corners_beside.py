"""NetworkPolicies beside others: Calico's in their tier, administrators' in tiers before and after; services in rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tests.conformance.corner_cluster import (
    API,
    API6,
    BY_API,
    BY_DB,
    CALICO,
    DB,
    DB6,
    FROM_API,
    OLD,
    OUT,
    WEB,
    WEB6,
    Case,
    Object,
    admin,
    calico,
    every_way,
    ping,
    policy,
    tcp,
    udp,
)


def among(order: float | None, action: str) -> Object:
    """A Calico policy for `web` beside Kubernetes' ones."""
    rest = {} if order is None else {"order": order}
    return calico("NetworkPolicy", "mine", selector="app == 'web'", types=["Ingress"], ingress=[{"action": action}], **rest)


BOTH = [*BY_API, *BY_DB]
ORDER = [
    Case("a Calico policy of order 900 denies first", [FROM_API, among(900, "Deny")], [], BOTH),
    Case("one of order 1100 comes too late to deny", [FROM_API, among(1100, "Deny")], BY_API, BY_DB),
    Case("one of order 900 allows first", [FROM_API, among(900, "Allow")], BOTH),
    Case("one of order 1100 allows what is left", [FROM_API, among(1100, "Allow")], BOTH),
    Case("one without order comes last", [FROM_API, among(None, "Deny")], BY_API, BY_DB),
    Case("one of order 900 passes: the namespace's profile allows", [FROM_API, among(900, "Pass")], BOTH),
]
FROM_BANK = {"from": [{"namespaces": {"matchLabels": {"team": "y"}}}]}


def cluster_policy(tier: str, action: str, **rule: Any) -> Object:
    return admin("ClusterNetworkPolicy", "v1alpha2", tier=tier, priority=7, ingress=[{"action": action} | FROM_BANK | rule])


def admin_policy(action: str, **rule: Any) -> Object:
    return admin("AdminNetworkPolicy", "v1alpha1", priority=7, ingress=[{"action": action} | FROM_BANK | rule])


def baseline_policy(action: str) -> Object:
    return admin("BaselineAdminNetworkPolicy", "v1alpha1", ingress=[{"action": action} | FROM_BANK])


def before(name: str, accept: str, made: Callable[[str], Object]) -> list[Case]:
    """Cases of a tier that comes before NetworkPolicies."""
    return [
        Case(f"{name}: {accept} before a NetworkPolicy that doesn't", [FROM_API, made(accept)], BOTH, [tcp(OLD, WEB)]),
        Case(f"{name}: Deny before one that allows", [policy([{}]), made("Deny")], BY_API, BY_DB),
        Case(f"{name}: Pass leaves it to the NetworkPolicy", [FROM_API, made("Pass")], BY_API, BY_DB),
        Case(f"{name}: Deny where no other policy is", [made("Deny")], BY_API, BY_DB),
    ]


def after(name: str, accept: str, made: Callable[[str], Object]) -> list[Case]:
    """Cases of a tier that comes after them."""
    return [
        Case(f"{name}: Deny where no NetworkPolicy is", [made("Deny")], BY_API, BY_DB),
        Case(f"{name}: Deny after one that allows", [policy([{}]), made("Deny")], BOTH, [tcp(DB, OLD)]),
        Case(f"{name}: {accept} after one that doesn't", [FROM_API, made(accept)], BY_API, BY_DB),
    ]


NUMBERED = (
    {"udp": {"destinationPort": {"number": 53}}},
    {"tcp": {"destinationPort": {"range": {"start": 7001, "end": 7003}}}},
)
ADMINISTRATORS = [
    *before("ClusterNetworkPolicy, Admin", "Accept", partial(cluster_policy, "Admin")),
    *before("AdminNetworkPolicy", "Allow", admin_policy),
    *after("ClusterNetworkPolicy, Baseline", "Accept", partial(cluster_policy, "Baseline")),
    *after("BaselineAdminNetworkPolicy", "Allow", baseline_policy),
    Case(
        "ClusterNetworkPolicy: protocols with ports",
        [cluster_policy("Admin", "Deny", protocols=list(NUMBERED))],
        [*BY_DB, udp(DB, WEB), tcp(DB, WEB, 7000), tcp(API, WEB, 7001)],
        [udp(DB, WEB, 53), udp(DB6, WEB6, 53), tcp(DB, WEB, 7001), tcp(DB6, WEB6, 7003)],
    ),
    Case(
        "ClusterNetworkPolicy: a port's name in any protocol",
        [cluster_policy("Admin", "Deny", protocols=[{"destinationNamedPort": "dns"}])],
        [*BY_DB, udp(DB, API, 81), tcp(API, WEB, 81), tcp(DB, WEB, 81)],
        [udp(DB, WEB, 53), udp(DB6, WEB6, 53), tcp(DB, API, 81), tcp(DB6, API6, 81)],
    ),
    Case(
        "denied first what is allowed twice after",
        [
            cluster_policy("Admin", "Deny"),
            policy([{}]),
            cluster_policy("Baseline", "Accept") | {"metadata": {"name": "second"}},
        ],
        BY_API,
        BY_DB,
    ),
]


def endpoint_slice(service: str, name: str, addresses: Sequence[str], *ports: tuple[str, int]) -> Object:
    """A slice of a service in `bank`, as it is stored for rules that name the service."""
    return {
        "apiVersion": CALICO,
        "kind": "KubernetesEndpointSlice",
        "metadata": {"name": f"{service}-{name}", "namespace": "bank", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv6" if ":" in addresses[0] else "IPv4",
        "endpoints": [{"addresses": [address]} for address in addresses],
        "ports": [{"name": f"p{number}", "protocol": protocol, "port": number} for protocol, number in ports],
    }


def to_service(name: str) -> Object:
    rule = {"action": "Allow", "destination": {"services": {"name": name, "namespace": "bank"}}}
    return calico("NetworkPolicy", "out", order=10, selector="app == 'web'", types=["Egress"], egress=[rule])


def from_service(name: str) -> Object:
    rule = {"action": "Allow", "source": {"services": {"name": name, "namespace": "bank"}}}
    return calico("NetworkPolicy", "in", order=10, selector="app == 'web'", types=["Ingress"], ingress=[rule])


LEDGER = (
    endpoint_slice("ledger", "a", [DB], ("TCP", 81), ("UDP", 53)),
    endpoint_slice("ledger", "b", [DB6], ("TCP", 81)),
    endpoint_slice("other", "a", [API], ("TCP", 80)),
)
SERVICES = [
    Case(
        "a service as destination: its addresses with its ports",
        [to_service("ledger"), *LEDGER],
        [tcp(WEB, DB, 81), tcp(WEB6, DB6, 81), udp(WEB, DB, 53), tcp(API, DB, 80)],
        [tcp(WEB, DB, 80), udp(WEB, DB, 81), udp(WEB6, DB6, 53), tcp(WEB, API, 80), tcp(WEB, OUT, 81), ping(WEB, DB)],
    ),
    Case(
        "a service of two pods, after one has moved",
        [to_service("ledger"), endpoint_slice("ledger", "a", [API, OUT], ("TCP", 81)), LEDGER[2]],
        [tcp(WEB, API, 81), tcp(WEB, OUT, 81)],
        [tcp(WEB, DB, 81), tcp(WEB6, DB6, 81), tcp(WEB, API, 80)],
    ),
    Case("a service without slices", [to_service("ledger"), LEDGER[2]], [], [tcp(WEB, DB, 81), tcp(WEB, API, 80)]),
    Case(
        "a service as source: its addresses",
        [from_service("ledger"), *LEDGER],
        [*BY_DB, *every_way(DB, WEB), udp(DB6, WEB6, 53)],
        [*BY_API, tcp(OUT, WEB), tcp(OLD, WEB)],
    ),
]
