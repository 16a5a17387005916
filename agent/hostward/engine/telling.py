"""What the engine tells people and machines: logs, metrics, health, status. Engine thread only."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import is_not

import hostward
from hostward.dataplane.kernel import KernelError
from hostward.engine.applier import Outcome
from hostward.engine.exposure import Exposure
from hostward.engine.intake import Intake
from hostward.engine.mailbox import Batch, Mailbox
from hostward.engine.restarts import AT_START
from hostward.engine.told_objects import MOST_NAMES, ToldObjects, some
from hostward.engine.work import Work
from hostward.model.keys import ResourceKey
from hostward.model.resolved import ANY_INTERFACE, Changed, Resolved, Scope
from hostward.model.resources import Policy, Resource
from hostward.model.settings import Settings, differences
from hostward.render.ruleset import Ruleset
from hostward.report import status
from hostward.report.health import HealthBoard
from hostward.report.logs import configure, get_logger
from hostward.report.metrics import Metrics
from hostward.report.neighbourhood import Neighbourhood
from hostward.report.secrets import scrub
from hostward.report.sizes import measured
from hostward.report.status import Status, StatusFile, interface_status, shown_name, workload_status

log = get_logger()
ENGINE, DATASTORE, KERNEL = "Engine", "Datastore", "Kernel"
LIVE_SETTINGS = frozenset({"log_severity_screen", "log_format"})
LOOK_INTERVAL = 0.5  # seconds between two looks at which workload interfaces are cut off, while neither kind changes


class Teller:
    """Keeps what was last told, so that a line in the log says what changed."""

    def __init__(
        self, settings: Settings, metrics: Metrics, health: HealthBoard, file: StatusFile, clock: Callable[[], float]
    ) -> None:
        self.metrics = self._metrics = metrics
        self._health = health
        self._file = file
        self._clock = clock
        self.beside = Neighbourhood(metrics.registry, clock)
        self._resolved = Resolved()
        self._in_kernel = Ruleset()
        self._interfaces: dict[str, status.InterfaceStatus] = {}
        self._workloads: dict[str, status.WorkloadStatus] = {}
        self._sorted: tuple[tuple[status.InterfaceStatus, ...], tuple[status.WorkloadStatus, ...]] = ((), ())
        self._objects = ToldObjects(metrics, settings.node_name)
        self.exposure = Exposure(metrics, clock)
        self._warnings: tuple[str, ...] = ()
        self._next_look = float("-inf")
        self._looked_at: tuple[object, ...] = (None, None, None)
        self._frozen: str | None = None
        self._trouble: str | None = None
        self._refused = self._unchecked = ""
        self._desired_revision = self._applied_revision = 0
        self._status = Status(
            node=settings.node_name, pid=os.getpid(), version=hostward.__version__, started_at=datetime.now(UTC)
        )
        health.register(ENGINE, live=True, timeout=settings.dataplane_watchdog_timeout)
        health.register(DATASTORE, ready=True)
        health.register(KERNEL, ready=True)

    # --- the datastore -------------------------------------------------------------------------------------------------
    def received(self, revision: int) -> None:
        """A revision came in whole, and was decoded."""
        self._desired_revision = revision
        self._metrics.received(revision)

    def absorbed(self, batch: Batch, intake: Intake, changes: Mapping[ResourceKey, Resource | None], seconds: float) -> None:
        """A batch went through intake and calculation, which took so many seconds, and perhaps into the kernel."""
        self._metrics.calculated(seconds)
        if self._objects.absorbed(batch, intake, changes):
            self._let_measure()
        if len(changes) > MOST_NAMES:
            log.info("resources changed", kinds=dict(Counter(key.kind for key in changes)))
            return
        for key, value in sorted(changes.items()):
            log.info("resource changed", key=str(key), change="gone" if value is None else "in force")

    def settings(self, before: Settings, now: Settings) -> None:
        """The datastore's configuration changed the effective settings."""
        changed = set(differences(before, now))
        if changed & LIVE_SETTINGS:
            configure(now.log_severity_screen, now.log_format)
        log.info("settings changed", settings=sorted(changed), begins_anew_for=sorted(changed & AT_START))

    # --- the kernel ----------------------------------------------------------------------------------------------------
    def applied(self, revision: int, seconds: float, outcome: Outcome, work: Work) -> None:
        """Everything up to a revision is in the kernel."""
        resolved, changed = work.resolved, work.changed
        first = self._applied_revision == 0
        self._applied_revision = revision
        self._metrics.applied(revision, seconds)
        self._count_repairs(outcome)
        if outcome.left:
            log.warning(
                "sets that nothing of ours needs any more stay", sets=some(outcome.left), why=some(set(outcome.left.values()))
            )
        if outcome.commits or outcome.set_steps or first:
            old = self._resolved
            names = {shown_name(k, resolved.policies if k in resolved.policies else old.policies) for k in changed.policies}
            log.info(
                "applied",
                revision=revision,
                policies=some(names),
                interfaces=some(changed.endpoints | changed.workloads),
                computed=work.computed,
                rendered_chains=work.rendered,
                compared_chains=outcome.compared_chains,
                rules_written=outcome.written_rules,
                commits=outcome.commits,
                bytes_written=outcome.effort.entry_bytes,
                set_changes=outcome.set_steps,
                members_changed=outcome.changed_members,
                netlink_messages=outcome.effort.netlink_messages,
                processes=outcome.effort.processes,
                seconds=round(seconds, 4),
            )
        self._describe(resolved, changed)
        self._in_kernel = work.desired
        self._let_measure()
        self._metrics.felix.batch({field: len(getattr(changed, field)) for field in Changed.__struct_fields__})
        self._refused = self._unchecked = ""
        self._report_kernel()

    def _let_measure(self) -> None:
        self._metrics.measured_by(partial(measured, self._resolved, self._in_kernel, self._objects.own_endpoints))

    def _describe(self, resolved: Resolved, changed: Changed) -> None:
        """Keeps what status says of the interfaces; making all of it anew would cost more than a change."""
        policies: Mapping[ResourceKey, Policy] = resolved.policies
        self._resolved = resolved
        for name in changed.endpoints:
            self._interfaces.pop(name, None)
            if name in resolved.endpoints:
                self._interfaces[name] = interface_status(name, resolved.endpoints[name], policies)
        for name in changed.workloads:
            self._workloads.pop(name, None)
            if name in resolved.workloads:
                self._workloads[name] = workload_status(name, resolved.workloads[name], policies)
        if changed.endpoints or changed.workloads:
            self._sorted = (
                tuple(self._interfaces[n] for n in sorted(self._interfaces)),
                tuple(self._workloads[n] for n in sorted(self._workloads)),
            )
        if ANY_INTERFACE in changed.endpoints or (ANY_INTERFACE in resolved.endpoints and changed.policies):
            self._warnings = tuple(
                f"untracked policy {policy.name} does not apply to the * endpoint"
                for policy in (policies.values() if ANY_INTERFACE in resolved.endpoints else ())
                if policy.do_not_track
            )

    def flows_stay(self, addresses: Collection[str]) -> None:
        """Workloads begin with addresses whose old connections aren't forgotten yet."""
        log.warning("old connections of these addresses may live on for a while", addresses=some(addresses))

    def nothing_to_do(self, revision: int) -> None:
        """A revision changed nothing for this host."""
        self._applied_revision = revision
        self._metrics.applied(revision)
        self._report_kernel()

    def failed(self, error: KernelError, seconds: float) -> None:
        """The kernel refused; it will be tried again."""
        self._metrics.apply_failed(seconds)
        self._refused = str(error)
        self._report_kernel()
        log.error("the kernel refused a change, what was in force stays; trying again", error=str(error))

    def unchecked(self, error: KernelError, seconds: float) -> None:
        """It isn't known whether what was in force still is, or it can't be put back; it will be tried again."""
        self.exposure.failed()
        self._metrics.apply_failed(seconds)
        self._unchecked = str(error)
        self._report_kernel()
        log.error("the kernel could not be checked for tampering, or not be repaired; trying again", error=str(error))

    def uncounted(self, error: KernelError) -> None:
        """The counters of dropped packets can't be read; they are read again soon."""
        log.warning("dropped packets could not be counted", error=str(error))

    def _report_kernel(self) -> None:
        trouble = self._refused or self._unchecked
        self._health.report(KERNEL, ready=not trouble, detail=trouble or f"revision {self._applied_revision} applied")

    def repaired(self, outcome: Outcome, seconds: float) -> None:
        """What others changed was put back."""
        self._count_repairs(outcome)
        if outcome.repaired:
            self.beside.repaired([*map(str, outcome.tables), *(f"sets of IPv{family}" for family in outcome.sets)])
        if outcome.commits or outcome.set_steps:
            log.warning(
                "repaired what another program had changed" if outcome.repaired else "went back to what was in force before",
                tables=sorted(str(table) for table in outcome.tables),
                sets=outcome.sets.total(),
                rules_written=outcome.written_rules,
                seconds=round(seconds, 4),
            )

    def checked(self, began: float, seconds: float, interval: float) -> None:
        """A drift check was made, and what it found was put right."""
        self.exposure.in_order(began)
        self._metrics.drift_checked(seconds, interval)
        if self._unchecked:
            self._unchecked = ""
            self._report_kernel()

    @property
    def resolved(self) -> Resolved:
        """What is in force."""
        return self._resolved

    def _count_repairs(self, outcome: Outcome) -> None:
        for seconds in outcome.lock_waits:
            self._metrics.lock_waited(seconds)
        for table, number in outcome.tables.items():
            self._metrics.repaired(table, number)
        for family, number in outcome.sets.items():
            self._metrics.repaired_sets(family, number)
        if outcome.repaired:
            self.exposure.ended()

    # --- every round ---------------------------------------------------------------------------------------------------
    def beat(self, mailbox: Mailbox, intake: Intake, links: Collection[str], scope: Scope) -> float:
        """The engine is alive; says how the datastore does, and what the status is now. `links` are the host's interfaces.

        Gives when it should be called at the latest: the status waits where it was written just before.
        """
        self._health.report(ENGINE)
        looked_at = (links, self._resolved.workloads, self._resolved.endpoints)
        if self._clock() >= self._next_look or any(map(is_not, looked_at, self._looked_at)):
            self._next_look, self._looked_at = self._clock() + LOOK_INTERVAL, looked_at
            if self._applied_revision:  # before, nothing is known of what is cut off
                self._objects.look(self._resolved, links, scope, self._clock())
        self._objects.follow_files(mailbox.files)
        self._report_datastore(mailbox, intake)
        contact = None
        if mailbox.contact_at is not None:
            contact = datetime.now(UTC) - timedelta(seconds=self._clock() - mailbox.contact_at)
        state = "lost" if mailbox.trouble else "in-sync" if contact is not None else "waiting"
        if self._clock() < self._file.rest_until:
            return self._file.rest_until
        self._file.publish(
            self._now(intake, status.DatastoreStatus(state=state, last_contact=contact, detail=scrub(mailbox.trouble or "")))
        )
        return float("inf")

    def _report_datastore(self, mailbox: Mailbox, intake: Intake) -> None:
        known = mailbox.contact_at is not None
        self._metrics.datastore("lost" if mailbox.trouble else "in-sync" if known else "waiting")
        if mailbox.contact_at is not None:
            self._metrics.contact_was(mailbox.contact_at)
        self._metrics.frozen([] if intake.frozen is None else [intake.frozen_kind])
        if intake.frozen != self._frozen and intake.frozen is not None:
            # Each start waits for the first snapshot; a datastore that doesn't answer then has a line of its own.
            tell = log.info if intake.frozen_kind == "waiting" else log.warning
            tell("the kernel's state is kept as it is", reason=intake.frozen, turn=True)
        elif intake.frozen is None and self._frozen is not None:
            log.info("following the datastore")
        self._frozen = intake.frozen
        if mailbox.trouble != self._trouble:
            if mailbox.trouble:
                log.warning("datastore lost, what is in force stays", reason=mailbox.trouble, turn=True)
            elif self._trouble is not None:
                log.info("datastore is back")
            self._trouble = mailbox.trouble
        # Losing the store makes no host less guarded: readiness tells the doubt about its content, and the first contact.
        detail = intake.frozen or mailbox.trouble or ""
        self._health.report(DATASTORE, ready=intake.frozen is None, detail=detail)

    def _now(self, intake: Intake, datastore: status.DatastoreStatus) -> Status:
        return Status(
            node=self._status.node,
            pid=self._status.pid,
            version=self._status.version,
            started_at=self._status.started_at,
            desired_revision=self._desired_revision,
            applied_revision=self._applied_revision,
            datastore=datastore,
            frozen=() if intake.frozen is None else (intake.frozen,),
            interfaces=self._sorted[0],
            workloads=self._sorted[1],
            cut_off=self._objects.cut_off,
            set_aside=self._objects.set_aside,
            set_aside_count=self._objects.set_aside_count,
            warnings=(*self.beside.warnings(), *self._warnings, *self._objects.warnings),
        )
