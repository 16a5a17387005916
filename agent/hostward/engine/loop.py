"""The engine: batch in, kernel out, one round after another. The only thread that touches tables and sets.

What a round did is told to people and machines by `telling`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from hostward.calc.engine import Engine
from hostward.calc.flows import Flows, flows_to_forget, have_moved
from hostward.dataplane.kernel import Kernel, KernelError, SetStep
from hostward.engine.applier import Applier, Outcome
from hostward.engine.flows import FlowCleaner
from hostward.engine.inspector import Inspector
from hostward.engine.intake import Intake
from hostward.engine.mailbox import Batch, Mailbox
from hostward.engine.schedule import TICK, Retry
from hostward.engine.stand_in import StandIn
from hostward.engine.telling import Teller
from hostward.engine.work import Work
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resolved import Changed, Resolved, Scope, between
from hostward.model.resources import Resource
from hostward.model.settings import Settings
from hostward.render.closed import own_set, without_sets
from hostward.render.marks import Marks
from hostward.render.options import Options, options
from hostward.render.renderer import Renderer
from hostward.render.ruleset import Family, Focus, Ruleset

Spec = Mapping[str, object]
SettingsOf = Callable[[Spec | None, Spec | None], Settings]
Peers = Callable[[], tuple[tuple[str, int], ...]]
MOST_REFUSED = 100  # sets: where more are refused, what is wrong isn't these sets
CLEAN_SECONDS = 2.0  # the longest that a workload waits for its address's old connections to be forgotten


def scope_of(settings: Settings) -> Scope:
    """Which endpoints and interfaces are this agent's."""
    return Scope(settings.node_name, settings.interface_prefix, settings.interface_exclude)


def settings_at_start(settings_of: SettingsOf, intake: Intake) -> Settings:
    """The settings before the datastore has said anything: with its configuration as it was when it was last understood."""
    node = settings_of(None, None).node_name
    return settings_of(intake.remembered_configuration(f"node.{node}"), intake.remembered_configuration("default"))


class Absorbed(NamedTuple):
    """A batch's changes of what is in force, what they changed of what is resolved, and the seconds that took."""

    resources: Mapping[ResourceKey, Resource | None]
    changed: Changed
    seconds: float


