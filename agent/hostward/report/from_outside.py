"""Series whose values others keep: asked for, or shown as they were last left, at each scrape. Any thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct, field
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from hostward.report.traffic import Amount, Drop, PolicyLabels, Traffic

KERNEL_OPERATIONS: Final = ("lock", "read", "write", "sets")


class Outside(Struct, frozen=True):
    """What to ask at a scrape.

    `logs`: the log lines dropped, failed and folded since the start. `links`: how often all interfaces were listed, and how
    often the kernel dropped messages about them. `flows`: the conntrack entries deleted, the failures to, and the addresses
    that wait for it. `kernel`: what was done to tables and sets, as `LinuxKernel.calls` names it.
    `certificates`: when each ends, in seconds since 1970.
    """

    logs: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0)
    links: Callable[[], tuple[int, int]] = lambda: (0, 0)
    flows: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0)
    kernel: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    certificates: Callable[[], Mapping[str, float]] = dict


class FromOutside:
    """A collector of those, and of what the kernel's rules have counted."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._drops: Mapping[Drop, int] = {}
        self._failsafes: Mapping[tuple[str, str], int] = {}
        self._policies: Mapping[PolicyLabels, Amount] | None = None

    def show(self, traffic: Traffic, *, policies: bool) -> None:
        """Takes the present totals; a scrape may read them while they grow again."""
        self._drops, self._failsafes = dict(traffic.drops), dict(traffic.failsafes)
        self._policies = traffic.policies() if policies else None

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        """The families, with their present values."""
        yield from self._traffic()
        lost, failed, folded = self._outside.logs()
        yield CounterMetricFamily("hostward_logs_dropped", "Log lines that found no room.", value=lost)
        yield CounterMetricFamily("hostward_log_errors", "Log lines that could not be written.", value=failed)
        yield CounterMetricFamily("hostward_logs_folded", "Repeated log lines that another stands for.", value=folded)
        resyncs, overruns = self._outside.links()
        yield CounterMetricFamily("hostward_link_resyncs", "Full listings of the host's interfaces.", value=resyncs)
        yield CounterMetricFamily("hostward_link_overruns", "Times the kernel dropped interface messages.", value=overruns)
        deleted, refused, pending = self._outside.flows()
        name = "hostward_conntrack"
        yield CounterMetricFamily(
            f"{name}_entries_deleted", "Conntrack entries deleted of workloads that are gone.", value=deleted
        )
        yield CounterMetricFamily(f"{name}_failures", "Times that conntrack could not be read or edited.", value=refused)
        yield GaugeMetricFamily(f"{name}_addresses_pending", "Addresses that wait for their entries' deletion.", value=pending)
        text = "Waits for the xtables lock, reads and writes of tables, and commands to sets, that failed."
        errors = CounterMetricFamily("hostward_kernel_errors", text, labels=("operation",))
        for operation in KERNEL_OPERATIONS:
            errors.add_metric((operation,), self._outside.kernel.get((operation, "failed"), 0))
        yield errors
        text = "When a certificate that the agent uses ends, in seconds since 1970."
        ends = GaugeMetricFamily("hostward_certificate_expiry_timestamp_seconds", text, labels=("certificate",))
        for certificate, end in sorted(self._outside.certificates().items()):
            ends.add_metric((certificate,), end)
        yield ends

    def _traffic(self) -> Iterable[CounterMetricFamily]:
        dropped = CounterMetricFamily(
            "hostward_dropped_packets", "Packets dropped by host and workload endpoints.", labels=Drop._fields
        )
        for drop, count in sorted(self._drops.items()):
            dropped.add_metric(drop, count)
        yield dropped
        failsafe = CounterMetricFamily(
            "hostward_failsafe_packets", "Packets let through by failsafe ports.", labels=("direction", "protocol")
        )
        for place, count in sorted(self._failsafes.items()):
            failsafe.add_metric(place, count)
        yield failsafe
        if self._policies is None:
            return
        packets = CounterMetricFamily(
            "hostward_policy_packets", "Packets that rules of a policy decided about.", labels=PolicyLabels._fields
        )
        octets = CounterMetricFamily(
            "hostward_policy_bytes", "Bytes of packets that rules of a policy decided about.", labels=PolicyLabels._fields
        )
        for labels, amount in sorted(self._policies.items()):
            packets.add_metric(labels, amount.packets)
            octets.add_metric(labels, amount.bytes)
        yield packets
        yield octets
