"""The automatic host endpoints of a node (`statements.md` kubernetes 1.6). Pure functions; any thread.

A node here is the document of a Calico Node; where Calico keeps none, of what its Kubernetes node converts to.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from hostward.controller.items import Document
from hostward.controller.node_settings import DEFAULT_PROFILES, NodeSettings, Template
from hostward.controller.owners import CREATED_BY, CREATOR
from hostward.convert import names
from hostward.model import nets, selectors
from hostward.model.fields import Found, Problem
from hostward.model.keys import API_VERSION

SUFFIX: Final = "-auto-hep"
_LONGEST: Final = 253
_DEFAULT: Final = Template("", selectors.parse(selectors.ALL), {}, {}, interface="*")
_DECIDED: Final = frozenset(("node", "interfaceName", "expectedIPs"))


class Wanted(NamedTuple):
    """An endpoint that there should be, and the fields of its spec in which a stored one has to agree."""

    document: Document
    decided: frozenset[str]


def host_endpoints(node: Document, settings: NodeSettings, found: Found) -> dict[str, Wanted]:
    """The endpoints that a node should have, by name; none while they are switched off."""
    made: dict[str, Wanted] = {}
    for endpoint in _all(node, settings, found) if settings.create else ():
        name = endpoint.document["metadata"]["name"]
        if reason := names.wrong_name(name):
            found.append(Problem("", f"the host endpoint {name!r} can't be made: {reason}"))
        elif name in made:
            found.append(Problem("", f"the host endpoint {name} would be made by two templates; the first one counts"))
        else:
            made[name] = endpoint
    return made


def endpoint_name(node: str, *parts: str) -> str:
    """The name of a node's endpoint; one that is too long becomes a digest of itself."""
    name = "-".join((node, *(part for part in parts if part))) + SUFFIX
    if len(name) <= _LONGEST:
        return name
    digest = base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).decode()
    return re.sub(r"[-_.=]", "", digest).lower() + SUFFIX


def _all(node: Document, settings: NodeSettings, found: Found) -> Iterator[Wanted]:
    addresses = node_addresses(node)
    if settings.create_default:
        yield _endpoint(node, _DEFAULT, _DEFAULT.interface, addresses)
    for template in settings.templates:
        if template.selector.matches(_labels(node)):
            yield from _of_template(node, template, addresses, found)


def _of_template(node: Document, template: Template, addresses: list[str], found: Found) -> Iterator[Wanted]:
    interfaces = _interfaces(node)
    inside = [one for one in addresses if any(nets.contains(net, one) for net in template.networks)]
    if template.interface:
        # Its author knows the interface: the endpoint is needed whether or not the store knows any address of it.
        yield _endpoint(node, template, template.interface, [*inside, *interfaces.get(template.interface, ())])
    elif template.pattern:
        if not interfaces:
            reason = "interfacePattern finds nothing: the store doesn't know this node's interfaces; interfaceName would do"
            found.append(Problem("", f"template {template.name}: {reason}"))
        for interface in sorted(filter(re.compile(template.pattern).search, interfaces)):
            yield _endpoint(node, template, interface, [*inside, *interfaces[interface]], interface)
    elif inside:
        yield _endpoint(node, template, "", inside)


def _endpoint(node: Document, template: Template, interface: str, addresses: list[str], part: str = "") -> Wanted:
    """`part`: what of the name tells the endpoints of one template on one node apart."""
    name = node["metadata"]["name"]
    labels = {**_labels(node), **template.labels, CREATED_BY: CREATOR}
    metadata: Document = {"name": endpoint_name(name, template.name, part), "labels": labels}
    metadata |= {"annotations": dict(template.annotations)} if template.annotations else {}
    spec: Document = {"node": name, "profiles": list(DEFAULT_PROFILES)}
    spec |= {"interfaceName": interface} if interface else {}
    spec |= {"expectedIPs": _distinct(addresses)} if addresses else {}
    chosen: Document = {}
    chosen |= {"profiles": list(template.profiles)} if template.profiles is not None else {}
    chosen |= {"ports": [dict(port) for port in template.ports]} if template.ports is not None else {}
    document: Document = {"apiVersion": API_VERSION, "kind": "HostEndpoint", "metadata": metadata, "spec": spec | chosen}
    return Wanted(document, _DECIDED | set(chosen))


def merged(stored: Document, wanted: Wanted) -> Document:
    """A stored endpoint brought up to date. Profiles and ports that no template names stay as somebody may have set them."""
    metadata, spec = dict(stored.get("metadata") or {}), dict(stored.get("spec") or {})
    metadata["labels"] = wanted.document["metadata"]["labels"]
    if notes := wanted.document["metadata"].get("annotations"):
        metadata["annotations"] = (metadata.get("annotations") or {}) | notes
    kept = {field: value for field, value in spec.items() if field not in wanted.decided}
    decided = {field: value for field, value in wanted.document["spec"].items() if field in wanted.decided}
    return {**stored, "metadata": metadata, "spec": kept | decided}


def node_addresses(node: Document) -> list[str]:
    """The known addresses of a Node, in the order of 1.6, without those of its interfaces; what is no address is left out."""
    spec = _mapping(node.get("spec"))
    bgp, wireguard = _mapping(spec.get("bgp")), _mapping(spec.get("wireguard"))
    listed = [one for one in _list(spec.get("addresses")) if isinstance(one, dict)]
    given = [
        bgp.get("ipv4Address"),
        bgp.get("ipv6Address"),
        bgp.get("ipv4IPIPTunnelAddr"),
        spec.get("ipv4VXLANTunnelAddr"),
        spec.get("ipv6VXLANTunnelAddr"),
        wireguard.get("interfaceIPv4Address"),
        wireguard.get("interfaceIPv6Address"),
        *(one.get("address") for one in listed if one.get("type") == "InternalIP"),
    ]
    return _addresses(given)


def _interfaces(node: Document) -> dict[str, list[str]]:
    """The interfaces of a Node with their addresses, as far as Calico has written them."""
    listed = _list(_mapping(node.get("spec")).get("interfaces"))
    return {
        one["name"]: _addresses(_list(one.get("addresses")))
        for one in listed
        if isinstance(one, dict) and isinstance(one.get("name"), str) and names.is_interface(one["name"])
    }


def _addresses(given: list[Any]) -> list[str]:
    """Addresses without their lengths, canonical, each once."""
    texts = [one.partition("/")[0] for one in given if isinstance(one, str)]
    return _distinct([address for text in texts if (address := nets.parse_address(text))])


def _distinct(addresses: list[str]) -> list[str]:
    return list(dict.fromkeys(addresses))


def _labels(node: Document) -> dict[str, str]:
    return dict(_mapping(_mapping(node.get("metadata")).get("labels")))


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
