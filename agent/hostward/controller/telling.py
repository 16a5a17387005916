"""What the controller tells about itself: logs, metrics, readiness. Called by the reconcile thread; scrapes come from others.

What isn't understood is logged once per change, with object and field path, and stays countable while it lasts (decision D4).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

import hostward
from hostward.controller.inbox import Inbox
from hostward.controller.items import Item, Write
from hostward.datastore.etcd.lease import Leadership
from hostward.kube.reflector import Reflector
from hostward.model.fields import Problem
from hostward.report import logs
from hostward.report.health import HealthBoard

log = logs.get_logger()
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # it has no annotations, and its series say nothing
KUBERNETES: Final = "Kubernetes"
DATASTORE: Final = "Datastore"
LEADERSHIP: Final = "Leadership"
RECONCILE: Final = "Reconcile"
MOST_LOGGED: Final = 20  # problems of one object
ALIVE_WITHIN: Final = 180.0  # seconds: a round may hold many writes that each wait for a slow etcd


class Teller:
    """Everything that people and monitoring hear."""

    def __init__(self, health: HealthBoard, inbox: Inbox, leadership: Leadership, reflectors: Sequence[Reflector]) -> None:
        self.registry = registry = CollectorRegistry(auto_describe=False)
        self._health, self._inbox, self._leadership, self._reflectors = health, inbox, leadership, reflectors
        self._problems: dict[Item, tuple[Problem, ...]] = {}
        self._lock = threading.Lock()
        self._last = ""
        self._settled = False

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"hostward_controller_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"hostward_controller_{name}", text, labels, registry=registry)

        self._writes = counter("writes", "Objects written to etcd.", "kind", "verb")
        self._failures = counter("write_failures", "Writes that etcd refused or didn't answer.", "kind")
        self._conflicts = counter("conflicts", "Writes that somebody else's were faster than.", "kind")
        self._fenced = counter("fenced_writes", "Writes that were kept back because another process led.")
        self._misunderstood = counter("problems", "Parts of objects that weren't understood.", "kind")
        self._leads = gauge("leader", "1 while this process leads.")
        self._ready = gauge("can_write", "1 while nothing keeps this process from writing.")
        self._pending = gauge("pending_objects", "Objects that are still to be looked at.")
        self._failing = gauge("failing_objects", "Objects whose copy couldn't be written so far.")
        gauge("build_info", "1, with the version that runs.", "version").labels(hostward.__version__).set(1)
        registry.register(_FromReflectors(self))
        prometheus_client.ProcessCollector(registry=registry)
        health.register(KUBERNETES, ready=True)
        health.register(DATASTORE, ready=True)
        health.register(LEADERSHIP, ready=True)
        health.register(RECONCILE, live=True, ready=True, timeout=ALIVE_WITHIN)

    def text(self) -> bytes:
        """All series in Prometheus's text format."""
        return generate_latest(self.registry)

    # --- writes
    def wrote(self, write: Write) -> None:
        """One write took place."""
        self._writes.labels(write.key.kind, write.verb).inc()
        log.info("wrote", verb=write.verb, object=str(write.key))
        self._health.report(RECONCILE, ready=self._settled, detail="writing")

    def conflict(self, write: Write, reason: str) -> None:
        """Somebody else was faster; it's decided anew."""
        self._conflicts.labels(write.key.kind).inc()
        log.info("somebody else was faster", verb=write.verb, object=str(write.key), reason=reason)

    def failed(self, write: Write, reason: str, *, first: bool) -> None:
        """etcd refused, or didn't answer."""
        self._failures.labels(write.key.kind).inc()
        if first:
            log.warning("can't write; it is tried again", verb=write.verb, object=str(write.key), reason=reason)

    def fenced(self, reason: str) -> None:
        """A write was kept back."""
        self._fenced.inc()
        log.warning("no longer the leader", reason=reason)

    def emptied(self, kind: str, count: int) -> None:
        """Nothing is left of a kind, and all copies go."""
        log.warning("the API server has none left of a kind; all copies are removed", kind=kind, copies=count)

    # --- problems
    def problems(self, item: Item, problems: tuple[Problem, ...]) -> None:
        """What isn't understood of an item now."""
        if self._problems.get(item, ()) == problems:
            return
        with self._lock:
            if problems:
                self._problems[item] = problems
            else:
                self._problems.pop(item)
        self._misunderstood.labels(item.kind).inc(len(problems))
        for problem in problems[:MOST_LOGGED]:
            log.warning("not understood", object=str(item), field=problem.path, reason=problem.reason)
        if not problems:
            log.info("understood again", object=str(item))
        elif len(problems) > MOST_LOGGED:
            log.warning("not understood", object=str(item), more=len(problems) - MOST_LOGGED)

    def problem_counts(self) -> dict[str, int]:
        """How many objects of each kind aren't wholly understood."""
        counts: dict[str, int] = {}
        with self._lock:
            for item in self._problems:
                counts[item.kind] = counts.get(item.kind, 0) + 1
        return counts

    # --- the state of things
    def round(self, *, hindrance: str, leads: bool, pending: int, failing: int) -> None:
        """A round is over; `hindrance`: what is wrong with the store. A follower that knows both sides is ready."""
        self._leads.set(leads)
        self._ready.set(leads and not hindrance)
        self._pending.set(pending)
        self._failing.set(failing)
        troubles = self._inbox.troubles()
        self._health.report(KUBERNETES, ready=not troubles, detail=_words(troubles))
        self._health.report(DATASTORE, ready=not hindrance, detail=hindrance)
        led = "this one leads" if leads else f"{self._leadership.leader} leads" if self._leadership.leader else "nobody leads"
        follows = not leads and not self._leadership.trouble and bool(self._leadership.leader)
        self._health.report(LEADERSHIP, ready=leads or follows, detail=self._leadership.trouble or led)
        # What fails is told, but makes nothing unready: the process does all it can.
        caught_up = leads and (self._settled or not (pending or troubles or hindrance))
        self._settled = not troubles and not hindrance if follows else caught_up
        detail = f"{pending} to look at, {failing} that can't be written" if pending or failing else ""
        self._health.report(RECONCILE, ready=self._settled, detail=detail)
        said = hindrance or led
        if said != self._last:
            log.info("writes" if leads and not hindrance else "writes nothing", reason=said)
        self._last = said


