"""The agent's own metrics, `hostward_...`: what the engine and the feeds tell, and how a scrape reads it.

Whoever knows something calls one method here; nobody waits for anybody. Felix's names for the same facts are in
`felix_metrics`. Any thread.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from hostward.model.keys import KINDS
from hostward.render.ruleset import FAMILIES, TABLES, Family, TableId
from hostward.report.felix_metrics import FelixMetrics
from hostward.report.from_outside import FromOutside, Outside
from hostward.report.sizes import DATASTORE_STATES, FROZEN, Activity, Cluster, DatastoreState, Sizes
from hostward.report.traffic import Traffic

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # it has no annotations. `_created` series would double the number of series and say nothing

_APPLY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_CHECK_BUCKETS: Final = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_ARRIVAL_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
NOTHING_OUTSIDE: Final = Outside()
_LOCK_BUCKETS: Final = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60)


class Metrics:
    """All metrics of one agent, in a registry of their own."""

    def __init__(
        self,
        *,
        version: str,
        node: str,
        clock: Callable[[], float] = time.monotonic,
        process: bool = True,
        felix: bool = True,
        backend: Mapping[str, str] | None = None,
        outside: Outside = NOTHING_OUTSIDE,
    ) -> None:
        """`backend`: what the agent enforces with and what it follows; `outside`: what others count, asked at each scrape."""
        self.registry = registry = CollectorRegistry(auto_describe=False)
        self._clock = clock
        self._contact = clock()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"hostward_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"hostward_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"hostward_{name}", text, registry=registry, buckets=buckets)

        self._applied = gauge("applied_revision", "Datastore revision whose every effect is in the kernel.")
        self._desired = gauge("desired_revision", "Newest datastore revision received.")
        self._apply_seconds = histogram(
            "apply_seconds", "Time from taking a batch of changes to the kernel holding it.", _APPLY_BUCKETS
        )
        self._apply_failures = counter("apply_failures", "Rounds that left something to be tried again.")
        self._end_to_end = histogram(
            "end_to_end_seconds", "Time from the arrival of a change to the kernel holding it.", _ARRIVAL_BUCKETS
        )
        self._exposure = counter(
            "exposure_seconds", "Upper bound of the time that tables or sets were not as the agent had left them."
        )
        self._repairs = counter(
            "repairs", "Tables and sets that others changed and the agent put right.", "table", "ip_version"
        )
        self._objects = gauge("objects", "Stored objects that the agent goes by, or of staged kinds knows of.", "kind")
        self._set_aside = gauge("objects_set_aside", "Stored objects that are not wholly understood.", "kind")
        age = gauge("datastore_contact_age_seconds", "Time since the datastore last confirmed that nothing newer was missed.")
        age.set_function(lambda: self._clock() - self._contact)
        self._state = gauge("datastore_state", "1 for the state that the connection to the datastore is in.", "state")
        self._frozen = gauge("frozen", "1 while the kernel state is deliberately kept as it is, for this reason.", "reason")
        self._chains = gauge("chains", "Own chains.", "table", "ip_version")
        self._rules = gauge("rules", "Own rules, in own chains and in the kernel's.", "table", "ip_version")
        self._sets = gauge("sets", "Own kernel sets.", "ip_version")
        self._members = gauge("set_members", "Members of own kernel sets.", "ip_version")
        self._check_interval = gauge("drift_check_interval_seconds", "Present interval between checks for tampering.")
        self._check_seconds = histogram("drift_check_seconds", "Time that one check for tampering took.", _CHECK_BUCKETS)
        self._lock_wait = histogram("lock_wait_seconds", "Time waited for the xtables lock.", _LOCK_BUCKETS)
        self._endpoints = gauge("active_endpoints", "Interfaces that a host endpoint governs.")
        self._workloads = gauge(
            "workload_interfaces",
            "Workload interfaces: judged by an endpoint, cut off as it is not understood, cut off as there is none.",
            "state",
        )
        self._policies = gauge("active_policies", "Policies in force on this host.")
        self._active_sets = gauge("active_sets", "Sets of selectors, named ports and services in use on this host.")
        self._unmatched = gauge("unmatched_host_endpoints", "Host endpoints of this node that govern no interface it has.")
        self._addressless = gauge(
            "endpoints_without_addresses", "Host endpoints of this node that selectors in use match, but that name no address."
        )
        self._empty = gauge("empty_selectors", "Selectors in rules in force that match no address.")
        self._fullest = gauge("fullest_set_ratio", "Members of the fullest set by the most that it can have.", "ip_version")
        self._infos(version, node, backend or {})

        self._seen_kinds: set[str] = set(KINDS)
        self._seen_objects: set[str] = set()
        self._seen_reasons: set[str] = set(FROZEN)
        self._is_first_apply = True
        self._measure: Callable[[], Sizes] | None = None
        self.felix = FelixMetrics(node, clock, outside)
        self._from_outside = FromOutside(outside)
        registry.register(self._from_outside)
        if felix:
            registry.register(self.felix)
        if process:
            prometheus_client.ProcessCollector(registry=registry)
            prometheus_client.GCCollector(registry=registry)
        self._start()

    def _infos(self, version: str, node: str, backend: Mapping[str, str]) -> None:
        for name, text, labels in (
            ("build_info", "1, with the versions that run.", {"version": version, "python": platform.python_version()}),
            ("node_info", "1, with this host's name in the datastore.", {"node": node}),
            ("backend_info", "1, with what the agent enforces with and what it follows.", backend),
        ):
            if labels:
                Gauge(f"hostward_{name}", text, [*labels], registry=self.registry).labels(**labels).set(1)

    def _start(self) -> None:
        """Series exist from the first scrape on, so that an alert on them can tell 0 from absent."""
        for family in FAMILIES:
            self._fullest.labels(str(family))
            for table in (*TABLES, "sets"):
                self._repairs.labels(table, str(family))
        self.frozen(())
        self.set_aside({})
        self.datastore("waiting")
        self.workload_interfaces(active=0, isolated=0, cut_off=0)

    def text(self) -> bytes:
        """All series in Prometheus's text format 0.0.4 (OpenMetrics would forbid Felix's names, observability 5.2)."""
        measure, self._measure = self._measure, None
        if measure is not None:
            self.sizes(measure())
        return generate_latest(self.registry)

    # --- the datastore -------------------------------------------------------------------------------------------------
    def received(self, revision: int, updates: Mapping[str, int] | None = None) -> None:
        """A revision came in whole, with so many changed objects per kind."""
        self._desired.set(revision)
        self.updated(updates or {})

    def updated(self, updates: Mapping[str, int]) -> None:
        """So many objects changed, per kind."""
        self.felix.received(updates)

    def datastore(self, state: DatastoreState) -> None:
        """The connection's state changed."""
        for each in DATASTORE_STATES:
            self._state.labels(each).set(each == state)
        self.felix.datastore(state)

    def contact(self) -> None:
        """The datastore has just confirmed that nothing newer was missed."""
        self._contact = self._clock()

    def contact_was(self, at: float) -> None:
        """When, by the clock, the datastore last confirmed that nothing newer was missed."""
        self._contact = at

    def contact_age(self) -> float:
        """Seconds since the last confirmed contact, or since the start."""
        return self._clock() - self._contact

    def set_aside(self, kinds: Mapping[str, int]) -> None:
        """How many objects of each kind are set aside now (D4)."""
        self._seen_kinds.update(kinds)
        for kind in self._seen_kinds:
            self._set_aside.labels(kind).set(kinds.get(kind, 0))

    def objects(self, kinds: Mapping[str, int]) -> None:
        """How many objects of each kind the agent goes by now."""
        self._seen_objects.update(kinds)
        for kind in self._seen_objects:
            self._objects.labels(kind).set(kinds.get(kind, 0))

    def cluster(self, cluster: Cluster) -> None:
        """How many objects the datastore holds now."""
        self.felix.cluster = cluster

    def frozen(self, reasons: Collection[str]) -> None:
        """Why the kernel state is kept as it is (D12); empty when it isn't."""
        self._seen_reasons.update(reasons)
        for reason in self._seen_reasons:
            self._frozen.labels(reason).set(reason in reasons)

    # --- the engine ----------------------------------------------------------------------------------------------------
    def calculated(self, seconds: float) -> None:
        """One batch went through the calculation."""
        self.felix.calculated.observe(seconds)

    def applied(self, revision: int, seconds: float | None = None) -> None:
        """Everything up to `revision` is in the kernel; the round took `seconds`, None if there was nothing to do."""
        self._applied.set(revision)
        if seconds is not None:
            self._apply_seconds.observe(seconds)
            self.felix.applied(seconds, first=self._is_first_apply)
            self._is_first_apply = False

    def arrived(self, seconds: float) -> None:
        """The oldest of the changes that are in the kernel now had come so long ago."""
        self._end_to_end.observe(seconds)

    def apply_failed(self, seconds: float) -> None:
        """A round of `seconds` left something to be tried again."""
        self._apply_seconds.observe(seconds)
        self._apply_failures.inc()
        self.felix.failures.add()

    def measured_by(self, measure: Callable[[], Sizes]) -> None:
        """How to count, at the next scrape and in its thread, what is in the kernel: that costs as much as there is."""
        self._measure = measure

    def sizes(self, sizes: Sizes) -> None:
        """What the kernel now holds of ours, what is in force, and what of it does nothing."""
        for table, size in sizes.tables.items():
            self._chains.labels(table.name, str(table.family)).set(size.chains)
            self._rules.labels(table.name, str(table.family)).set(size.rules)
        for family, held in sizes.sets.items():
            self._sets.labels(str(family)).set(held.sets)
            self._members.labels(str(family)).set(held.members)
            self._fullest.labels(str(family)).set(held.fullest)
        self._activity(sizes.activity)
        self.felix.sizes = sizes

    def _activity(self, activity: Activity) -> None:
        self._endpoints.set(activity.endpoints)
        self._policies.set(activity.policies)
        self._active_sets.set(activity.sets)
        self._empty.set(activity.empty_selectors)
        self._addressless.set(activity.without_addresses)

    def unmatched(self, count: int) -> None:
        """How many of this node's host endpoints govern nothing."""
        self._unmatched.set(count)

    def workload_interfaces(self, *, active: int, isolated: int, cut_off: int) -> None:
        """How many interfaces have an endpoint that is understood, one that isn't, and, of those that exist, none."""
        for state, count in (("active", active), ("isolated", isolated), ("cut-off", cut_off)):
            self._workloads.labels(state).set(count)

    def repaired(self, table: TableId, count: int = 1) -> None:
        """Tampering with a table was put right."""
        self._repairs.labels(table.name, str(table.family)).inc(count)

    def repaired_sets(self, family: Family, count: int = 1) -> None:
        """Tampering with so many sets was put right."""
        self._repairs.labels("sets", str(family)).inc(count)

    def counted(self, traffic: Traffic, *, policies: bool) -> None:
        """Traffic has grown; with or without series of policies."""
        self._from_outside.show(traffic, policies=policies)

    def exposed(self, seconds: float) -> None:
        """Something may have been other than the agent had left it, for so long."""
        self._exposure.inc(max(seconds, 0))

    def drift_checked(self, seconds: float, interval: float) -> None:
        """A check for tampering took `seconds`; the next one is `interval` seconds away."""
        self._check_seconds.observe(seconds)
        self._check_interval.set(interval)

    def lock_waited(self, seconds: float) -> None:
        """The xtables lock was had after so many seconds."""
        self._lock_wait.observe(seconds)
        self.felix.lock_waits.observe(seconds)
