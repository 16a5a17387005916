"""Every setting of the agent: its one name, what it means, which values it takes, its built-in default (enforcement 7).

Where values come from and which source wins is `setting_sources`. Pure values; any thread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct

from hostward.model import failsafe
from hostward.model.failsafe import FailsafePort
from hostward.model.setting_values import (
    BOOL,
    FAILSAFES,
    INTERFACE_PATTERNS,
    INTERFACE_PREFIXES,
    INTERFACES,
    MASK,
    RATE,
    TIMEOUTS,
    NamedTimeout,
    ValueType,
    choice,
    duration,
    integer,
    string,
)


class Settings(Struct, frozen=True, kw_only=True):
    """The effective value of every setting. Durations are seconds; 0 switches a repeated action off where SETTINGS says so.

    `node_name` has no default of its own: `setting_sources.resolve` always fills it.
    """

    node_name: str = ""
    state_dir: str = "/var/lib/hostward"
    cluster_guid: str = ""
    boot_interfaces: tuple[str, ...] = ()
    host_forward_policy: str = "All"
    failsafe_inbound_host_ports: tuple[FailsafePort, ...] = failsafe.DEFAULT_INBOUND
    failsafe_outbound_host_ports: tuple[FailsafePort, ...] = failsafe.DEFAULT_OUTBOUND
    interface_prefix: tuple[str, ...] = ("cali",)
    interface_exclude: tuple[str, ...] = ("kube-ipvs0",)
    interface_refresh_interval: float = 90.0
    ipv6_support: bool = True
    mark_mask: int = 0xFF000000
    chain_insert_mode: str = "Insert"
    iptables_filter_allow_action: str = "Accept"
    iptables_mangle_allow_action: str = "Accept"
    iptables_filter_deny_action: str = "Drop"
    default_endpoint_to_host_action: str = "Drop"
    workload_source_spoofing: str = "Disabled"
    vxlan_port: int = 4789
    allow_vxlan_packets_from_workloads: bool = False
    allow_ipip_packets_from_workloads: bool = False
    disable_conntrack_invalid_check: bool = False
    cut_open_connections: str = "Disabled"
    max_ipset_size: int = 1_048_576
    iptables_refresh_interval: float = 180.0
    ipsets_refresh_interval: float = 90.0
    drift_check_interval: float = 1.0
    iptables_lock_file_path: str = "/run/xtables.lock"
    iptables_lock_timeout: float = 10.0
    iptables_lock_probe_interval: float = 0.05
    log_prefix: str = "calico-packet"
    log_action_rate_limit: str = ""
    log_action_rate_limit_burst: int = 5
    log_severity_screen: str = "INFO"
    log_format: str = "auto"
    health_enabled: bool = True
    health_host: str = "127.0.0.1"
    health_port: int = 9099
    health_timeout_overrides: tuple[NamedTimeout, ...] = ()
    dataplane_watchdog_timeout: float = 90.0
    prometheus_metrics_enabled: bool = True
    prometheus_metrics_host: str = "127.0.0.1"
    prometheus_metrics_port: int = 9091
    prometheus_metrics_ca_file: str = ""
    prometheus_metrics_cert_file: str = ""
    prometheus_metrics_key_file: str = ""
    prometheus_metrics_client_auth: str = "RequireAndVerifyClientCert"
    prometheus_process_metrics_enabled: bool = True
    felix_metrics_enabled: bool = True
    policy_counters_enabled: bool = True


class Setting(Struct, frozen=True):
    """One setting. `local`: not from the datastore. `felix`: further names under FELIX_, whose unit is in their ending.

    `at_start`: a process takes it only at its start; when the datastore changes it, the agent begins anew.
    """

    name: str
    type: ValueType
    meaning: str
    local: bool = False
    at_start: bool = False
    felix: tuple[str, ...] = ()

    @property
    def attribute(self) -> str:
        """The name as an attribute of Settings: `healthPort` is `health_port`."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", self.name).lower()

    @property
    def environment(self) -> str:
        """The name of its environment variable."""
        return f"HOSTWARD_{self.attribute.upper()}"


