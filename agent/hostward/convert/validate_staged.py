"""What staged policies may say: as the enforced kind, or, for a staged deletion, nothing but the tier (A.10).

A StagedKubernetesNetworkPolicy has the shape of Kubernetes' own policy. None of them is ever enforced. Pure; any thread.
"""

from __future__ import annotations

from typing import Any, Final

from hostward.convert import names
from hostward.convert.checks import Check, Report, fields, integer, listing, mapping, one_of, text, under
from hostward.convert.validate_metadata import label_value
from hostward.model import nets
from hostward.model.fields import show

ACTION: Final = one_of("Set", "Delete", "Learn", "Ignore")


def only_tier_when_deleting(value: dict[str, Any], path: str, report: Report) -> None:
    """The spec of a staged policy: with `stagedAction: Delete` everything but the tier is empty."""
    if value.get("stagedAction") != "Delete":
        return
    for name, item in value.items():
        if name not in ("stagedAction", "tier") and item:
            report(under(path, name), "a staged deletion has stagedAction and tier only")


def _cidr(value: Any, path: str, report: Report) -> None:
    if not isinstance(value, str) or nets.parse_net(value, bare=False) is None:
        report(path, f"{show(value)} is no network such as 192.0.2.0/24")


def _port(value: Any, path: str, report: Report) -> None:
    if isinstance(value, str):
        if reason := names.wrong_port_name(value):
            report(path, reason)
    else:
        integer(1, 65535)(value, path, report)


def _exceptions_inside(value: dict[str, Any], path: str, report: Report) -> None:
    whole, inner = value.get("cidr"), value.get("except")
    outer = nets.parse_net(whole) if isinstance(whole, str) else None
    for index, one in enumerate(inner if outer and isinstance(inner, list) else ()):
        canonical = nets.parse_net(one) if isinstance(one, str) else None
        if canonical and outer and not _inside(outer, canonical):
            report(under(under(path, "except"), index), f"{one} is not inside {whole}")


def _inside(outer: str, inner: str) -> bool:
    length = int(inner.partition("/")[2])
    return length >= int(outer.partition("/")[2]) and nets.contains(outer, inner.partition("/")[0])


_LABELS: Final = mapping(names.wrong_label_key, label_value)
_LABEL_SELECTOR: Final = fields(
    {
        "matchLabels": _LABELS,
        "matchExpressions": listing(
            fields(
                {"key": text, "operator": one_of("In", "NotIn", "Exists", "DoesNotExist"), "values": listing(label_value)},
                required=("key", "operator"),
            )
        ),
    }
)
_PEER: Final = fields(
    {
        "podSelector": _LABEL_SELECTOR,
        "namespaceSelector": _LABEL_SELECTOR,
        "ipBlock": fields({"cidr": _cidr, "except": listing(_cidr)}, required=("cidr",), also=_exceptions_inside),
    }
)
_PORTS: Final = listing(fields({"protocol": one_of("TCP", "UDP", "SCTP"), "port": _port, "endPort": integer(1, 65535)}))


def _rules(peers: str) -> Check:
    return listing(fields({"ports": _PORTS, peers: listing(_PEER)}))


kubernetes_policy: Final = fields(
    {
        "stagedAction": ACTION,
        "podSelector": _LABEL_SELECTOR,
        "ingress": _rules("from"),
        "egress": _rules("to"),
        "policyTypes": listing(one_of("Ingress", "Egress")),
    },
    also=only_tier_when_deleting,
)
"""The spec of a StagedKubernetesNetworkPolicy."""
