"""What workload endpoints and the settings of Calico's controllers may say (`statements.md` A.10, A.4).

Calico's network plugin writes the endpoints, without us; what a user writes is held to the same. Pure functions; any thread.
"""

from __future__ import annotations

import re
from typing import Any, Final

from hostward.convert import names, workload_names
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
    matching,
    one_of,
    text,
    under,
)
from hostward.convert.validate_infrastructure import address
from hostward.convert.validate_metadata import label_value, name, plain_name
from hostward.convert.validate_rules import protocol, protocol_number, selector
from hostward.model import nets
from hostward.model.fields import show

_MAC: Final = re.compile(r"[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}")
_WITH_PORTS: Final = (6, 17, 132)
_DURATION: Final = matching(r"(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h))+|0", "a duration such as 5m or 90s")


def _one_address(value: Any, path: str, report: Report) -> None:
    canonical = nets.parse_net(value, bare=False) if isinstance(value, str) else None
    if canonical is None or not canonical.endswith("/128" if ":" in canonical else "/32"):
        report(path, f"{show(value)} is no single address with its length, such as 192.0.2.10/32 or 2001:db8::10/128")


def _network(value: Any, path: str, report: Report) -> None:
    if not isinstance(value, str) or nets.parse_net(value) is None:
        report(path, f"{show(value)} is no network")


def _gateway(family: int) -> Check:
    def check(value: Any, path: str, report: Report) -> None:
        address(value, path, report)
        if isinstance(value, str) and (canonical := nets.parse_address(value)) and nets.family(canonical) != family:
            report(path, f"{value} is no IPv{family} address")

    return check


def _mac(value: Any, path: str, report: Report) -> None:
    if not isinstance(value, str) or not _MAC.fullmatch(value):
        report(path, f"{show(value)} is no MAC address, such as ee:ee:ee:ee:ee:ee")


def _port(value: dict[str, Any], path: str, report: Report) -> None:
    if not value.get("name") and not value.get("hostPort"):
        report(under(path, "name"), "missing: a port needs a name unless hostPort is set")


def _port_protocol(value: Any, path: str, report: Report) -> None:
    if protocol_number(value) is None:
        protocol(value, path, report)
    elif protocol_number(value) not in _WITH_PORTS:
        report(path, f"protocol {value} has no ports; TCP, UDP and SCTP have")


def _port_name(value: Any, path: str, report: Report) -> None:
    reason = names.wrong_port_name(value) if isinstance(value, str) else f"expected a name, not {show(value)}"
    if reason and value != "":
        report(path, reason)


def _host_ip(value: Any, path: str, report: Report) -> None:
    if value != "":
        address(value, path, report)


def _nats_fit(value: dict[str, Any], path: str, report: Report) -> None:
    own = value.get("ipNetworks")
    addresses = {nets.parse_net(one) for one in own if isinstance(one, str)} if isinstance(own, list) else set()
    for index, nat in enumerate(value["ipNATs"] if isinstance(value.get("ipNATs"), list) else ()):
        if not isinstance(nat, dict):
            continue
        here = under(under(path, "ipNATs"), index)
        inside, outside = (
            nets.parse_net(nat[name]) if isinstance(nat.get(name), str) and "/" not in nat[name] else None
            for name in ("internalIP", "externalIP")
        )
        if inside and inside not in addresses:
            report(under(here, "internalIP"), f"{nat['internalIP']} is none of this endpoint's ipNetworks")
        if inside and outside and nets.family(inside) != nets.family(outside):
            report(under(here, "externalIP"), "internalIP and externalIP are of different IP versions")


def _parts_are_there(value: dict[str, Any], path: str, report: Report) -> None:
    for field in dict.fromkeys(("node", "orchestrator", workload_names.third_field(value.get("orchestrator")), "endpoint")):
        part = value.get(field)
        if not part:
            report(under(path, field), "missing: it is part of the endpoint's name")
        elif isinstance(part, str) and part.strip("-") != part:
            report(under(path, field), f"{part!r} is part of the endpoint's name, so it can't begin or end with '-'")


def name_fits(document: dict[str, Any], _: str, report: Report) -> None:
    """A whole WorkloadEndpoint: its name is the one that its fields make (A.4)."""
    meta, spec = document.get("metadata"), document.get("spec")
    expected = workload_names.name_of(spec) if isinstance(spec, dict) else None
    given = meta.get("name") if isinstance(meta, dict) else None
    if expected and isinstance(given, str) and given != expected:
        report("metadata.name", f"{given!r} should be {expected!r}, which node, orchestrator, workload and endpoint make")


