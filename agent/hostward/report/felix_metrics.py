"""Felix's metric names for what Hostward does, exactly as operators' dashboards ask for them (`statements.md` L-41).

A collector of its own, because the client library adds `_total` to counters and has no quantiles (observability 5.2).
Counters are exposed untyped, as `rate()` doesn't mind. Families of what Hostward doesn't do (routes, BPF) are left out. Any
thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily, UnknownMetricFamily

from hostward.render.ruleset import FAMILIES, TABLES, Family
from hostward.report.from_outside import Outside
from hostward.report.quantiles import Quantiles
from hostward.report.sizes import Cluster, DatastoreState, Sizes

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


class FelixMetrics:
    """What Felix would have counted."""

    def __init__(self, node: str, clock: Callable[[], float], outside: Outside) -> None:
        self._node = node
        self._outside = outside
        self.sizes = Sizes({}, {})
        self.cluster = Cluster()
        self._resync_state = 1
        self._first_apply = 0.0
        self.resyncs = Count()
        self.failures = Count()
        self.updates = Count([])
        self.messages = Count([])
        self.outputs = Count()
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
        """The state of the connection."""
        self._resync_state = _RESYNC_STATES[state]

    def applied(self, seconds: float, *, first: bool) -> None:
        """An apply; the first one isn't in the summary (L-41)."""
        if first:
            self._first_apply = seconds
        else:
            self.apply_time.observe(seconds)

    def batch(self, messages: Mapping[str, int]) -> None:
        """What calculation changed, by kind, was handed to the dataplane."""
        for kind, count in messages.items():
            self.messages.add(count, kind)
        if total := sum(messages.values()):
            self.outputs.add(total)
            self.batch_size.observe(total)

    def links(self, links: int, addresses: int) -> None:
        """So many interfaces and addresses changed at once."""
        for size, summary in ((links, self.link_batch_size), (addresses, self.address_batch_size)):
            if size:
                summary.observe(size)

    # --- read by a scrape ----------------------------------------------------------------------------------------------
    def collect(self) -> Iterator[Metric]:
        """All families with their present values."""
        sizes, activity, cluster = self.sizes, self.sizes.activity, self.cluster
        yield _gauge("felix_host", "Constant 1; the label is this host's name.", {(self._node,): 1}, "host")
        for name, value, text in (
            ("active_local_endpoints", activity.endpoints + activity.workloads, "Endpoints on this host."),
            ("active_local_policies", activity.policies, "Policies that match an endpoint on this host."),
            ("active_local_selectors", activity.sets, "Sets of selectors, named ports and services in use."),
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
            (
                "label_index_num_endpoints",
                cluster.host_endpoints + cluster.workload_endpoints + cluster.network_sets,
                "Endpoints and network sets whose labels are indexed.",
            ),
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
        found: Values = {(str(indexed).lower(),): number for indexed, number in activity.selectors.items()}
        text = "Selectors of sets, by whether an index finds what they match."
        yield _gauge("felix_label_index_num_active_selectors", text, found, "optimized")
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
        dropped, failed, _ = self._outside.logs()
        done = self._outside.kernel
        lines = {(str(family), table): done.get(("rules", str(family), table), 0) for family in FAMILIES for table in TABLES}

        def called(operation: str) -> Values:
            return {(): done.get((operation, "done"), 0) + done.get((operation, "failed"), 0)}

        def failures(operation: str) -> Values:
            return {(): done.get((operation, "failed"), 0)}

        for name, values, labels, text in (
            ("resyncs_started", self.resyncs.read(), (), "Resyncs with the datastore begun."),
            ("calc_graph_updates_processed", self.updates.read(), ("type",), "Datastore updates by kind."),
            ("calc_graph_output_events", self.outputs.read(), (), "Changes handed to the dataplane."),
            ("int_dataplane_messages", self.messages.read(), ("type",), "Changes handed to the dataplane by kind."),
            ("int_dataplane_failures", self.failures.read(), (), "Applies that left something to be tried again."),
            ("iptables_lines_executed", lines, of_table, "Rules written."),
            ("iptables_restore_calls", called("write"), (), "Writes of a table."),
            ("iptables_restore_errors", failures("write"), (), "Writes of a table that failed."),
            ("iptables_save_calls", called("read"), (), "Whole reads of a table."),
            ("iptables_save_errors", failures("read"), (), "Whole reads of a table that failed."),
            ("iptables_lock_retries", {("4",): done.get(("lock", "retries"), 0)}, ("version",), "Failed attempts."),
            ("ipset_calls", called("sets"), (), "Set commands."),
            ("ipset_errors", failures("sets"), (), "Set commands that failed."),
            ("ipset_lines_executed", {(): done.get(("sets", "members"), 0)}, (), "Set members written."),
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
