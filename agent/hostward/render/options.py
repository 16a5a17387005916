"""What rendering takes from the settings. Pure values; any thread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct

from hostward.model.failsafe import FailsafePort
from hostward.model.nets import parse_net
from hostward.model.rules import TCP
from hostward.model.settings import Settings
from hostward.render.marks import Marks
from hostward.render.ruleset import FAMILIES, Family

KernelAllow = Literal["ACCEPT", "RETURN"]
KernelVerdict = Literal["ACCEPT", "DROP", "RETURN"]
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_DEFAULT_BURST: Final = 5  # what the kernel takes where none is given


class Options(Struct, frozen=True):
    """Everything that the shape of the rules depends on beside the resolved state."""

    marks: Marks
    families: tuple[Family, ...] = (4, 6)
    workload_prefixes: tuple[str, ...] = ("cali",)
    forward_all: bool = True
    filter_allow: KernelAllow = "ACCEPT"
    mangle_allow: KernelAllow = "ACCEPT"
    filter_reject: bool = False
    drop_invalid: bool = True
    failsafe_in: tuple[FailsafePort, ...] = ()
    failsafe_out: tuple[FailsafePort, ...] = ()
    log_prefix: str = "calico-packet"
    log_limit: tuple[str, int] | None = None
    max_set_size: int = 1_048_576
    allow_spoofing: bool = False
    vxlan_port: int = 4789
    allow_vxlan: bool = False
    allow_ipip: bool = False
    to_host: KernelVerdict = "DROP"
    cut: int = 0
    """The bit of a connection's mark that says that policy denies it now; 0: none is cut."""


def _log_limit(rate: str, burst: int) -> tuple[str, int] | None:
    """The rate and burst of Log rules, None for no limit. The kernel refuses a burst worth more than a day (xt_limit)."""
    if not rate:
        return None
    count, _, unit = rate.partition("/")
    most = int(count) * _SECONDS["day"] // _SECONDS[unit]
    return rate, burst if (burst or _DEFAULT_BURST) <= most else most


def _allow(word: str) -> KernelAllow:
    return "RETURN" if word == "Return" else "ACCEPT"


def _to_host(settings: Settings) -> KernelVerdict:
    """What is done with what workloads may send to this host; accepted the way everything in INPUT is (H-39)."""
    if settings.default_endpoint_to_host_action == "Accept":
        return _allow(settings.iptables_filter_allow_action)
    return "RETURN" if settings.default_endpoint_to_host_action == "Return" else "DROP"


def options(settings: Settings, datastore: Iterable[tuple[str, int]], spoken: Iterable[Family] = FAMILIES) -> Options:
    """The options that settings mean.

    `datastore`: the addresses and ports that the agent itself must reach (D8); `spoken`: the IP versions of this kernel.
    """
    peers = tuple(
        FailsafePort(TCP, port, net) for address, port in sorted(datastore) if (net := parse_net(address)) is not None
    )
    marks = Marks.from_mask(settings.mark_mask)
    return Options(
        marks=marks,
        families=tuple(family for family in spoken if family == 4 or settings.ipv6_support),
        workload_prefixes=settings.interface_prefix,
        forward_all=settings.host_forward_policy == "All",
        filter_allow=_allow(settings.iptables_filter_allow_action),
        mangle_allow=_allow(settings.iptables_mangle_allow_action),
        filter_reject=settings.iptables_filter_deny_action == "Reject",
        drop_invalid=not settings.disable_conntrack_invalid_check,
        failsafe_in=settings.failsafe_inbound_host_ports,
        failsafe_out=(*settings.failsafe_outbound_host_ports, *peers),
        log_prefix=settings.log_prefix,
        log_limit=_log_limit(settings.log_action_rate_limit, settings.log_action_rate_limit_burst),
        max_set_size=settings.max_ipset_size,
        allow_spoofing=settings.workload_source_spoofing == "Any",
        vxlan_port=settings.vxlan_port,
        allow_vxlan=settings.allow_vxlan_packets_from_workloads,
        allow_ipip=settings.allow_ipip_packets_from_workloads,
        to_host=_to_host(settings),
        cut=marks.cut if settings.cut_open_connections == "Enabled" else 0,
    )
