"""Tables of resources as calicoctl prints them: headings and cells of each kind, laid out like Go's tabwriter.

`statements.md` C.4. Works on documents as they are stored, however odd. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

Document = Mapping[str, Any]
Cell = Callable[[Document], str]

_MINIMUM, _PADDING, _NETS_CUT = 5, 3, 80


def render(kind: str, documents: Sequence[Document], *, wide: bool, with_namespace: bool) -> str:
    """The table of documents of one kind, with one blank line after it."""
    columns = dict(_COLUMNS[kind][wide])
    if with_namespace:
        columns = {"NAMESPACE": _meta("namespace")} | columns
    return layout([list(columns), *([_printable(cell(one)) for cell in columns.values()] for one in documents)])


def headings(kind: str) -> list[str]:
    """Every column of a kind, those of the wide table and the namespace."""
    return list(_all_columns(kind))


def render_columns(kind: str, documents: Sequence[Document], chosen: Sequence[str]) -> str:
    """The table of these columns, each one of `headings`."""
    cells = _all_columns(kind)
    return layout([list(chosen), *([_printable(cells[name](one)) for name in chosen] for one in documents)])


def _all_columns(kind: str) -> dict[str, Cell]:
    narrow, wide = _COLUMNS[kind]
    return {"NAMESPACE": _meta("namespace")} | wide | narrow


def layout(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text: a column is as wide as its longest cell and 3 more, the last one too; a blank line at the end."""
    widths = [max(_MINIMUM, *(len(cell) + _PADDING for cell in column)) for column in zip(*rows, strict=True)]
    lines = ["".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*lines, "", ""])


def go_float(value: object) -> str:
    """A number as Go prints it: its shortest form, with an exponent from 1e+06 on and below 0.0001; `<nil>` for none."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return "<nil>"
    try:
        number = Decimal(repr(float(value))).normalize()
    except OverflowError:
        return "+Inf" if value > 0 else "-Inf"
    exponent = number.adjusted()
    if not number or -5 < exponent < 6:
        return f"{number:f}"
    digits = "".join(map(str, number.as_tuple().digits))
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{'-' if number < 0 else ''}{digits[0]}{fraction}e{exponent:+03d}"


def _at(document: Document, *path: str) -> Any:
    value: Any = document
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def _printable(cell: str) -> str:
    """One line without control characters: what is stored must not write on the terminal."""
    return "".join(char if char.isprintable() else "?" for char in cell)


def _meta(name: str) -> Cell:
    return lambda document: _text(_at(document, "metadata", name))


def _spec(*path: str, default: str = "") -> Cell:
    return lambda document: _text(_at(document, "spec", *path)) or default


def _flag(*path: str) -> Cell:
    return lambda document: "true" if _at(document, "spec", *path) is True else "false"


def _joined(name: str, cut: int | None = None) -> Cell:
    def cell(document: Document) -> str:
        items = _at(document, "spec", name)
        whole = ",".join(map(_text, items)) if isinstance(items, list) else ""
        return whole if cut is None or len(whole) <= cut else f"{whole[:cut]}..."

    return cell


def _order(document: Document) -> str:
    return go_float(_at(document, "spec", "order"))


def _labels(document: Document) -> str:
    labels = _at(document, "spec", "labelsToApply")
    return ",".join(f"{name}={_text(labels[name])}" for name in sorted(labels)) if isinstance(labels, dict) else ""


def _workload(document: Document) -> str:
    return _spec("workload")(document) or _spec("pod")(document)


def _as_number(document: Document) -> str:
    return _spec("bgp", "asNumber")(document) or "(64512)"


def _nats(document: Document) -> str:
    nats = _at(document, "spec", "ipNATs")
    pairs = (
        (f"{_text(_at(nat, 'internalIP'))}/{_text(_at(nat, 'externalIP'))}" for nat in nats) if isinstance(nats, list) else ()
    )
    return ",".join(pairs)


_NAME: Final = {"NAME": _meta("name")}
_POLICY: Final = _NAME | {"TIER": _spec("tier", default="default")}
_POLICY_WIDE: Final = _POLICY | {"ORDER": _order, "SELECTOR": _spec("selector")}
_ENDPOINT: Final = _NAME | {"NODE": _spec("node")}
_ENDPOINT_WIDE: Final = _ENDPOINT | {
    "INTERFACE": _spec("interfaceName"),
    "IPS": _joined("expectedIPs"),
    "PROFILES": _joined("profiles"),
}
_WORKLOAD: Final = {
    "WORKLOAD": _workload,
    "NODE": _spec("node"),
    "NETWORKS": _joined("ipNetworks"),
    "INTERFACE": _spec("interfaceName"),
}
_TIER: Final = _NAME | {"ORDER": _order}
_POOL: Final = _NAME | {"CIDR": _spec("cidr")}
_POOL_SELECTOR: Final = {"SELECTOR": _spec("nodeSelector")}
_POOL_WIDE: Final = (
    _POOL
    | {"NAT": _flag("natOutgoing"), "IPIPMODE": _spec("ipipMode"), "VXLANMODE": _spec("vxlanMode")}
    | {"DISABLED": _flag("disabled"), "DISABLEBGPEXPORT": _flag("disableBGPExport")}
    | _POOL_SELECTOR
    | {"ASSIGNMENTMODE": _spec("assignmentMode")}
)
_CLUSTER: Final = _NAME | {
    "CLUSTERGUID": _spec("clusterGUID"),
    "CLUSTERTYPE": _spec("clusterType"),
    "CALICOVERSION": _spec("calicoVersion"),
    "DATASTOREREADY": _flag("datastoreReady"),
}
_COLUMNS: Final[dict[str, tuple[dict[str, Cell], dict[str, Cell]]]] = {
    "GlobalNetworkPolicy": (_POLICY, _POLICY_WIDE),
    "NetworkPolicy": (_POLICY, _POLICY_WIDE),
    "StagedGlobalNetworkPolicy": (_POLICY, _POLICY_WIDE),
    "StagedNetworkPolicy": (_POLICY, _POLICY_WIDE),
    "StagedKubernetesNetworkPolicy": (_NAME, _NAME | {"PODSELECTOR": _spec("podSelector")}),
    "HostEndpoint": (_ENDPOINT, _ENDPOINT_WIDE),
    "WorkloadEndpoint": (_WORKLOAD, _NAME | _WORKLOAD | {"PROFILES": _joined("profiles"), "NATS": _nats}),
    "Profile": (_NAME, _NAME | {"LABELS": _labels}),
    "NetworkSet": (_NAME, _NAME | {"NETS": _joined("nets", _NETS_CUT)}),
    "GlobalNetworkSet": (_NAME, _NAME | {"NETS": _joined("nets", _NETS_CUT)}),
    "Tier": (_TIER, _TIER),
    "Node": (
        _NAME,
        _NAME | {"ASN": _as_number, "IPV4": _spec("bgp", "ipv4Address"), "IPV6": _spec("bgp", "ipv6Address")},
    ),
    "IPPool": (_POOL | _POOL_SELECTOR, _POOL_WIDE),
    "ClusterInformation": (_CLUSTER, _CLUSTER),
    "FelixConfiguration": (_NAME, _NAME),
    "KubeControllersConfiguration": (_NAME, _NAME),
    "KubernetesEndpointSlice": (_NAME, _NAME),
}
"""The columns of each kind: narrow and wide."""
