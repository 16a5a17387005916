"""What Kubernetes' own API accepts in the parts of an object that converters read (`statements.md` kubernetes 1.3, 1.5, 1.7).

A converter checks a part - a peer, a rule, a whole object - before it reads it, so that nothing half understood becomes a v3
rule. Unknown fields are problems: a newer release may have added one that narrows what the part matches. `null` is absent, as
it is for Kubernetes. Knows nothing of v3. Pure functions; any thread.
"""

from __future__ import annotations

from typing import Any, Final

from hostward.convert import names
from hostward.convert.checks import (
    Check,
    Report,
    anything,
    boolean,
    each_of,
    fields,
    integer,
    listing,
    mapping,
    one_of,
    text,
    under,
)
from hostward.convert.validate_metadata import label_value, labels
from hostward.model import nets
from hostward.model.fields import show

PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
MAX_EXCEPTIONS: Final = 256
"""How many networks a v3 rule can exclude; it can't be split over two rules, as each would allow what the other excludes."""
port_number: Final = integer(1, 65535)
protocol: Final = one_of(*PROTOCOLS)


def _label_key(value: Any, path: str, report: Report) -> None:
    if not isinstance(value, str):
        report(path, f"expected a label's key, not {show(value)}")
    elif reason := names.wrong_label_key(value):
        report(path, f"{show(value)} is no label's key: {reason}")


def _values_fit_operator(value: dict[str, Any], path: str, report: Report) -> None:
    """An empty list beside NotIn would match everything, so it is refused, as the API server does."""
    operator, values = value.get("operator"), value.get("values")
    if operator in ("In", "NotIn") and not values:
        report(under(path, "values"), f"{operator} needs at least one value")
    elif operator in ("Exists", "DoesNotExist") and values:
        report(under(path, "values"), f"{operator} takes no values")


label_selector: Final = fields(
    {
        "matchLabels": mapping(names.wrong_label_key, label_value),
        "matchExpressions": listing(
            fields(
                {
                    "key": _label_key,
                    "operator": one_of("In", "NotIn", "Exists", "DoesNotExist"),
                    "values": listing(label_value),
                },
                required=("key", "operator"),
                also=_values_fit_operator,
            )
        ),
    }
)
"""A label selector, with matchLabels and all four operators."""


def cidr(value: Any, path: str, report: Report) -> None:
    """A network with its length; bits after the length are let through, old API servers store them."""
    if not isinstance(value, str) or nets.parse_net(value, bare=False) is None:
        report(path, f"{show(value)} is no network such as 192.0.2.0/24")


def _exceptions_inside(value: dict[str, Any], path: str, report: Report) -> None:
    whole = nets.parse_net(value["cidr"], bare=False) if isinstance(value.get("cidr"), str) else None
    for index, one in enumerate(value["except"] if whole and isinstance(value.get("except"), list) else ()):
        inner = nets.parse_net(one, bare=False) if isinstance(one, str) else None
        if whole and inner and not _strictly_inside(whole, inner):
            report(under(under(path, "except"), index), f"{one} is not a part of {value['cidr']}")


def _strictly_inside(outer: str, inner: str) -> bool:
    base, _, length = inner.partition("/")
    return int(length) > int(outer.partition("/")[2]) and nets.contains(outer, base)


_IP_BLOCK: Final = fields(
    {"cidr": cidr, "except": listing(cidr, most=MAX_EXCEPTIONS)}, required=("cidr",), also=_exceptions_inside
)


def _selectors_or_block(value: dict[str, Any], path: str, report: Report) -> None:
    selectors = [name for name in ("podSelector", "namespaceSelector") if value.get(name) is not None]
    block = value.get("ipBlock") is not None
    if block and selectors:
        report(under(path, "ipBlock"), f"can't stand beside {selectors[0]}")
    if not block and not selectors:
        report(path, "needs podSelector, namespaceSelector or ipBlock")


peer: Final = fields(
    {"podSelector": label_selector, "namespaceSelector": label_selector, "ipBlock": _IP_BLOCK}, also=_selectors_or_block
)
"""A NetworkPolicy's peer."""


def _port_or_name(value: Any, path: str, report: Report) -> None:
    if isinstance(value, str) and not value.isdigit():
        if reason := names.wrong_port_name(value):
            report(path, f"{show(value)} is no port's name: {reason}")
    else:
        port_number(int(value) if isinstance(value, str) and value.isascii() and len(value) <= 5 else value, path, report)


def _end_after_start(value: dict[str, Any], path: str, report: Report) -> None:
    first, last = value.get("port"), value.get("endPort")
    if last is None:
        return
    here = under(path, "endPort")
    if isinstance(first, str) and first.isdigit():
        first = int(first)
    if not isinstance(first, int):
        report(here, "needs a numeric port")
    elif isinstance(last, int) and last < first:
        report(here, f"the range {first} to {last} ends before it begins")


policy_port: Final = fields({"protocol": protocol, "port": _port_or_name, "endPort": port_number}, also=_end_after_start)
"""An entry of a NetworkPolicy rule's `ports`."""


