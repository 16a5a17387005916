"""Felix's metric names for what Hostward does, exactly as operators' dashboards ask for them (`enforcement.md` L-41).

A collector of its own, because the client library adds `_total` to counters and has no quantiles (`observability.md` 5.2).
Counters are exposed untyped, as `rate()` doesn't mind. Families of what Hostward doesn't do (routes, BPF) are left out. Any
thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily, UnknownMetricFamily

from hostward.render.ruleset import FAMILIES, TABLES, Family, TableId
from hostward.report.quantiles import Quantiles
from hostward.report.sizes import Activity, Cluster, DatastoreState, SetsSize, TableSize

_INET: Final[Mapping[Family, str]] = {4: "inet", 6: "inet6"}
Values = Mapping[tuple[str, ...], float]
_RESYNC_STATES: Final = {"waiting": 1, "lost": 1, "resync": 2, "in-sync": 3}


class Count:
    """A counter per label values, beginning with `start`; without labels the key is ()."""

    def __init__(self, start: Iterable[tuple[str, ...]] = ((),)) -> None:
        self._values: dict[tuple[str, ...], float] = dict.fromkeys(start, 0.0)
        self._lock = threading.Lock()

    def add(self, amount: float = 1, *labels: str) -> None:
        """Adds to the counter of these label values."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0.0) + amount

    def read(self) -> dict[tuple[str, ...], float]:
        """All values."""
        with self._lock:
            return dict(self._values)


@dataclass(frozen=True, slots=True)
class _Sizes:
    tables: Mapping[TableId, TableSize]
    sets: Mapping[Family, SetsSize]
    endpoints: int = 0
    policies: int = 0
    selectors: int = 0


