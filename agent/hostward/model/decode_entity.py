"""One side of a rule from JSON: nets, ports and selectors (`enforcement.md` R-6..R-8, R-20..R-24, M-50; design D4).

A criterion that isn't understood is reported and left out; `decode_rules` decides what that makes of the rule. Pure; any
thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from hostward.model import selector_scope
from hostward.model.fields import Found, Problem, read_list, read_object, read_text, show, to_net, to_text
from hostward.model.nets import is_catch_all
from hostward.model.rules import Entity, PortRange, Ports, Service
from hostward.model.selector_scope import within
from hostward.model.selectors import SelectorError
from hostward.model.value_errors import BadValueError

MAX_SELECTOR: Final = 1024  # characters (M-50)

_ENTITY_FIELDS: Final = frozenset(
    ("nets", "notNets", "ports", "notPorts", "selector", "notSelector", "namespaceSelector", "serviceAccounts", "services")
)
_LIMITED_TO_NAMESPACE: Final = frozenset(("selector", "notSelector", "serviceAccounts"))
_NOT_BESIDE_SERVICES: Final = _LIMITED_TO_NAMESPACE | {"namespaceSelector", "nets", "notNets"}
_SERVICE_SIDES: Final = frozenset((("ingress", "source"), ("egress", "destination")))
_PORT_RANGE: Final = re.compile(r"([0-9]{1,5})(?::([0-9]{1,5}))?")
_PORT_NAME: Final = re.compile(r"(?![0-9]+$)[A-Za-z0-9_.-]{1,128}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule stands: the namespace of its policy ("" for none), and its direction."""

    namespace: str
    direction: Literal["ingress", "egress"]


def read_entity(value: object, path: str, place: Place, side: Literal["source", "destination"], found: Found) -> Entity:
    """One side of a rule, its namespace and service account fields folded into the selector (R-20..R-24)."""
    fields = read_object(value, path, _ENTITY_FIELDS, found)
    if not fields:
        return Entity()
    service = _service(fields, path, place, side, found) if "services" in fields else None
    mine = place.namespace and not fields.get("namespaceSelector") and any(map(fields.get, _LIMITED_TO_NAMESPACE))
    parts = (
        within(place.namespace) if mine else "",
        read_selector(fields.get("namespaceSelector"), selector_scope.rule_namespaces, f"{path}.namespaceSelector", found),
        _service_accounts(fields.get("serviceAccounts"), f"{path}.serviceAccounts", found),
        read_selector(fields.get("selector"), selector_scope.plain, f"{path}.selector", found),
    )
    excluded = read_selector(fields.get("notSelector"), selector_scope.plain, f"{path}.notSelector", found)
    selector = not_selector = None
    try:
        selector, not_selector = selector_scope.side_selectors([part for part in parts if part], excluded or None)
    except SelectorError as error:
        found.append(Problem(path, f"the selectors together: {error.reason}"))
    return Entity(
        _nets(fields.get("nets"), to_net, f"{path}.nets", found),
        _nets(fields.get("notNets"), _to_excluded_net, f"{path}.notNets", found),
        _ports(fields.get("ports"), f"{path}.ports", found),
        _ports(fields.get("notPorts"), f"{path}.notPorts", found),
        selector,
        not_selector,
        service,
    )


def _service(
    fields: dict[str, Any], path: str, place: Place, side: Literal["source", "destination"], found: Found
) -> Service | None:
    """The service that a side names: only where traffic's other end is, and beside no other way to say who that is (M-51)."""
    excluded = _NOT_BESIDE_SERVICES | ({"ports", "notPorts"} if side == "destination" else frozenset())
    named = read_object(fields["services"], f"{path}.services", ("name", "namespace"), found)
    name = read_text(named.get("name"), f"{path}.services.name", found)
    namespace = read_text(named.get("namespace"), f"{path}.services.namespace", found) or place.namespace
    reason = ""
    if (place.direction, side) not in _SERVICE_SIDES:
        reason = "only in the source of an ingress rule or the destination of an egress rule"
    elif beside := sorted(fields.keys() & excluded):
        reason = f"not beside {', '.join(beside)}"
    elif not name or not namespace:
        reason = "needs a name" if namespace else "needs a namespace, as its policy is in none"
    if reason:
        found.append(Problem(f"{path}.services", reason))
        return None
    return Service(namespace, name, ports=side == "destination")


def _to_port(value: object) -> PortRange | str:
    """Converter: one port, a range, or a name (A.2). Port 0 is read, as nothing else can be meant by it."""
    numbers = _PORT_RANGE.fullmatch(value) if isinstance(value, str) else None
    if numbers:
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
    elif type(value) is int:
        first = last = value
    elif isinstance(value, str) and _PORT_NAME.fullmatch(value):
        return value
    else:
        raise BadValueError(f"not a port, range or port name: {show(value)}")
    if not 0 <= first <= last <= 65535:
        raise BadValueError(f"not a port or range from 0 to 65535: {show(value)}")
    return PortRange(first, last)


def _to_excluded_net(value: object) -> str:
    """Converter: as to_net, but a rule that excludes every address is a mistake (M-50)."""
    net = to_net(value)
    if is_catch_all(net):
        raise BadValueError(f"{net} excludes every address")
    return net


def _ports(value: object, path: str, found: Found) -> Ports:
    if value is None:
        return Ports()
    ports = dict.fromkeys(read_list(value, _to_port, path, found))
    return Ports(tuple(p for p in ports if isinstance(p, PortRange)), tuple(p for p in ports if isinstance(p, str)))


def _nets(value: object, convert: Callable[[object], str], path: str, found: Found) -> tuple[str, ...]:
    return tuple(dict.fromkeys(read_list(value, convert, path, found))) if value is not None else ()


def read_selector(value: object, convert: Callable[[str], str], path: str, found: Found) -> str:
    """A selector text as `convert` makes it; "" when absent or not understood."""
    text = read_text(value, path, found)
    if len(text) > MAX_SELECTOR:
        found.append(Problem(path, f"{len(text)} characters; a selector has at most {MAX_SELECTOR}"))
        return ""
    try:
        return convert(text) if text else ""
    except SelectorError as error:
        found.append(Problem(path, f"not a selector: {error}"))
        return ""


def _service_accounts(value: object, path: str, found: Found) -> str:
    if value is None:
        return ""
    fields = read_object(value, path, ("names", "selector"), found)
    names = read_list(fields.get("names"), to_text, f"{path}.names", found)
    selector = read_selector(
        fields.get("selector"), lambda text: selector_scope.rule_service_accounts((), text), f"{path}.selector", found
    )
    try:
        named = selector_scope.rule_service_accounts(names, "")
    except SelectorError as error:
        found.append(Problem(f"{path}.names", error.reason))
        named = ""
    return " && ".join(part for part in (named, selector) if part)
