"""Workload endpoints and the slices of services from JSON (`statements.md` M-6, M-8, M-17, R-26; decision D4).

A workload endpoint that isn't wholly understood cuts its interface off: isolated, not left out. Pure; any thread.
"""

from __future__ import annotations

from typing import Any, Final

from hostward.model.decode_endpoint import read_interface, to_port_name, to_port_protocol
from hostward.model.fields import (
    Found,
    Problem,
    read_labels,
    read_list,
    read_members,
    read_object,
    read_text,
    show,
    to_address,
    to_net,
    to_text,
)
from hostward.model.keys import ResourceKey
from hostward.model.resources import EndpointSlice, NamedPort, WorkloadEndpoint
from hostward.model.rules import TCP
from hostward.model.selector_scope import NAMESPACE, NAMESPACE_PREFIX, ORCHESTRATOR, SERVICE_ACCOUNT, SERVICE_ACCOUNT_PREFIX
from hostward.model.value_errors import BadValueError

SERVICE_LABEL: Final = "kubernetes.io/service-name"
_FIELDS: Final = frozenset(
    (
        *("orchestrator", "workload", "node", "containerID", "pod", "endpoint", "serviceAccountName", "ipNetworks", "ipNATs"),
        *("ipv4Gateway", "ipv6Gateway", "profiles", "interfaceName", "mac", "ports", "allowSpoofedSourcePrefixes"),
        "qosControls",  # says nothing of policy
    )
)
_PORT_FIELDS: Final = frozenset(("name", "protocol", "port", "hostPort", "hostIP"))


def decode_workload_endpoint(key: ResourceKey, document: dict[str, Any], found: Found) -> WorkloadEndpoint | None:
    """A WorkloadEndpoint; None when it has no address (M-6), or when no node or interface can be read.

    Then its addresses count for nobody: on no host can it send or receive.
    """
    fields = read_object(document.get("spec"), "spec", _FIELDS, found)
    labels = _labels(key, document, fields, found)
    node = read_text(fields.get("node"), "spec.node", found)
    interface = read_interface(fields.get("interfaceName"), found)
    addresses = read_members(fields.get("ipNetworks"), _to_own_address, "spec.ipNetworks", found)
    profiles = read_list(fields.get("profiles"), to_text, "spec.profiles", found)
    ports = read_list(fields.get("ports"), _to_port, "spec.ports", found)
    spoofable = read_list(fields.get("allowSpoofedSourcePrefixes"), to_net, "spec.allowSpoofedSourcePrefixes", found)
    if not found and not addresses:
        return None  # a finished pod: its interface, if it's still there, is cut off as unknown (H-52)
    if not node or interface in ("", "*"):
        missing = "node" if not node else "interfaceName"
        found.append(Problem(f"spec.{missing}", "can't be read: its interface is cut off like one without an endpoint"))
        return None
    return WorkloadEndpoint(
        key.namespace,
        key.name,
        node,
        interface,
        tuple(dict.fromkeys(addresses)),
        tuple(profiles),
        tuple(dict.fromkeys(port for port in ports if port is not None)),
        labels,
        tuple(dict.fromkeys(spoofable)),
        isolated=bool(found),
    )


def _labels(key: ResourceKey, document: dict[str, Any], fields: dict[str, Any], found: Found) -> dict[str, str]:
    """Its own labels, without any that would place it in another namespace or give it another's labels (M-17).

    Such a label is no problem: whoever makes a pod may write its labels, and must not be able to have it cut off by them.
    """
    metadata = read_object(document.get("metadata"), "metadata", None, found)
    labels = {
        name: value
        for name, value in read_labels(metadata.get("labels"), "metadata.labels", found).items()
        if not name.startswith((NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX))
    }
    labels[NAMESPACE] = key.namespace
    for label, field in ((ORCHESTRATOR, "orchestrator"), (SERVICE_ACCOUNT, "serviceAccountName")):
        if value := read_text(fields.get(field), f"spec.{field}", found):
            labels[label] = value
    return labels


def _to_own_address(value: object) -> str:
    """Converter: `address/32`, `address/128` or a bare address (M-44)."""
    if not isinstance(value, str):
        raise BadValueError(f"expected a text, not {show(value)}")
    text, slash, length = value.partition("/")
    address = to_address(text)
    if slash and length != ("128" if ":" in address else "32"):
        raise BadValueError(f"{show(value)} is more than one address")
    return address


def _to_port(value: object) -> NamedPort | None:
    """Converter: a port that the endpoint names; None for one without a name, which no rule can mean (M-8)."""
    if not isinstance(value, dict) or not _PORT_FIELDS.issuperset(value):
        raise BadValueError(f"expected an object with name, protocol, port, hostPort and hostIP, not {show(value)}")
    if not value.get("name"):
        return None
    port = value.get("port")
    if type(port) is not int or not 1 <= port <= 65535:
        raise BadValueError(f"expected a port from 1 to 65535, not {show(port)}")
    return NamedPort(to_port_name(value["name"]), to_port_protocol(value.get("protocol")), port)


def decode_endpoint_slice(key: ResourceKey, document: dict[str, Any], found: Found) -> EndpointSlice | None:
    """A slice of a Kubernetes service; None when it says of no service. What isn't an address or a port adds nothing (R-26)."""
    metadata = read_object(document.get("metadata"), "metadata", None, found)
    service = read_labels(metadata.get("labels"), "metadata.labels", found).get(SERVICE_LABEL, "")
    endpoints = read_members(document.get("endpoints"), _to_addresses, "endpoints", found)
    ports = read_members(document.get("ports"), _to_service_port, "ports", found)
    if not service:
        return None
    addresses = tuple(dict.fromkeys(address for some in endpoints for address in some))
    return EndpointSlice(key.namespace, service, addresses, tuple(dict.fromkeys(port for port in ports if port is not None)))


def _to_addresses(value: object) -> tuple[str, ...]:
    """Converter: the addresses of one endpoint; names are skipped."""
    addresses = value.get("addresses") if isinstance(value, dict) else None
    if addresses is None and isinstance(value, dict):
        return ()
    if not isinstance(addresses, list):
        raise BadValueError(f"expected an object with addresses, not {show(value)}")
    return tuple(address for one in addresses if (address := _address(one)) is not None)


def _address(value: object) -> str | None:
    try:
        return to_address(value)
    except BadValueError:
        return None


def _to_service_port(value: object) -> tuple[int, int] | None:
    """Converter: (protocol number, port); None for a port without a number. A missing protocol is TCP."""
    if not isinstance(value, dict):
        raise BadValueError(f"expected an object with protocol and port, not {show(value)}")
    port, protocol = value.get("port"), value.get("protocol")
    if port is None:
        return None
    if type(port) is not int or not 0 <= port <= 65535:
        raise BadValueError(f"expected a port from 0 to 65535, not {show(port)}")
    return (TCP if protocol is None else to_port_protocol(protocol), port)
