"""What nodes and IP pools may say: their shapes, and addresses that are addresses (`statements.md` A.2).

The agent counts nodes and reads nothing of pools; these are kept well-formed for Calico's other readers. Pure; any thread.
"""

from __future__ import annotations

from typing import Any, Final

from hostward.convert.checks import Report, boolean, fields, integer, listing, one_of, text, under
from hostward.convert.validate_rules import selector
from hostward.model import nets
from hostward.model.fields import show

_OVERLAY: Final = one_of("Never", "Always", "CrossSubnet")


def address(value: Any, path: str, report: Report) -> None:
    """An IP address without a length."""
    if not isinstance(value, str) or nets.parse_address(value) is None:
        report(path, f"{show(value)} is no IP address")


def _interface_address(value: Any, path: str, report: Report) -> None:
    if not isinstance(value, str) or nets.parse_net(value) is None:
        report(path, f"{show(value)} is no IP address with a length, such as 192.0.2.10/24")


def _as_number(value: Any, path: str, report: Report) -> None:
    parts = value.split(".") if isinstance(value, str) else [value]
    good = all(str(part).isascii() and str(part).isdigit() and len(str(part)) <= 10 for part in parts)
    if isinstance(value, bool) or not good or len(parts) > 2:
        report(path, f"{show(value)} is no AS number")


_BGP: Final = {
    "asNumber": _as_number,
    "ipv4Address": _interface_address,
    "ipv6Address": _interface_address,
    "ipv4IPIPTunnelAddr": address,
    "routeReflectorClusterID": text,
}
node: Final = fields(
    {
        "bgp": fields(_BGP),
        "addresses": listing(fields({"address": _interface_address, "type": text}, required=("address",))),
        "orchRefs": listing(fields({"nodeName": text, "orchestrator": text}, required=("orchestrator",))),
        "ipv4VXLANTunnelAddr": address,
        "ipv6VXLANTunnelAddr": address,
        "vxlanTunnelMACAddr": text,
        "vxlanTunnelMACAddrV6": text,
        "wireguard": fields({"interfaceIPv4Address": address, "interfaceIPv6Address": address}),
    }
)
"""The spec of a Node."""


def _block_size_fits(value: dict[str, Any], path: str, report: Report) -> None:
    cidr = nets.parse_net(value["cidr"], bare=False) if isinstance(value.get("cidr"), str) else None
    size = value.get("blockSize")
    if cidr is None:
        if value.get("cidr"):
            report(under(path, "cidr"), f"{show(value['cidr'])} is no network")
        return
    low, high = (20, 32) if nets.family(cidr) == 4 else (116, 128)
    if isinstance(size, int) and size and not low <= size <= high:
        report(under(path, "blockSize"), f"expected {low} to {high} for {cidr}")
    if value.get("ipipMode") not in (None, "", "Never") and value.get("vxlanMode") not in (None, "", "Never"):
        report(under(path, "vxlanMode"), "a pool has IPIP or VXLAN, not both")


ip_pool: Final = fields(
    {
        "cidr": text,
        "ipipMode": _OVERLAY,
        "vxlanMode": _OVERLAY,
        "natOutgoing": boolean,
        "disabled": boolean,
        "disableBGPExport": boolean,
        "blockSize": integer(0, 128),
        "nodeSelector": selector,
        "namespaceSelector": selector,
        "allowedUses": listing(one_of("Workload", "Tunnel", "LoadBalancer", "HostSecondaryInterface")),
        "assignmentMode": one_of("Automatic", "Manual"),
    },
    required=("cidr",),
    also=_block_size_fits,
)
"""The spec of an IPPool."""
