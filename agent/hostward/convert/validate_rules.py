"""What v3 rules may say (`statements.md` A.10 Rule, EntityRule, Port; M-50).

Stricter than what the agent reads, so that what passes here is enforced word by word. `http`, which Calico's writers accept, is
refused in what the agent enforces, because it could not. Pure functions; any thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from hostward.convert import names
from hostward.convert.checks import (
    Check,
    Report,
    each_of,
    fields,
    integer,
    listing,
    mapping,
    matching,
    one_of,
    suggestion,
    text,
    under,
)
from hostward.model import nets, selectors
from hostward.model.fields import show
from hostward.model.rules import PROTOCOL_NUMBERS, Action

MAX_SELECTOR: Final = 1024
MAX_RULES: Final = 1024
MAX_NETS: Final = 256
MAX_PORTS: Final = 50
_WITH_PORTS: Final = frozenset((6, 17, 132))
_ICMP_FAMILY: Final = {1: 4, 58: 6}
_GLOBAL: Final = re.compile(r"global\(\s*\)")


def selector(value: Any, path: str, report: Report, *, may_be_global: bool = False) -> None:
    """A selector of at most 1024 characters without `global()`, which only a rule's namespaceSelector may be, alone (M-16)."""
    if not isinstance(value, str):
        report(path, f"expected a selector, not {show(value)}")
        return
    if len(value) > MAX_SELECTOR:
        report(path, f"{len(value)} characters; a selector has at most {MAX_SELECTOR}")
        return
    try:
        selectors.parse(value)
    except selectors.SelectorError as error:
        report(path, f"{show(value)} is no selector: {error}")
        return
    if "global(" in value and not (may_be_global and _GLOBAL.fullmatch(value.strip(" \t"))):
        report(path, "global() is allowed only alone, in a rule's namespaceSelector")


def namespace_selector(value: Any, path: str, report: Report) -> None:
    """The namespaceSelector of a rule."""
    selector(value, path, report, may_be_global=True)


def protocol_number(value: object) -> int | None:
    """The number of a protocol as v3 writes it: one of six names in this very spelling, or 1-255, also as digits; else None."""
    if isinstance(value, str):
        if value in PROTOCOL_NUMBERS:
            return PROTOCOL_NUMBERS[value]
        value = int(value) if value.isascii() and value.isdigit() and len(value) <= 3 else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 1 <= value <= 255 else None


def protocol(value: Any, path: str, report: Report) -> None:
    """A protocol by name or number."""
    if protocol_number(value) is None:
        known = ", ".join(PROTOCOL_NUMBERS)
        report(path, f"{show(value)} is no protocol: expected {known} or 1 to 255{suggestion(value, PROTOCOL_NUMBERS)}")