workload_endpoint: Final = fields(
    {
        "orchestrator": text,
        "workload": text,
        "node": plain_name,
        "containerID": text,
        "pod": text,
        "endpoint": text,
        "serviceAccountName": text,
        "ipNetworks": listing(_one_address),
        "ipNATs": listing(fields({"internalIP": address, "externalIP": address}, required=("internalIP", "externalIP"))),
        "ipv4Gateway": _gateway(4),
        "ipv6Gateway": _gateway(6),
        "profiles": listing(plain_name),
        "interfaceName": matching(r"[A-Za-z0-9_.-]{1,15}", "an interface: 1 to 15 letters, digits, '_', '.' and '-'"),
        "mac": _mac,
        "ports": listing(
            fields(
                {
                    "name": _port_name,
                    "protocol": _port_protocol,
                    "port": integer(1, 65535),
                    "hostPort": integer(0, 65535),
                    "hostIP": _host_ip,
                },
                required=("protocol", "port"),
                also=_port,
            )
        ),
        "allowSpoofedSourcePrefixes": listing(_network),
    },
    required=("interfaceName",),
    also=each_of(_parts_are_there, _nats_fit),
)
"""The spec of a WorkloadEndpoint."""

_CONTROLLER: Final = fields({"reconcilerPeriod": _DURATION})


def interface(value: Any, path: str, report: Report) -> None:
    """The interface of a host endpoint."""
    if not isinstance(value, str) or not (value == "*" or names.is_interface(value)):
        report(path, f"{show(value)} is no interface: expected '*' or 1 to 15 letters, digits, '_', '.' and '-'")


host_ports: Final = listing(
    fields(
        {"name": name(names.wrong_port_name), "protocol": _port_protocol, "port": integer(1, 65535)},
        required=("name", "protocol", "port"),
    )
)
"""The named ports of a host endpoint."""


def _one_way_to_interfaces(value: dict[str, Any], path: str, report: Report) -> None:
    if value.get("interfaceName") and value.get("interfacePattern"):
        report(under(path, "interfacePattern"), "a template has interfaceName or interfacePattern, not both")


_TEMPLATE: Final = fields(
    {
        "generateName": text,
        "interfaceCIDRs": listing(_network),
        "interfacePattern": text,
        "labels": mapping(names.wrong_label_key, label_value),
        "annotations": mapping(names.wrong_label_key, text),
        "nodeSelector": selector,
        # Ours: Calico ignores them.
        "interfaceName": interface,
        "profiles": listing(plain_name),
        "ports": host_ports,
    },
    also=_one_way_to_interfaces,
)
_SWITCH: Final = one_of("Enabled", "Disabled")
_SEVERITY: Final = one_of("None", "Debug", "Info", "Warning", "Error", "Fatal")


def _only_default(document: dict[str, Any], _: str, report: Report) -> None:
    meta = document.get("metadata")
    if isinstance(meta, dict) and isinstance(meta.get("name"), str) and meta["name"] != "default":
        report("metadata.name", "the one that is ever read is named 'default'")


only_default: Final[Check] = _only_default
"""A whole document of a kind of which only `default` exists."""

kube_controllers: Final = fields(
    {
        "logSeverityScreen": _SEVERITY,
        "healthChecks": _SWITCH,
        "etcdV3CompactionPeriod": _DURATION,
        "prometheusMetricsPort": integer(0, 65535),
        "debugProfilePort": integer(0, 65535),
        "controllers": fields(
            {
                "node": fields(
                    {
                        "reconcilerPeriod": _DURATION,
                        "syncLabels": _SWITCH,
                        "leakGracePeriod": _DURATION,
                        "hostEndpoint": fields(
                            {"autoCreate": _SWITCH, "createDefaultHostEndpoint": _SWITCH, "templates": listing(_TEMPLATE)}
                        ),
                    }
                ),
                **dict.fromkeys(("policy", "workloadEndpoint", "serviceAccount", "namespace"), _CONTROLLER),
                "policyMigration": fields({"enabled": anything, "reconcilerPeriod": _DURATION}),
                "loadBalancer": fields({"assignIPs": one_of("AllServices", "RequestedServicesOnly"), "enabled": boolean}),
            }
        ),
    }
)
"""The spec of a KubeControllersConfiguration."""