class FelixMetrics:
    """What Felix would have counted."""

    def __init__(self, node: str, clock: Callable[[], float], log_counts: Callable[[], tuple[int, ...]]) -> None:
        self._node = node
        self._log_counts = log_counts
        self._sizes = _Sizes({}, {})
        self.cluster = Cluster()
        self._resync_state = 1
        self._first_apply = 0.0
        self.resyncs = Count()
        self.failures = Count()
        self.updates = Count([])
        self.messages = Count([])
        self.outputs = Count()
        self.lock_retries = Count([("4",)])
        self.restores = Count()
        self.restore_errors = Count()
        self.restore_lines = Count([(str(family), table) for family in FAMILIES for table in TABLES])
        self.saves = Count()
        self.save_errors = Count()
        self.ipset_calls = Count()
        self.ipset_errors = Count()
        self.ipset_lines = Count()
        self.apply_time = Quantiles(clock)
        self.calculated = Quantiles(clock)
        self.lock_waits = Quantiles(clock)
        self.exec_micros = Quantiles(clock)
        self.batch_size = Quantiles(clock)
        self.link_batch_size = Quantiles(clock)
        self.address_batch_size = Quantiles(clock)

    # --- told by Metrics -----------------------------------------------------------------------------------------------
    def received(self, updates: Mapping[str, int]) -> None:
        """Datastore updates per kind."""
        for kind, count in updates.items():
            self.updates.add(count, kind)

    def datastore(self, state: DatastoreState) -> None:
        """The state of the connection; entering "resync" counts a resync."""
        number = _RESYNC_STATES[state]
        if number == 2 and self._resync_state != 2:
            self.resyncs.add()
        self._resync_state = number

    def applied(self, seconds: float, *, first: bool) -> None:
        """An apply; the first one isn't in the summary (L-41)."""
        if first:
            self._first_apply = seconds
        else:
            self.apply_time.observe(seconds)

    def sizes(self, tables: Mapping[TableId, TableSize], sets: Mapping[Family, SetsSize], activity: Activity) -> None:
        """What is in the kernel and in force."""
        self._sizes = _Sizes(
            dict(tables), dict(sets), activity.endpoints + activity.workloads, activity.policies, activity.sets
        )

    # --- told by the dataplane's callers -------------------------------------------------------------------------------
    def restored(self, table: TableId, lines: int, seconds: float | None = None, *, ok: bool = True) -> None:
        """A table was written: so many rules; `seconds` if a child process did it."""
        self.restores.add()
        self.restore_lines.add(lines, str(table.family), table.name)
        if not ok:
            self.restore_errors.add()
        if seconds is not None:
            self.exec_micros.observe(seconds * 1e6)

    def saved(self, *, ok: bool = True) -> None:
        """A table was read whole."""
        self.saves.add()
        if not ok:
            self.save_errors.add()

    def sets_written(self, calls: int, lines: int, *, ok: bool = True) -> None:
        """Sets were written: so many commands with so many members."""
        self.ipset_calls.add(calls)
        self.ipset_lines.add(lines)
        if not ok:
            self.ipset_errors.add()

    def batch(self, messages: Mapping[str, int], links: int = 0, addresses: int = 0) -> None:
        """One batch reached the engine: changes per kind, and changes of interfaces and addresses."""
        for kind, count in messages.items():
            self.messages.add(count, kind)
        total = sum(messages.values())
        self.outputs.add(total)
        for size, summary in ((total, self.batch_size), (links, self.link_batch_size), (addresses, self.address_batch_size)):
            if size:
                summary.observe(size)

    # --- read by a scrape ----------------------------------------------------------------------------------------------
    def collect(self) -> Iterator[Metric]:
        """All families with their present values."""
        sizes, cluster = self._sizes, self.cluster
        yield _gauge("felix_host", "Constant 1; the label is this host's name.", {(self._node,): 1}, "host")
        for name, value, text in (
            ("active_local_endpoints", sizes.endpoints, "Endpoints on this host."),
            ("active_local_policies", sizes.policies, "Policies that match an endpoint on this host."),
            ("active_local_selectors", sizes.selectors, "Sets of selectors, named ports and services in use."),
            ("active_local_tags", 0, "Tags in use; tags are no longer part of the data model."),
            ("cluster_num_hosts", cluster.hosts, "Hosts in the cluster."),
            ("cluster_num_host_endpoints", cluster.host_endpoints, "Host endpoints in the cluster."),
            (
                "cluster_num_workload_endpoints",
                cluster.workload_endpoints,
                "Workload endpoints in the cluster.",
            ),
            ("cluster_num_policies", cluster.policies, "Policies in the cluster."),
            ("cluster_num_profiles", cluster.profiles, "Profiles in the cluster."),
            ("cluster_num_tiers", cluster.tiers, "Tiers in the cluster."),
            ("resync_state", self._resync_state, "1 waiting, 2 resync in progress, 3 in sync."),
            ("int_dataplane_initial_resync_time_seconds", self._first_apply, "Duration of the first apply."),
            ("ipsets_total", sum(held.sets for held in sizes.sets.values()), "Own sets of both families."),
        ):
            yield _gauge(f"felix_{name}", text, {(): value})
        of_table = ("ip_version", "table")
        chains: Values = {(str(t.family), t.name): size.chains for t, size in sizes.tables.items()}
        rules: Values = {(str(t.family), t.name): size.rules for t, size in sizes.tables.items()}
        yield _gauge("felix_iptables_chains", "Own chains.", chains, *of_table)
        yield _gauge("felix_iptables_rules", "Own rules.", rules, *of_table)
        calico: Values = {(_INET[family],): held.sets for family, held in sizes.sets.items()}
        yield _gauge("felix_ipsets_calico", "Own sets.", calico, "ip_version")
        yield from self._counters(of_table)
        for name, summary, text in (
            ("int_dataplane_apply_time_seconds", self.apply_time, "Duration of an apply, without the first."),
            ("calc_graph_update_time_seconds", self.calculated, "Duration of the calculation per batch."),
            ("iptables_lock_acquire_secs", self.lock_waits, "Time waited for the xtables lock."),
            ("exec_time_micros", self.exec_micros, "Run time of child processes."),
            ("int_dataplane_msg_batch_size", self.batch_size, "Changes per batch."),
            ("int_dataplane_iface_msg_batch_size", self.link_batch_size, "Interface changes per batch."),
            ("int_dataplane_addr_msg_batch_size", self.address_batch_size, "Address changes per batch."),
        ):
            yield _summary(f"felix_{name}", text, summary)

    def _counters(self, of_table: tuple[str, ...]) -> Iterable[Metric]:
        dropped, failed = self._log_counts()
        for name, values, labels, text in (
            ("resyncs_started", self.resyncs.read(), (), "Resyncs with the datastore begun."),
            ("calc_graph_updates_processed", self.updates.read(), ("type",), "Datastore updates by kind."),
            ("calc_graph_output_events", self.outputs.read(), (), "Changes handed to the dataplane."),
            ("int_dataplane_messages", self.messages.read(), ("type",), "Changes handed to the dataplane by kind."),
            ("int_dataplane_failures", self.failures.read(), (), "Applies that left something to be tried again."),
            ("iptables_lines_executed", self.restore_lines.read(), of_table, "Rules written."),
            ("iptables_restore_calls", self.restores.read(), (), "Writes of a table."),
            ("iptables_restore_errors", self.restore_errors.read(), (), "Writes of a table that failed."),
            ("iptables_save_calls", self.saves.read(), (), "Whole reads of a table."),
            ("iptables_save_errors", self.save_errors.read(), (), "Whole reads of a table that failed."),
            ("iptables_lock_retries", self.lock_retries.read(), ("version",), "Failed attempts."),
            ("ipset_calls", self.ipset_calls.read(), (), "Set commands."),
            ("ipset_errors", self.ipset_errors.read(), (), "Set commands that failed."),
            ("ipset_lines_executed", self.ipset_lines.read(), (), "Set members written."),
            ("logs_dropped", {(): dropped}, (), "Log lines that found no room."),
            ("log_errors", {(): failed}, (), "Log lines that could not be written."),
        ):
            family = UnknownMetricFamily(f"felix_{name}", text, labels=labels)
            for key, value in values.items():
                family.add_metric(key, value)
            yield family


def _gauge(name: str, text: str, values: Values, *labels: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _summary(name: str, text: str, summary: Quantiles) -> Metric:
    count, total, quantiles = summary.read()
    metric = Metric(name, text, "summary")
    for quantile, value in quantiles.items():
        metric.add_sample(name, {"quantile": f"{quantile:g}"}, value)
    metric.add_sample(f"{name}_sum", {}, total)
    metric.add_sample(f"{name}_count", {}, count)
    return metric