def one_field(value: dict[str, Any], path: str, report: Report) -> None:
    """A mapping with exactly one field that isn't null."""
    given = [name for name, item in value.items() if item is not None]
    if len(given) != 1:
        report(path, f"needs exactly one field{', not ' + ' and '.join(sorted(map(str, given))) if given else ''}")


def _port_name(value: Any, path: str, report: Report) -> None:
    if reason := names.wrong_port_name(value) if isinstance(value, str) else f"expected a name, not {show(value)}":
        report(path, reason)


def _range_ends_after_start(value: dict[str, Any], path: str, report: Report) -> None:
    first, last = value.get("start"), value.get("end")
    if isinstance(first, int) and isinstance(last, int) and last < first:
        report(under(path, "end"), f"the range {first} to {last} ends before it begins")


_RANGE: Final = {"start": port_number, "end": port_number}
_DESTINATION: Final = fields(
    {"number": port_number, "range": fields(_RANGE, required=("start", "end"), also=_range_ends_after_start)}, also=one_field
)
_OF_PROTOCOL: Final = fields({"destinationPort": _DESTINATION})
cluster_protocol: Final = fields(
    {"tcp": _OF_PROTOCOL, "udp": _OF_PROTOCOL, "sctp": _OF_PROTOCOL, "destinationNamedPort": _port_name}, also=one_field
)
"""An entry of a ClusterNetworkPolicy rule's `protocols`."""
admin_port: Final = fields(
    {
        "portNumber": fields({"protocol": protocol, "port": port_number}, required=("port",)),
        "portRange": fields({"protocol": protocol} | _RANGE, required=("start", "end"), also=_range_ends_after_start),
        "namedPort": _port_name,
    },
    also=one_field,
)
"""An entry of an AdminNetworkPolicy rule's `ports`."""
_PODS: Final = fields({"namespaceSelector": label_selector, "podSelector": label_selector})
subject: Final = fields({"namespaces": label_selector, "pods": _PODS}, also=one_field)
"""What an admin policy is about, and a peer of its ingress rules."""


def _unsupported(_: Any, path: str, report: Report) -> None:
    report(path, "is not supported in a packet filter's rules; use namespaces, pods or networks")


egress_peer: Final = fields(
    {
        "namespaces": label_selector,
        "pods": _PODS,
        "networks": each_of(listing(cidr), lambda value, path, report: None if value else report(path, "names no network")),
        "nodes": _unsupported,
        "domainNames": _unsupported,
    },
    also=one_field,
)
"""A peer of an admin policy's egress rule."""


def _named(wrong: Check, *, namespaced: bool) -> Check:
    known: dict[str, Check] = {"name": wrong, "labels": labels, "annotations": mapping(lambda _: None, text)}
    if namespaced:
        known["namespace"] = _namespace

    def check(value: Any, path: str, report: Report) -> None:
        if not isinstance(value, dict):
            report(path, f"expected a mapping, not {show(value)}")
            return
        # Servers add what they like to metadata; nothing of it is about traffic.
        fields(known, required=("name",))({name: item for name, item in value.items() if name in known}, path, report)

    return check


def _name(value: Any, path: str, report: Report) -> None:
    if reason := names.wrong_name(value) if isinstance(value, str) else f"expected a name, not {show(value)}":
        report(path, reason)


def _namespace(value: Any, path: str, report: Report) -> None:
    if value != "" and (reason := names.wrong_tier_name(value) if isinstance(value, str) else "expected a name"):
        report(path, f"{show(value)} is no namespace: {reason}")


metadata: Final = _named(_name, namespaced=False)
"""The metadata of an object in no namespace."""
namespaced_metadata: Final = _named(_name, namespaced=True)
"""The metadata of an object in a namespace, which may be left out."""

container_port: Final = fields(
    {
        "containerPort": port_number,
        "hostPort": integer(0, 65535),
        "name": lambda value, path, report: None if value == "" else _port_name(value, path, report),
        "protocol": lambda value, path, report: None if value == "" else protocol(value, path, report),
        "hostIP": text,
    },
    required=("containerPort",),
)
"""A port of a container."""


def open_fields(table: dict[str, Check]) -> Check:
    """A mapping whose fields of this table pass, whatever others it has: an object of which only a part is about traffic."""

    def check(value: Any, path: str, report: Report) -> None:
        if not isinstance(value, dict):
            report(path, f"expected a mapping, not {show(value)}")
            return
        fields(table)({name: item for name, item in value.items() if name in table}, path, report)

    return check


_CONTAINERS: Final = listing(open_fields({"ports": listing(anything)}))
pod_spec: Final = open_fields(
    {
        "nodeName": text,
        "hostNetwork": boolean,
        "serviceAccountName": text,
        "containers": _CONTAINERS,
        "initContainers": _CONTAINERS,
    }
)
"""What of a pod's spec is about traffic. Its ports are checked one by one."""
pod_status: Final = open_fields({"phase": text, "podIP": text, "podIPs": listing(open_fields({"ip": text}))})
"""What of a pod's status is about traffic."""
node_status: Final = open_fields({"addresses": listing(open_fields({"address": text, "type": text}))})
"""What of a node's status is about traffic."""