def wrong_port(value: object) -> str | None:
    """What is wrong with an item of a port list: a number, digits, `first:last` or a name; None if nothing (A.10 Port)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return None if 1 <= value <= 65535 else f"{value} is no port: expected 1 to 65535"
    if not isinstance(value, str):
        return f"expected a port, not {show(value)}"
    ends = value.split(":")
    if not all(end.isascii() and end.isdigit() and len(end) <= 5 for end in ends) or len(ends) > 2:
        return names.wrong_port_name(value) and (
            f"{show(value)} is no port: expected a number, a range such as '8080:8090', or a name of at most 15 lower-case "
            "letters, digits and single '-'"
        )
    numbers = [int(end) for end in ends]
    if not all(1 <= number <= 65535 for number in numbers):
        return f"{show(value)} is no port: expected 1 to 65535"
    return None if numbers[0] <= numbers[-1] else f"{show(value)}: the range ends before it begins"


def is_named_port(value: object) -> bool:
    """Whether an item of a port list is a name."""
    return isinstance(value, str) and not value.replace(":", "").isdigit()


def _port(value: Any, path: str, report: Report) -> None:
    if reason := wrong_port(value):
        report(path, reason)


def _net(value: Any, path: str, report: Report) -> None:
    if not isinstance(value, str) or (canonical := nets.parse_net(value)) is None:
        report(path, f"{show(value)} is no network: expected an address, '/' and a length, such as 192.0.2.0/24")
    elif "/" not in value:
        report(path, f"{value!r} is an address; write the network as {canonical!r}")
    elif nets.parse_address(value.partition("/")[0]) != canonical.partition("/")[0]:
        report(path, f"{value!r} has bits set after its length; the network is {canonical!r}")


def _not_net(value: Any, path: str, report: Report) -> None:
    _net(value, path, report)
    if isinstance(value, str) and (canonical := nets.parse_net(value)) and nets.is_catch_all(canonical):
        report(path, f"not {value} matches nothing")


def _refused(why: str) -> Check:
    def check(_: Any, path: str, report: Report) -> None:
        report(path, why)

    return check


def _icmp_code_needs_type(value: dict[str, Any], path: str, report: Report) -> None:
    if value.get("code") is not None and value.get("type") is None:
        report(under(path, "code"), "a code needs a type")


_ICMP: Final = fields({"type": integer(0, 254), "code": integer(0, 255)}, also=_icmp_code_needs_type)
_ENTITY: Final[dict[str, Check]] = {
    "nets": listing(_net, most=MAX_NETS),
    "notNets": listing(_not_net, most=MAX_NETS),
    "ports": listing(_port, most=MAX_PORTS),
    "notPorts": listing(_port, most=MAX_PORTS),
    "selector": selector,
    "notSelector": selector,
    "namespaceSelector": namespace_selector,
    "serviceAccounts": fields({"names": listing(text), "selector": selector}),
    "services": _refused("only in the source of a policy's ingress rules and the destination of its egress rules"),
}
_NOT_BESIDE_SERVICES: Final = ("nets", "notNets", "selector", "notSelector", "namespaceSelector", "serviceAccounts")


def _service_part(value: Any, path: str, report: Report) -> None:
    if not isinstance(value, str) or not value:
        report(path, f"expected a name, not {show(value)}")


def _stand_alone(*names: str) -> Check:
    def check(value: dict[str, Any], path: str, report: Report) -> None:
        if value.get("services"):
            for name in names:
                if value.get(name) not in (None, "", []):
                    report(under(path, name), "can't stand beside services")

    return check


def _matches_services(side: str, *, namespaced: bool) -> Check:
    """A side that may name a service; a policy in no namespace says which namespace the service is in (M-51)."""
    required = ("name",) if namespaced else ("name", "namespace")
    named = fields({"name": _service_part, "namespace": _service_part}, required=required)
    excluded = _NOT_BESIDE_SERVICES if side == "source" else (*_NOT_BESIDE_SERVICES, "ports", "notPorts")
    return fields(_ENTITY | {"services": named}, also=_stand_alone(*excluded))


_PATH: Final = matching(r"/[^?# ]*", "a path that begins with '/' and has no '?', '#' or blank")
_HTTP: Final = fields({"methods": listing(text, most=20), "paths": listing(fields({"exact": _PATH, "prefix": _PATH}), most=20)})


def _http_fits(rule: dict[str, Any], path: str, report: Report) -> None:
    if rule.get("http") and (rule.get("action") != "Allow" or protocol_number(rule.get("protocol", 6)) != 6):
        report(under(path, "http"), "only an Allow rule for TCP or without a protocol can match HTTP")


def _entities(rule: dict[str, Any], path: str) -> Iterator[tuple[dict[str, Any], str]]:
    for side in ("source", "destination"):
        if isinstance(rule.get(side), dict):
            yield rule[side], under(path, side)


def _items(entity: dict[str, Any], path: str, *lists: str) -> Iterator[tuple[Any, str]]:
    for name in lists:
        if isinstance(entity.get(name), list):
            for index, item in enumerate(entity[name]):
                yield item, under(under(path, name), index)


def _ports_need_protocol(rule: dict[str, Any], path: str, report: Report) -> None:
    given = rule.get("protocol")
    number = protocol_number(given)
    if (given is not None and number is None) or number in _WITH_PORTS:
        return
    for entity, where in _entities(rule, path):
        for port, here in _items(entity, where, "ports", "notPorts"):
            if wrong_port(port):
                continue
            if given is not None:
                report(here, f"protocol {given} has no ports; TCP, UDP and SCTP have")
            elif not is_named_port(port):
                report(here, "a port number needs a protocol: TCP, UDP or SCTP")


def _icmp_needs_protocol(rule: dict[str, Any], path: str, report: Report) -> None:
    for name in ("icmp", "notICMP"):
        value = rule.get(name)
        if value is None or protocol_number(rule.get("protocol")) in _ICMP_FAMILY:
            continue
        report(under(path, name), "needs the rule's protocol to be ICMP or ICMPv6")


def _families_agree(rule: dict[str, Any], path: str, report: Report) -> None:
    version = rule.get("ipVersion")
    for name in ("protocol", "notProtocol"):
        family = _ICMP_FAMILY.get(protocol_number(rule.get(name)) or 0)
        if family and version in (4, 6) and version != family:
            report(under(path, "ipVersion"), f"{name} {rule[name]} is of IP version {family}")
    first = version if version in (4, 6) and not isinstance(version, bool) else None
    for entity, where in _entities(rule, path):
        for net, here in _items(entity, where, "nets", "notNets"):
            canonical = nets.parse_net(net) if isinstance(net, str) else None
            if canonical is None:
                continue
            family = nets.family(canonical)
            if first is not None and family != first:
                report(here, f"{net} is IPv{family} in a rule for IPv{first}; use a rule for each IP version")
                return
            first = family


def ip_version(value: Any, path: str, report: Report) -> None:
    """4 or 6."""
    if isinstance(value, bool) or not isinstance(value, int) or value not in (4, 6):
        report(path, f"{show(value)} is no IP version: expected 4 or 6")


_RULE: Final[dict[str, Check]] = {
    "action": one_of(*(action.value for action in Action)),
    "ipVersion": ip_version,
    "protocol": protocol,
    "notProtocol": protocol,
    "icmp": _ICMP,
    "notICMP": _ICMP,
    "source": fields(_ENTITY),
    "destination": fields(_ENTITY),
    "http": _refused("matching HTTP is not supported: packet filters see no requests"),
    "metadata": fields({"annotations": mapping(names.wrong_label_key, text)}),
}
_AGREES: Final = each_of(_ports_need_protocol, _icmp_needs_protocol, _families_agree)

rules: Final = listing(fields(_RULE, required=("action",), also=_AGREES), most=MAX_RULES)
"""The rules of a profile, in either direction."""


def policy_rules(*, namespaced: bool, staged: bool = False) -> dict[str, Check]:
    """The rules of a policy by direction: where traffic's other end is they may name services. Staged ones may match HTTP."""
    checks = {}
    for direction, side in (("ingress", "source"), ("egress", "destination")):
        allowed = {side: _matches_services(side, namespaced=namespaced)}
        agrees = _AGREES
        if staged and direction == "ingress":
            allowed["http"], agrees = _HTTP, each_of(_AGREES, _http_fits)
        checks[direction] = listing(fields(_RULE | allowed, required=("action",), also=agrees), most=MAX_RULES)
    return checks