def _words(troubles: Mapping[str, str]) -> str:
    return "; ".join(f"{kind} {text}" for kind, text in sorted(troubles.items()))


class _FromReflectors:
    """Series whose values others keep."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller

    def collect(self) -> Iterable[Metric]:
        teller = self._teller
        lists = CounterMetricFamily("hostward_controller_lists", "Complete lists.", labels=["resource"])
        watches = CounterMetricFamily("hostward_controller_watches", "Watches that the API server opened.", labels=["resource"])
        errors = CounterMetricFamily("hostward_controller_api_errors", "Failed requests.", labels=["resource", "reason"])
        forbidden = GaugeMetricFamily("hostward_controller_forbidden", "1: a permission is missing.", labels=["resource"])
        absent = GaugeMetricFamily("hostward_controller_absent", "1: the API server doesn't serve it.", labels=["resource"])
        for reflector in teller._reflectors:
            plural = reflector.resource.plural
            lists.add_metric([plural], reflector.lists)
            watches.add_metric([plural], reflector.watches)
            forbidden.add_metric([plural], reflector.forbidden)
            absent.add_metric([plural], reflector.absent)
            for reason, count in dict(reflector.errors).items():
                errors.add_metric([plural, reason], count)
        yield from (lists, watches, errors, forbidden, absent)
        misunderstood = GaugeMetricFamily(
            "hostward_controller_objects_not_understood", "Objects of which something isn't understood.", labels=["kind"]
        )
        for kind, count in teller.problem_counts().items():
            misunderstood.add_metric([kind], count)
        yield misunderstood
        terms = teller._leadership.terms
        yield CounterMetricFamily("hostward_controller_terms", "Times that this process became leader.", value=terms)
