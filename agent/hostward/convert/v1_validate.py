"""What v1 documents may say (`statements.md` B.1, B.2): more lenient than v3 in names and nets, stricter in spelling.

Kinds that can't be converted are refused by name, with the reason. Pure functions; any thread.
"""

from __future__ import annotations

import re
from typing import Any, Final

from hostward.convert.checks import (
    Check,
    Report,
    boolean,
    each_of,
    fields,
    integer,
    listing,
    mapping,
    matching,
    number,
    one_of,
    problems_of,
    text,
    under,
)
from hostward.convert.validate_infrastructure import address
from hostward.convert.validate_rules import ip_version, is_named_port, selector, wrong_port
from hostward.model import nets
from hostward.model.fields import Problem, show

API_VERSION: Final = "v1"
REFUSED: Final = {"bgpPeer": "bgpPeer is about routing, and Hostward has no BGP; keep it with calicoctl"}
_PROTOCOLS: Final = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "sctp": 132, "udplite": 136}
_ICMP_FAMILY: Final = {1: 4, 58: 6}
_WITH_PORTS: Final = (6, 17)
_LABEL_KEY: Final = re.compile(r"[A-Za-z0-9_./-]{1,512}")

_name: Final = matching(r"[A-Za-z0-9_./-]{1,128}", "a name of 1 to 128 letters, digits, '_', '.', '/' and '-'")
_node_name: Final = matching(r"[A-Za-z0-9_.-]{1,128}", "a name of 1 to 128 letters, digits, '_', '.' and '-'")
_tag: Final = _node_name
_label_value: Final = matching(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", "a label's value of at most 63 letters, digits, '_', '.' and '-'"
)


def _wrong_label_key(key: str) -> str | None:
    return None if _LABEL_KEY.fullmatch(key) else "a label's key has 1 to 512 letters, digits, '_', '.', '/' and '-'"


def protocol_number(value: object) -> int | None:
    """The number of a protocol as v1 writes it: a lower-case name, or 1-255, also as digits; else None."""
    if isinstance(value, str):
        if value in _PROTOCOLS:
            return _PROTOCOLS[value]
        value = int(value) if value.isascii() and value.isdigit() and len(value) <= 3 else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 1 <= value <= 255 else None


def _protocol(value: Any, path: str, report: Report) -> None:
    if protocol_number(value) is None:
        report(path, f"{show(value)} is no protocol: expected {', '.join(_PROTOCOLS)} (in lower case) or 1 to 255")


def _net(value: Any, path: str, report: Report) -> None:
    if not isinstance(value, str) or nets.parse_net(value) is None:
        report(path, f"{show(value)} is no address or network")


def _port(value: Any, path: str, report: Report) -> None:
    if reason := wrong_port(value) or ("v1 has no named ports" if is_named_port(value) else None):
        report(path, reason)


def _code_needs_type(value: dict[str, Any], path: str, report: Report) -> None:
    if value.get("code") is not None and value.get("type") is None:
        report(under(path, "code"), "a code needs a type")


_ICMP: Final = fields({"type": integer(0, 254), "code": integer(0, 255)}, also=_code_needs_type)
_ENTITY: Final = fields(
    {
        "tag": _tag,
        "notTag": _tag,
        "net": _net,
        "notNet": _net,
        "nets": listing(_net),
        "notNets": listing(_net),
        "selector": selector,
        "notSelector": selector,
        "ports": listing(_port),
        "notPorts": listing(_port),
    }
)


def _rule_agrees(rule: dict[str, Any], path: str, report: Report) -> None:
    number_ = protocol_number(rule.get("protocol"))
    family = rule.get("ipVersion")
    for name in ("protocol", "notProtocol"):
        implied = _ICMP_FAMILY.get(protocol_number(rule.get(name)) or 0)
        if implied and family in (4, 6) and family != implied:
            report(under(path, "ipVersion"), f"{name} {rule[name]} is of IP version {implied}")
    for name in ("icmp", "notICMP"):
        if rule.get(name) is not None and number_ not in _ICMP_FAMILY:
            report(under(path, name), "needs the rule's protocol to be icmp or icmpv6")
    for side in ("source", "destination"):
        entity = rule.get(side)
        if not isinstance(entity, dict):
            continue
        here = under(path, side)
        for name in ("ports", "notPorts"):
            if entity.get(name) and number_ not in _WITH_PORTS:
                report(under(here, name), "ports need protocol tcp or udp")
        for single, several in (("net", "nets"), ("notNet", "notNets")):
            if entity.get(single) and entity.get(several):
                report(under(here, single), f"{single} and {several} can't both be given")


_RULE: Final = fields(
    {
        "action": one_of("allow", "deny", "log", "pass"),
        "ipVersion": ip_version,
        "protocol": _protocol,
        "notProtocol": _protocol,
        "icmp": _ICMP,
        "notICMP": _ICMP,
        "source": _ENTITY,
        "destination": _ENTITY,
    },
    required=("action",),
    also=_rule_agrees,
)
_RULES: Final = listing(_RULE)


