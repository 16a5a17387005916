"""One side of a rule from JSON: nets, ports and selectors (`statements.md` R-6..R-8, R-20..R-24, M-50; decision D4).

A criterion that isn't understood is reported and left out; `decode_rules` decides what that makes of the rule. Pure; any
thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Literal

from msgspec import Struct

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
_NOT_BESIDE_SERVICES: Final = frozenset(("selector", "notSelector", "namespaceSelector", "serviceAccounts", "nets", "notNets"))
_SERVICE_SIDES: Final = frozenset((("ingress", "source"), ("egress", "destination")))
_PORT_RANGE: Final = re.compile(r"([0-9]{1,5})(?::([0-9]{1,5}))?")
_PORT_NAME: Final = re.compile(r"(?![0-9]+$)[A-Za-z0-9_.-]{1,128}")


class Place(Struct, frozen=True):
    """Where a rule stands: the namespace of its policy ("" for none), and its direction."""

    namespace: str
    direction: Literal["ingress", "egress"]


def read_entity(value: object, path: str, place: Place, side: Literal["source", "destination"], found: Found) -> Entity:
    """One side of a rule, its namespace and service account fields folded into the selector (R-20..R-24)."""
    fields = read_object(value, path, _ENTITY_FIELDS, found)
    if not fields:
        return Entity()
    service, fields = _service(fields, path, place, side, found)
    own = _Selectors.read(fields, path, found)
    selector = not_selector = None
    try:
        selector, not_selector = selector_scope.side_selectors(own.parts(place.namespace), own.excluded)
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


class _Selectors(Struct, frozen=True):
    """The selectors of a side, canonical; None for one that is absent or not understood."""

    namespaces: str | None
    accounts: str | None
    selector: str | None
    excluded: str | None
    names_namespaces: bool  # in a way that is understood or not

    @classmethod
    def read(cls, fields: dict[str, Any], path: str, found: Found) -> _Selectors:
        def selector(name: str, convert: Callable[[str], str]) -> str | None:
            return read_selector(fields.get(name), convert, f"{path}.{name}", found) or None

        return cls(
            selector("namespaceSelector", selector_scope.rule_namespaces),
            _service_accounts(fields.get("serviceAccounts"), f"{path}.serviceAccounts", found),
            selector("selector", selector_scope.plain),
            selector("notSelector", selector_scope.plain),
            fields.get("namespaceSelector", "") != "",
        )

    def parts(self, namespace: str) -> list[str]:
        """What is AND-ed. Within a namespace a side that says who, but not where, means its own (R-21)."""
        says_who = (self.accounts, self.selector, self.excluded) != (None, None, None)
        own = within(namespace) if namespace and says_who and not self.names_namespaces else None
        return [part for part in (own, self.namespaces, self.accounts, self.selector) if part]


def _service(
    fields: dict[str, Any], path: str, place: Place, side: Literal["source", "destination"], found: Found
) -> tuple[Service | None, dict[str, Any]]:
    """The service that a side names, and the side's other fields: only where traffic's other end is (M-51).

    Beside another way to say who that is, both count as not understood.
    """
    if "services" not in fields:
        return None, fields
    others = {name: value for name, value in fields.items() if name != "services"}
    named = read_object(fields["services"], f"{path}.services", ("name", "namespace"), found)
    name = read_text(named.get("name"), f"{path}.services.name", found)
    namespace = read_text(named.get("namespace"), f"{path}.services.namespace", found) or place.namespace
    contradicting = _NOT_BESIDE_SERVICES | ({"ports", "notPorts"} if side == "destination" else frozenset())
    beside = sorted(name for name in contradicting if others.get(name, "") not in ("", []))
    reason = ""
    if (place.direction, side) not in _SERVICE_SIDES:
        reason = "only in the source of an ingress rule or the destination of an egress rule"
    elif beside:
        reason = f"not beside {', '.join(beside)}"
        others = {name: value for name, value in others.items() if name not in contradicting}
    elif not name or not namespace:
        reason = "needs a name" if namespace else "needs a namespace, as its policy is in none"
    if reason:
        found.append(Problem(f"{path}.services", reason))
        return None, others
    return Service(namespace, name, ports=side == "destination"), others


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


def _service_accounts(value: object, path: str, found: Found) -> str | None:
    """What `serviceAccounts` say, None when they are absent or not understood. An empty object is there, and says all."""
    if value is None:
        return None
    before = len(found)
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
    both = " && ".join(part for part in (named, selector) if part)
    return both if both or len(found) == before else None
