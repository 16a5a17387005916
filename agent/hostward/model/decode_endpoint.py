"""Host endpoints from JSON (`statements.md` M-5, M-8; decision D4).

An endpoint that isn't wholly understood still shuts the interfaces that it names, by name or by address: isolated, not left
out. Its addresses, ports and labels that are understood still count for selectors in rules. Pure; any thread.
"""

from __future__ import annotations

import re
from typing import Any, Final

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
    to_text,
)
from hostward.model.interface_names import check_name
from hostward.model.keys import ResourceKey
from hostward.model.resources import HostEndpoint, NamedPort
from hostward.model.rules import PORT_PROTOCOLS, PROTOCOL_NUMBERS
from hostward.model.value_errors import BadValueError

_FIELDS: Final = frozenset(("node", "interfaceName", "expectedIPs", "profiles", "ports"))
_PORT_FIELDS: Final = frozenset(("name", "protocol", "port"))
_PORT_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_PROTOCOLS: Final = {
    **{name.lower(): number for name, number in PROTOCOL_NUMBERS.items() if number in PORT_PROTOCOLS},
    **{str(number): number for number in PORT_PROTOCOLS},
}


def decode_host_endpoint(key: ResourceKey, document: dict[str, Any], found: Found) -> HostEndpoint | None:
    """A HostEndpoint; None when no node, or neither interface nor address can be read: then it can only be reported."""
    metadata = read_object(document.get("metadata"), "metadata", None, found)
    labels = read_labels(metadata.get("labels"), "metadata.labels", found)
    fields = read_object(document.get("spec"), "spec", _FIELDS, found)
    node = read_text(fields.get("node"), "spec.node", found)
    interface = read_interface(fields.get("interfaceName"), found)
    addresses = read_members(fields.get("expectedIPs"), to_address, "spec.expectedIPs", found)
    profiles = read_list(fields.get("profiles"), to_text, "spec.profiles", found)
    ports = read_list(fields.get("ports"), _to_named_port, "spec.ports", found)
    if not node:
        found.append(Problem("spec.node", "can't tell which node this endpoint is on: nothing is guarded by it"))
        return None
    if not interface and not addresses:
        found.append(Problem("spec", "names neither an interfaceName nor an expectedIP: nothing is guarded by it"))
        return None
    return HostEndpoint(
        key.name,
        node,
        interface,
        tuple(dict.fromkeys(addresses)),
        tuple(profiles),
        tuple(dict.fromkeys(ports)),
        labels,
        isolated=bool(found),
    )


def read_interface(value: object, found: Found) -> str:
    """The `interfaceName` of an endpoint; "" when absent or not understood."""
    name = read_text(value, "spec.interfaceName", found)
    if name in ("", "*"):
        return name
    try:
        return check_name(name)
    except BadValueError as error:
        found.append(Problem("spec.interfaceName", str(error)))
        return ""


def _to_named_port(value: object) -> NamedPort:
    """Converter: a port that an endpoint names; its protocol by name in any case, or number (M-8)."""
    if not isinstance(value, dict) or not _PORT_FIELDS.issuperset(value):
        raise BadValueError(f"expected an object with name, protocol and port, not {show(value)}")
    port = value.get("port")
    name, protocol = to_port_name(value.get("name")), to_port_protocol(value.get("protocol"))
    if type(port) is not int or not 1 <= port <= 65535:
        raise BadValueError(f"expected a port from 1 to 65535, not {show(port)}")
    return NamedPort(name, protocol, port)


def to_port_name(value: object) -> str:
    """Converter: the name of a port."""
    if not isinstance(value, str) or not _PORT_NAME.fullmatch(value):
        raise BadValueError(f"not a port name: {show(value)}")
    return value


def to_port_protocol(value: object) -> int:
    """Converter: the number of a protocol that has ports, from its name in any case or its number (M-8)."""
    number = _PROTOCOLS.get(str(value).lower()) if isinstance(value, str) or type(value) is int else None
    if number is None:
        raise BadValueError(f"expected protocol TCP, UDP or SCTP, not {show(value)}")
    return number