def _types_once(value: Any, path: str, report: Report) -> None:
    if isinstance(value, list) and len({str(item) for item in value}) < len(value):
        report(path, "a type is given twice")


def _policy_agrees(value: dict[str, Any], path: str, report: Report) -> None:
    if value.get("preDNAT") is True:
        if value.get("doNotTrack") is True:
            report(under(path, "preDNAT"), "a policy is either preDNAT or doNotTrack")
        if value.get("egress"):
            report(under(path, "egress"), "a preDNAT policy has ingress rules only")
        if isinstance(value.get("types"), list) and "egress" in value["types"]:
            report(under(path, "types"), "a preDNAT policy has the type ingress only")


_POLICY: Final = fields(
    {
        "order": number,
        "ingress": _RULES,
        "egress": _RULES,
        "selector": selector,
        "doNotTrack": boolean,
        "preDNAT": boolean,
        "types": each_of(listing(one_of("ingress", "egress")), _types_once),
    },
    also=_policy_agrees,
)


def _interface_or_addresses(value: dict[str, Any], path: str, report: Report) -> None:
    if not value.get("interfaceName") and not value.get("expectedIPs"):
        report(under(path, "interfaceName"), "missing: a host endpoint needs interfaceName, expectedIPs or both")


_LABELS: Final = mapping(_wrong_label_key, _label_value)
_HOST_ENDPOINT: Final = fields(
    {
        "interfaceName": matching(r"[A-Za-z0-9_.-]{1,15}", "an interface: 1 to 15 letters, digits, '_', '.' and '-'"),
        "expectedIPs": listing(address),
        "profiles": listing(_name),
    },
    also=_interface_or_addresses,
)
_NODE: Final = fields(
    {
        "bgp": fields({"asNumber": integer(0, 2**32 - 1), "ipv4Address": _net, "ipv6Address": _net}),
        "orchRefs": listing(fields({"nodeName": text, "orchestrator": text}, required=("orchestrator",))),
    }
)
_WORKLOAD_ENDPOINT: Final = fields(
    {
        "ipNetworks": listing(_net),
        "ipNATs": listing(fields({"internalIP": address, "externalIP": address}, required=("internalIP", "externalIP"))),
        "ipv4Gateway": address,
        "ipv6Gateway": address,
        "profiles": listing(_name),
        "interfaceName": matching(r"[A-Za-z0-9_.-]{1,15}", "an interface: 1 to 15 letters, digits, '_', '.' and '-'"),
        "mac": text,
    },
    required=("interfaceName",),
)
_POOL: Final = fields(
    {
        "ipip": fields({"enabled": boolean, "mode": one_of("always", "cross-subnet")}),
        "nat-outgoing": boolean,
        "disabled": boolean,
    }
)


def _document(kind: str, meta: dict[str, Check], required: tuple[str, ...], spec: Check) -> Check:
    return fields(
        {"apiVersion": one_of(API_VERSION), "kind": one_of(kind), "metadata": fields(meta, required=required), "spec": spec},
        required=("metadata",) if kind in ("node", "ipPool", "profile") else ("metadata", "spec"),
    )


_CHECKS: Final[dict[str, Check]] = {
    "policy": _document("policy", {"name": _name, "annotations": mapping(lambda _: None, text)}, ("name",), _POLICY),
    "profile": _document(
        "profile",
        {"name": _name, "tags": listing(_tag), "labels": _LABELS},
        ("name",),
        fields({"ingress": _RULES, "egress": _RULES}),
    ),
    "hostEndpoint": _document(
        "hostEndpoint", {"name": _name, "node": _node_name, "labels": _LABELS}, ("name", "node"), _HOST_ENDPOINT
    ),
    "workloadEndpoint": _document(
        "workloadEndpoint",
        {
            "name": _name,
            "workload": _name,
            "orchestrator": _name,
            "node": _node_name,
            "activeInstanceID": text,
            "labels": _LABELS,
        },
        ("name", "workload", "orchestrator", "node"),
        _WORKLOAD_ENDPOINT,
    ),
    "node": _document("node", {"name": _node_name}, ("name",), _NODE),
    "ipPool": _document("ipPool", {"cidr": _net}, ("cidr",), _POOL),
}
KINDS: Final = frozenset(_CHECKS) | frozenset(REFUSED)
"""The seven kinds of v1, in the very spelling of documents."""


def problems(document: dict[str, Any]) -> list[Problem]:
    """All that is wrong with a v1 document, by the paths of its own fields. Never raises."""
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        words = {known.lower(): known for known in sorted(KINDS)}
        hint = words.get(kind.lower()) if isinstance(kind, str) else None
        meant = f"; did you mean {hint!r}?" if hint else f"; v1 kinds are {', '.join(words.values())}"
        return [
            Problem(
                "kind", f"unknown resource type ({kind if isinstance(kind, str) else show(kind)}) and/or version (v1){meant}"
            )
        ]
    if kind in REFUSED:
        return [Problem("kind", REFUSED[kind])]
    return problems_of(_CHECKS[kind], document)
