"""Documents to the bytes that are stored, as Calico's own client writes them (`statements.md` A.2). Pure; any thread.

Fields come in the order of Calico's Go types, whatever order they were written in, so that equal resources are equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from hostward.model.keys import API_VERSION, ResourceKey

_NOT_STORED: Final = ("resourceVersion", "selfLink")
_RULE: Final = "action ipVersion protocol icmp notProtocol notICMP source destination http metadata ports from to"
_ENTITY: Final = "nets selector namespaceSelector services ports notNets notSelector notPorts serviceAccounts"
_FIELDS: Final[dict[str, dict[str, int]]] = {
    name: {field: rank for rank, field in enumerate(fields.split())}
    for name, fields in {
        "": "kind apiVersion metadata spec status",
        "metadata": "name generateName namespace selfLink uid resourceVersion generation creationTimestamp deletionTimestamp "
        "deletionGracePeriodSeconds labels annotations ownerReferences finalizers managedFields",
        "spec": "stagedAction tier order podSelector ingress egress policyTypes selector types doNotTrack preDNAT "
        "applyOnForward serviceAccountSelector namespaceSelector performanceHints defaultAction orchestrator workload node "
        "containerID pod endpoint serviceAccountName ipNetworks ipNATs ipv4Gateway ipv6Gateway interfaceName expectedIPs "
        "profiles mac ports nets labelsToApply bgp cidr vxlanMode ipipMode natOutgoing disabled disableBGPExport blockSize "
        "nodeSelector clusterGUID clusterType calicoVersion datastoreReady",
        "ingress": _RULE,
        "egress": _RULE,
        "source": _ENTITY,
        "destination": _ENTITY,
        "ports": "name protocol port",
        "icmp": "type code",
        "notICMP": "type code",
    }.items()
}
"""The order of fields below a field; fields that aren't named here, and those of other mappings, come sorted."""


def stored_form(key: ResourceKey, document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as it is stored under `key`: kind and apiVersion forced, keys in Calico's order."""
    metadata = {name: value for name, value in (document.get("metadata") or {}).items() if name not in _NOT_STORED}
    metadata = {"name": key.name} | ({"namespace": key.namespace} if key.namespace else {}) | metadata
    form: dict[str, Any] = _canonical({**document, "kind": key.kind, "apiVersion": API_VERSION, "metadata": metadata}, "")
    return form


def to_json(document: Mapping[str, Any]) -> bytes:
    """Compact JSON; integral numbers are written without a fraction."""
    return json.dumps(_canonical(document, ""), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        "utf-8", "backslashreplace"
    )


def _canonical(value: Any, field: str) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, Mapping):
        ranks = _FIELDS.get(field, {})
        names = sorted(value, key=lambda name: (ranks.get(name, len(ranks)), name))
        return {name: _canonical(value[name], name) for name in names}
    if isinstance(value, list | tuple):
        return [_canonical(one, field) for one in value]
    return value