class Loop:
    """One agent's engine.

    `settings_of` gives the effective settings for the specs of FelixConfiguration `node.<name>` and `default`; `peers` the
    datastore's own addresses and ports; `flows` forgets the connections of workloads that are gone. `ready` waits until the
    kernel may be touched, and says whether it may; `settled` is called once, after the first apply; `keep` is
    given each revision's ruleset once it is in the kernel; `cut` too, with the bit that marks connections which policy newly
    denies, 0 for none, and the host's own addresses. `stand_in` guards the host until then.
    """

    def __init__(
        self,
        kernel: Kernel,
        mailbox: Mailbox,
        intake: Intake,
        teller: Teller,
        *,
        settings_of: SettingsOf,
        peers: Peers,
        flows: FlowCleaner,
        ready: Callable[[], bool] = lambda: True,
        settled: Callable[[], None] = lambda: None,
        keep: Callable[[int, Ruleset], None] = lambda *_: None,
        stand_in: StandIn | None = None,
        cut: Callable[[Ruleset, int, frozenset[str]], None] = lambda *_: None,
    ) -> None:
        self._kernel = kernel
        self._mailbox = mailbox
        self._intake = intake
        self._teller = teller
        self._settings_of = settings_of
        self._peers = peers
        self._flows = flows
        self._ready = ready
        self._settled = settled
        self._keep = keep
        self._stand_in = stand_in
        self._cut = cut
        self._settings = settings_at_start(settings_of, intake)
        self._applier = Applier(kernel)
        self._inspector = Inspector(kernel, self._applier, teller, self._settings)
        self._engine = Engine(scope_of(self._settings))
        self._resolved = Resolved()
        self._applied = Resolved()  # what the chains were last made from; empty at first: connections outlive the agent
        self._unrendered = Changed()
        self._unapplied = Changed()
        self._computed = 0
        self._renderer: Renderer | None = None
        self._basis: tuple[Settings, tuple[tuple[str, int], ...], tuple[Family, ...]] | None = None
        self._options: Options | None = None  # what `_basis` means
        self._focus: Focus | None = None  # what may differ from what was brought last; None: anything
        self._links: Mapping[str, Link] | None = None
        self._received = 0
        self._since: float | None = None  # when the oldest change came that isn't in the kernel
        self._starting = True
        self._tell_by = float("inf")  # when what couldn't be told yet is
        self._behind = False  # the kernel doesn't hold `_resolved` yet: the store was in doubt, or the kernel refused
        self._retry = Retry()

    def run(self, stop: threading.Event) -> None:
        """Rounds until `stop` is set. Only a bug ends it otherwise."""
        while not stop.is_set():
            self._round()
            self._tell()
            if self._starting and self._applier.desired is not None:
                self._starting = False
                self._settled()
            elif self._starting and self._stand_in is not None and self._stand_in.is_due() and self._ready():
                self._stand_in.hold()
            if self._may_check() and self._inspector.look(self._mailbox.has_something):
                self._tell()
        self._inspector.close()

    def _tell(self) -> None:
        self._tell_by = self._teller.beat(self._mailbox, self._intake, self._links or (), scope_of(self._settings))

    def _round(self) -> None:
        """One batch, or one look at what became of the last."""
        batch = self._mailbox.take(self._next() - time.monotonic())
        began = time.monotonic()
        intaken = self._absorb(batch) if batch is not None else None
        changed = intaken is not None and bool(intaken.changed)
        if changed and batch is not None and self._since is None:
            self._since = batch.since
        if self._may_write():
            changed |= self._follow_settings()
            behind = self._behind or self._applier.desired is None
            if changed or began >= self._retry.due or (behind and not self._retry.pending):
                self._apply(began)
            elif batch is not None and not self._retry.pending:
                self._teller.nothing_to_do(self._received)
                self._computed = 0  # for nothing: the next apply hasn't cost it
        if batch is not None and intaken is not None:  # only now: packets don't wait until it is told and kept what changed
            self._intake.remember()
            self._teller.absorbed(batch, self._intake, intaken.resources, intaken.seconds)

    def _may_write(self) -> bool:
        """Whether it is known what should be in the kernel."""
        return self._intake.frozen is None and self._links is not None

    def _may_check(self) -> bool:
        """Whether it is known what should stand in the kernel at least: what was wholly there once."""
        return self._applier.desired is not None

    def _next(self) -> float:
        """When to go on without a batch. What may not be done isn't due, or the wait for it would take a whole core."""
        due = min(time.monotonic() + TICK, self._tell_by)
        if self._may_check():
            due = min(due, self._inspector.due)
        if self._may_write():
            due = min(due, self._retry.due)
        return due

    def _absorb(self, batch: Batch) -> Absorbed:
        """Takes a batch in."""
        changes = self._intake.take(batch)
        if batch.revision is not None:
            self._received = batch.revision
            self._teller.received(batch.revision)
        if batch.links is not None:
            self._links = batch.links
        began = time.perf_counter()
        self._resolved, changed = self._engine.advance(changes, batch.links)
        self._note(changed)
        self._behind |= bool(changed)
        return Absorbed(changes, changed, time.perf_counter() - began)

    def _note(self, changed: Changed) -> None:
        """Keeps what differs, until it is rendered and until it is in the kernel."""
        self._unrendered |= changed
        self._unapplied |= changed
        self._computed += self._engine.computed

    def _follow_settings(self) -> bool:
        """Follows FelixConfiguration and the datastore's own addresses; whether the rules differ by it."""
        before = self._settings
        node = self._intake.configuration(f"node.{before.node_name}")
        self._settings = self._settings_of(node, self._intake.configuration("default"))
        self._inspector.follow(self._settings)
        rescoped = scope_of(before) != scope_of(self._settings)
        if rescoped:
            self._engine = Engine(scope_of(self._settings))
            old = self._resolved
            self._resolved, _ = self._engine.advance(self._intake.in_force, self._links)
            self._note(between(old, self._resolved))
        if before != self._settings:
            self._teller.settings(before, self._settings)
        basis = self._settings, self._peers(), self._kernel.families()
        wanted = self._options if basis == self._basis else options(*basis)
        self._basis = basis
        if wanted != self._options:
            self._options, self._renderer = wanted, None
        elif not rescoped:
            return False
        self._behind = True
        return True

    def _apply(self, began: float) -> None:
        """Brings the kernel there; on failure what is in it stays, and it is tried again."""
        assert self._options is not None, "settings are followed before the first apply"  # noqa: S101 # tells the type checker
        desired, rendered = self._render(self._options)
        if not self._ready():
            return
        before, after, flows = self._applied.workloads, self._resolved.workloads, Flows()
        if have_moved(before, after, self._unapplied.workloads):
            flows = flows_to_forget(before, after, self._flows.pending())
        if (new := flows.moved | flows.returned) and not self._flows.wait_clean(new, CLEAN_SECONDS):
            self._teller.flows_stay(new)
        try:
            outcome, refused = self._bring(desired, self._options.marks)
        except KernelError as error:
            self._focus = None
            self._retry.failed(time.monotonic(), soon=error.retry)
            self._teller.failed(error, time.monotonic() - began)
            return
        if refused is not None:  # in force but for the sets that the kernel doesn't take, whose rules are closed
            self._focus = None
            self._retry.failed(time.monotonic())
            self._teller.failed(refused, time.monotonic() - began)
            self._forget_flows(flows)
            return
        self._behind = False
        self._retry.succeeded()
        work = Work(self._resolved, desired, self._unapplied, self._computed, rendered)
        self._focus, self._unapplied, self._computed = Focus(), Changed(), 0
        self._forget_flows(flows)
        self._teller.applied(self._received, time.monotonic() - began, outcome, work)
        if self._since is not None:
            self._teller.metrics.arrived(time.monotonic() - self._since)
            self._since = None
        self._keep(self._received, desired)
        local = (link.addresses for link in (self._links or {}).values())
        self._cut(desired, self._options.cut, frozenset[str]().union(*local) if self._options.cut else frozenset())

    def _forget_flows(self, flows: Flows) -> None:
        """The chains are those of `_resolved` now."""
        self._applied = self._resolved
        if old := flows.gone | flows.moved:  # the moved once more: until just now their old chains let new ones come up
            self._flows.forget(old)

    def _bring(self, desired: Ruleset, marks: Marks) -> tuple[Outcome, KernelError | None]:
        """Brings the kernel there, but for the rules of sets that it refuses; and what it said of those."""
        wanted, focus, refused = desired, self._focus, dict[str, KernelError]()
        while True:
            try:
                outcome = self._applier.bring(wanted, marks, focus, self._mailbox.has_something)
            except KernelError as error:
                name = own_set(error.step.name, desired.sets) if isinstance(error.step, SetStep) else None
                if name is None or name in refused or len(refused) >= MOST_REFUSED:
                    raise
                refused[name] = error
                wanted, focus = without_sets(desired, refused), None
            else:
                return outcome, next(iter(refused.values()), None)

    def _render(self, wanted: Options) -> tuple[Ruleset, int]:
        """The desired ruleset, and how many chains were rendered for it."""
        if self._renderer is None:
            self._renderer, self._focus = Renderer(wanted), None
            desired = self._renderer.render(self._resolved)
        else:
            desired, focus = self._renderer.advance(self._resolved, self._unrendered)
            self._focus = None if self._focus is None else self._focus | focus
        self._unrendered = Changed()
        return desired, self._renderer.rendered