_PATH: Final = string("an absolute path", r"/[^\0-\x1f]{0,4000}")
_FOLDER: Final = string("an absolute path", r"/[^\0-\x1f]{0,4000}", empty=False)
_HOST: Final = string("an address or host name", r"[A-Za-z0-9_.:%-]{1,253}", empty=False)
_PORT: Final = integer(1, 65535)
_ALLOW: Final = choice("Accept", "Return")
_APPEND: Final = "Append is not supported: Hostward's jumps are kept first in their chains (Insert)"
_NO_LOCK: Final = "0 (no lock) is not supported: Hostward always takes the xtables lock"
_LEVELS: Final = {"trace": "DEBUG", "warn": "WARNING", "critical": "FATAL"}
_CLIENT_AUTH: Final = {
    # TLS in Python can't ask for a certificate and then not look at it: the nearest meaning that lets nobody more in.
    "requestclientcert": "NoClientCert",
    "requireanyclientcert": "RequireAndVerifyClientCert",
}

_ALL: Final = (
    Setting(
        "nodeName",
        string("a node name", r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}", empty=False),
        "This host's name in `spec.node` of host endpoints. Without it `NODENAME`, else the lower-cased hostname.",
        local=True,
        felix=("FELIXHOSTNAME",),
    ),
    Setting("stateDir", _FOLDER, "Where the agent keeps what must survive a restart, its lock and its status.", local=True),
    Setting(
        "clusterGUID",
        string("a cluster GUID", r"[A-Za-z0-9_.-]{1,128}"),
        "The cluster's GUID to accept in place of the one that was trusted on first use.",
        local=True,
    ),
    Setting(
        "bootInterfaces",
        INTERFACES,
        "Interfaces that are closed at boot, but for failsafe ports, where no rules were kept from before: [boot.md](boot.md).",
        local=True,
    ),
    Setting(
        "hostForwardPolicy",
        choice("All", "ApplyOnForward"),
        "Which policies of a host endpoint police traffic that is forwarded through it: all of them, with the final deny, "
        "or those with `applyOnForward`.",
    ),
    Setting("failsafeInboundHostPorts", FAILSAFES, "Ports of this host that no policy can close."),
    Setting(
        "failsafeOutboundHostPorts",
        FAILSAFES,
        "Ports elsewhere that no policy can close to this host. The agent's own etcd endpoints are always added.",
    ),
    Setting("interfacePrefix", INTERFACE_PREFIXES, "How names of workload interfaces begin; host endpoints leave them alone."),
    Setting("interfaceExclude", INTERFACE_PATTERNS, "Interfaces that the agent doesn't look at."),
    Setting(
        "interfaceRefreshInterval",
        duration(1, zero=True),
        "How often all interfaces are listed again, besides following their changes; 0 for never.",
        at_start=True,
    ),
    Setting("ipv6Support", BOOL, "Whether IPv6 is guarded too. Without it IPv6 traffic is not touched."),
    Setting("markMask", MASK, "The bits of the packet mark that are Hostward's. Felix's `iptablesMarkMask` is ignored."),
    Setting(
        "chainInsertMode",
        choice("Insert", unsupported={"append": _APPEND}),
        "Where Hostward's jumps stand in the kernel's chains: first.",
    ),
    Setting(
        "iptablesFilterAllowAction",
        _ALLOW,
        "What an allow ends with in INPUT and OUTPUT: `Accept`, or `Return` to the rules after ours.",
    ),
    Setting("iptablesMangleAllowAction", _ALLOW, "The same for preDNAT policy in mangle PREROUTING."),
    Setting("iptablesFilterDenyAction", choice("Drop", "Reject"), "What a deny does in the filter table."),
    Setting(
        "defaultEndpointToHostAction",
        choice("Drop", "Accept", "Return"),
        "What happens to traffic from workloads to this host that their policy allowed.",
    ),
    Setting(
        "workloadSourceSpoofing",
        choice("Disabled", "Any"),
        "Whether a workload may send from the addresses in its endpoint's `allowSpoofedSourcePrefixes`, or from its own alone.",
    ),
    Setting("vxlanPort", _PORT, "UDP port of the cluster's VXLAN tunnels, to which workloads can't send."),
    Setting("allowVXLANPacketsFromWorkloads", BOOL, "Whether workloads can send to `vxlanPort` all the same."),
    Setting("allowIPIPPacketsFromWorkloads", BOOL, "Whether workloads can send IP-in-IP packets."),
    Setting(
        "disableConntrackInvalidCheck", BOOL, "Whether packets in conntrack state INVALID are left to policy, not dropped."
    ),
    Setting(
        "cutOpenConnections",
        choice("Disabled", "Enabled"),
        "Whether open connections that a change newly denies are cut (docs/connections.md). Needs a seventh bit in `markMask`.",
    ),
    Setting("maxIpsetSize", integer(1, 2**31), "The most members a kernel set can have."),
    Setting("iptablesRefreshInterval", duration(1, zero=True), "How often all tables are read back whole; 0 for never."),
    Setting("ipsetsRefreshInterval", duration(1, zero=True), "How often all sets are read back whole; 0 for never."),
    Setting(
        "driftCheckInterval",
        duration(0.1, 3600),
        "How often tables are compared with what they should be. With very large tables the agent makes it longer by itself.",
    ),
    Setting("iptablesLockFilePath", _FOLDER, "The lock that programs which write iptables share.", local=True),
    Setting(
        "iptablesLockTimeout",
        duration(0.1, 3600, no_zero=_NO_LOCK),
        "How long one attempt waits for the lock before it is reported and tried again.",
        felix=("IPTABLESLOCKTIMEOUTSECS",),
        at_start=True,
    ),
    Setting(
        "iptablesLockProbeInterval",
        duration(0.001, 60),
        "How often the lock is tried while waiting.",
        felix=("IPTABLESLOCKPROBEINTERVALMILLIS",),
        at_start=True,
    ),
    Setting(
        "logPrefix",
        string("a prefix for the kernel's log (no control characters, quotes or backslashes)", r'[^\0-\x1f\x7f"\\]{1,128}'),
        "Prefix of packets logged by a `Log` rule; the kernel keeps 29 bytes. "
        "`%t` is the tier, `%k` the kind, `%n` the name, `%p` namespace and name.",
    ),
    Setting("logActionRateLimit", RATE, "At most so many packets logged per `Log` rule; unlimited if none."),
    Setting("logActionRateLimitBurst", integer(0, 9999), "So many before the limit holds; 0 for the kernel's own default."),
    Setting(
        "logSeverityScreen",
        choice("DEBUG", "INFO", "WARNING", "ERROR", "FATAL", aliases=_LEVELS),
        "The least severity that the agent logs to stderr.",
    ),
    Setting("logFormat", choice("auto", "json", "console"), "Form of log lines; `auto`: console on a terminal, else JSON."),
    Setting("healthEnabled", BOOL, "Whether `/liveness` and `/readiness` are served."),
    Setting("healthHost", _HOST, "Address that they are served on."),
    Setting("healthPort", _PORT, "Port that they are served on."),
    Setting("healthTimeoutOverrides", TIMEOUTS, "Other timeouts for health components.", at_start=True),
    Setting(
        "dataplaneWatchdogTimeout",
        duration(20),
        "How long the engine may take for one round before it isn't live.",
        at_start=True,
    ),
    Setting("prometheusMetricsEnabled", BOOL, "Whether `/metrics` is served."),
    Setting("prometheusMetricsHost", _HOST, "Address that it is served on; `0.0.0.0` or `::` for every address."),
    Setting("prometheusMetricsPort", _PORT, "Port that it is served on."),
    Setting("prometheusMetricsCAFile", _PATH, "Certificates of those who sign clients' certificates; asks clients for theirs."),
    Setting("prometheusMetricsCertFile", _PATH, "The server's certificate; with the key it switches TLS on."),
    Setting("prometheusMetricsKeyFile", _PATH, "The server's private key."),
    Setting(
        "prometheusMetricsClientAuth",
        choice("NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert", aliases=_CLIENT_AUTH),
        "Whether clients of `/metrics` need a certificate, once `prometheusMetricsCAFile` is set.",
    ),
    Setting(
        "prometheusProcessMetricsEnabled",
        BOOL,
        "Whether the agent's own CPU, memory and files are among the metrics.",
        at_start=True,
    ),
    Setting("felixMetricsEnabled", BOOL, "Whether Felix's metric names are served beside our own.", at_start=True),
    Setting("policyCountersEnabled", BOOL, "Whether packets and bytes are shown by policy."),
)
SETTINGS: Final[Mapping[str, Setting]] = MappingProxyType({setting.name: setting for setting in _ALL})

BUILT_IN: Final = Settings()


def differences(old: Settings, new: Settings) -> tuple[str, ...]:
    """The attributes in which two settings differ, in the order of the dataclass."""
    return tuple(name for name in Settings.__struct_fields__ if getattr(old, name) != getattr(new, name))


def show(settings: Settings, name: str) -> str:
    """The text of a setting's value, in the form that the environment takes."""
    setting = SETTINGS[name]
    value: Any = getattr(settings, setting.attribute)
    return setting.type.show(value)
