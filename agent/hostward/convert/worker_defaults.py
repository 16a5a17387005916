"""The default worker policies and host endpoints, for the values of one cluster (`statements.md` D.1, D.2).

In an order that is safe to apply: what policies name, then policies, then the endpoints that begin to deny. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from hostward.model.keys import API_VERSION

Document = dict[str, Any]

POD_NETWORKS: Final = ("172.30.0.0/16",)
SERVICE_PORTS: Final = (52311,)
MANAGEMENT: Final = "management-systems"
_PUBLIC: Final = "ibm.role == 'worker_public'"
_PRIVATE: Final = "ibm.role == 'worker_private'"
_ALL_PUBLIC: Final = "ibm.role in { 'worker_public', 'master_public' }"


class Values(Struct, frozen=True):
    """What differs between clusters and workers. Addresses are canonical; networks are canonical CIDRs.

    An interface of "" has no endpoint. Without nodes there are policies only.
    """

    nodes: tuple[str, ...] = ()
    public_interface: str = "eth1"
    private_interface: str = "eth0"
    public_addresses: tuple[str, ...] = ()
    private_addresses: tuple[str, ...] = ()
    pod_networks: tuple[str, ...] = POD_NETWORKS
    service_ports: tuple[int, ...] = SERVICE_PORTS
    management_networks: tuple[str, ...] = ()
    apply_on_forward: bool = False


def documents(values: Values) -> list[Document]:
    """The documents, always the same for the same values. IPv6 twins of rules are there if any value is of IPv6."""
    found = [_document("GlobalNetworkSet", MANAGEMENT, {"nets": list(values.management_networks)}, {"role": "management"})]
    found += _policies(values)
    for node in values.nodes:
        for role, interface, addresses in (
            ("public", values.public_interface, values.public_addresses),
            ("private", values.private_interface, values.private_addresses),
        ):
            if interface:
                spec = {"node": node, "interfaceName": interface} | ({"expectedIPs": list(addresses)} if addresses else {})
                found.append(_document("HostEndpoint", f"{node}-worker-{role}", spec, {"ibm.role": f"worker_{role}"}))
    return found


def _policies(values: Values) -> list[Document]:
    every = (*values.pod_networks, *values.management_networks, *values.public_addresses, *values.private_addresses)
    pings = ["ICMP", *(["ICMPv6"] if any(":" in one for one in every) else [])]
    to_pods: list[Document] = []
    for family in (4, 6):
        nets = [net for net in values.pod_networks if (":" in net) == (family == 6)]
        to_pods += [{"destination": {"nets": nets}}] if nets else []
    ports = list(values.service_ports)
    to_services = [{"protocol": protocol, "destination": {"ports": ports}} for protocol in ("TCP", "UDP") if ports]
    policies = [
        _policy("allow-all-outbound", 1900, _ALL_PUBLIC, egress=[{}]),
        *([_policy("allow-bigfix-port", 1900, _ALL_PUBLIC, ingress=to_services)] if ports else []),
        _policy("allow-icmp", 1500, _ALL_PUBLIC, ingress=[{"protocol": protocol} for protocol in pings]),
        *([_policy("allow-node-port-dnat", 1500, _PUBLIC, ingress=to_pods)] if to_pods else []),
        _policy("allow-sys-mgmt", 1950, _ALL_PUBLIC, ingress=[{"source": {"selector": "role == 'management'"}}]),
        _policy("allow-vrrp", 1500, _PUBLIC, ingress=[{"protocol": 112}]),
        _policy("allow-all-private-default", 100000, _PRIVATE, ingress=[{}], egress=[{}]),
    ]
    if values.apply_on_forward:
        for policy in policies:
            policy["spec"]["applyOnForward"] = True
    return policies


def _policy(
    name: str, order: int, selector: str, ingress: Sequence[Document] = (), egress: Sequence[Document] = ()
) -> Document:
    spec: Document = {"order": order, "selector": selector, "types": ["Ingress"] * bool(ingress) + ["Egress"] * bool(egress)}
    for direction, rules in (("ingress", ingress), ("egress", egress)):
        if rules:
            spec[direction] = [{"action": "Allow"} | rule for rule in rules]
    return _document("GlobalNetworkPolicy", name, spec)


def _document(kind: str, name: str, spec: Document, labels: dict[str, str] | None = None) -> Document:
    meta: Document = {"name": name} | ({"labels": labels} if labels else {})
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": spec}
