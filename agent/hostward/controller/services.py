"""Which services rules in the store name, and slices of endpoints as they are stored for these rules (`statements.md` R-26).

Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from hostward.controller.items import Document, Item
from hostward.controller.owners import key_of
from hostward.convert import names
from hostward.convert.kubernetes_checks import PROTOCOLS
from hostward.kube.watching import Object
from hostward.model import nets
from hostward.model.fields import Found, Problem, show
from hostward.model.keys import API_VERSION, ResourceKey

LABEL: Final = "kubernetes.io/service-name"
COPIED: Final = ("addressType", "endpoints", "ports")
"""The fields that a stored slice has of the original's."""


class Service(NamedTuple):
    """A service of Kubernetes."""

    namespace: str
    name: str


def services_in(key: ResourceKey, document: Document | None) -> frozenset[Service]:
    """The services that the rules of a stored policy or profile name; a policy's own namespace where they name none."""
    spec = document.get("spec") if document else None
    return frozenset(_services(spec, key.namespace)) if isinstance(spec, dict) else frozenset()


def _services(spec: Mapping[str, Any], own: str) -> Iterator[Service]:
    for direction in ("ingress", "egress"):
        rules = spec.get(direction)
        for rule in rules if isinstance(rules, list) else ():
            for side in ("source", "destination"):
                entity = rule.get(side) if isinstance(rule, dict) else None
                match = entity.get("services") if isinstance(entity, dict) else None
                name = match.get("name") if isinstance(match, dict) else None
                namespace = (match.get("namespace") or own) if isinstance(match, dict) else None
                if isinstance(name, str) and isinstance(namespace, str) and name and namespace:
                    yield Service(namespace, name)


def service_of(namespace: str, slice_: Object) -> Service | None:
    """The service that a slice is a part of."""
    metadata = slice_.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    name = labels.get(LABEL) if isinstance(labels, dict) else None
    return Service(namespace, name) if isinstance(name, str) and name else None


def stored_slice(item: Item, service: Service, value: Object, found: Found) -> Document:
    """The document of a slice, without what isn't understood of it. As for Calico, unready endpoints count too."""
    key = key_of(item)
    return {
        "apiVersion": API_VERSION,
        "kind": key.kind,
        "metadata": {"name": key.name, "namespace": key.namespace, "labels": {LABEL: service.name}},
        "addressType": _text(value.get("addressType")),
        "endpoints": list(_endpoints(value.get("endpoints"), found)),
        "ports": list(_ports(value.get("ports"), found)),
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _endpoints(value: object, found: Found) -> Iterator[Document]:
    for index, one in enumerate(_items(value, "endpoints", found)):
        addresses = one.get("addresses") if isinstance(one, dict) else None
        if not isinstance(addresses, list):
            found.append(Problem(f"endpoints[{index}].addresses", f"expected a list, not {show(addresses)}; it is left out"))
            continue
        kept = []
        for place, address in enumerate(addresses):
            canonical = nets.parse_address(address) if isinstance(address, str) else None
            if canonical is None:
                found.append(
                    Problem(f"endpoints[{index}].addresses[{place}]", f"{show(address)} is no address; it is left out")
                )
            else:
                kept.append(canonical)
        if kept:
            yield {"addresses": kept}


def _ports(value: object, found: Found) -> Iterator[Document]:
    for index, one in enumerate(_items(value, "ports", found)):
        if reason := _wrong_port(one):
            found.append(Problem(f"ports[{index}]", f"{reason}; it is left out"))
        elif one.get("port") is not None:  # without a number it would mean all ports, and no rule can match that
            name = {"name": one["name"]} if one.get("name") else {}
            yield name | {"protocol": one.get("protocol") or "TCP", "port": one["port"]}


def _wrong_port(one: object) -> str | None:
    if not isinstance(one, dict):
        return f"expected a mapping, not {show(one)}"
    name, protocol, port = one.get("name"), one.get("protocol"), one.get("port")
    if name and (not isinstance(name, str) or not names.is_dns_name(name)):
        return f"{show(name)} is no name of a port"
    if protocol is not None and protocol not in PROTOCOLS:
        return f"{show(protocol)} is no protocol with ports"
    if port is not None and (not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536):
        return f"{show(port)} is no port"
    return None


def _items(value: object, path: str, found: Found) -> list[Any]:
    if value is not None and not isinstance(value, list):
        found.append(Problem(path, f"expected a list, not {show(value)}"))
    return value if isinstance(value, list) else []
