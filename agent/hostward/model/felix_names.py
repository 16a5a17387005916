"""Felix's settings that mean nothing here, and why, so that an operator who migrates is told (`statements.md` enforcement 7).

Names are flat: lower-case, without separators. Pure values; any thread.
"""

from __future__ import annotations

from typing import Final

_SAME_HOST: Final = "Hostward has nothing like it"
_REASONS: Final = {
    "iptablesmarkmask": "Hostward has bits of its own: set markMask",
    "iptablesbackend": "Hostward writes the tables that iptables-legacy shows",
    "iptablespostwritecheckinterval": "every write is verified at once, and driftCheckInterval does the rest",
    "iptablespostwritecheckintervalsecs": "every write is verified at once, and driftCheckInterval does the rest",
    "logfilepath": "Hostward logs to stderr",
    "logseverityfile": "Hostward logs to stderr: set logSeverityScreen",
    "logseveritysys": "Hostward logs to stderr: set logSeverityScreen",
    "datastoretype": "the datastore is named by HOSTWARD_DATASTORE or --datastore",
    "etcdaddr": "set ETCD_ENDPOINTS",
    "etcdscheme": "set ETCD_ENDPOINTS",
    "etcdendpoints": "set ETCD_ENDPOINTS",
    "etcdkeyfile": "set ETCD_KEY_FILE",
    "etcdcertfile": "set ETCD_CERT_FILE",
    "etcdcafile": "set ETCD_CA_CERT_FILE",
    "usagereportingenabled": "Hostward never reports its use to anybody",
    "usagereportinguri": "Hostward never reports its use to anybody",
    "ipforwarding": "Hostward changes no sysctl",
    "reportinginterval": "the agent never writes to the datastore",
    "reportingttl": "the agent never writes to the datastore",
    "reportingintervalsecs": "the agent never writes to the datastore",
    "reportingttlsecs": "the agent never writes to the datastore",
    "endpointreportingenabled": "the agent never writes to the datastore",
    "endpointreportingdelay": "the agent never writes to the datastore",
    "prometheusgometricsenabled": "Hostward isn't written in Go",
}
_PREFIXES: Final = (
    *("bpf", "wireguard", "vxlan", "ipip", "ipinip", "routetable", "routesync", "routesource", "devicroute", "deviceroute"),
    *("typha", "windows", "awssrcdst", "natport", "natoutgoing", "natoutput", "sidecar", "xdp", "genericxdp", "nftables"),
    *("flowlogs", "goldmane", "allowvxlan", "allowipip", "workloadsource", "serviceloop", "kubenodeport", "debug"),
    *("featuredetect", "featuregates", "openstack", "metadata", "netlink", "policysync", "removeexternalroutes", "mtuiface"),
    *("floatingips", "externalnodes", "ipsecmode", "dns", "capture", "istio", "program", "cgroup", "go", "istioambient"),
    *("dataplanedriver", "useinternaldataplane", "routerefresh", "logdebug", "endpointstatus", "prometheuswireguard"),
    *("usagereporting", "iptablesnatoutgoing", "requiremtu", "nfnetlink", "ipv4normalroute", "ipv4elevatedroute"),
    *("ipv6normalroute", "ipv6elevatedroute", "livemigration"),
)


def why_ignored(flat: str) -> str | None:
    """Why a setting of Felix, by its flat name, has no effect; None for a name that isn't Felix's either."""
    if flat in _REASONS:
        return _REASONS[flat]
    return _SAME_HOST if flat.startswith(_PREFIXES) else None
