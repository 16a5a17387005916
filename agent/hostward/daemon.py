"""The composition root: every thread and queue of the agent on one screen.

    feed thread ──▶ mailbox ◀── links thread          metrics and health: a thread each
                       │
                 engine thread ──▶ kernel              log writer: a thread of its own
                       │                               self-test: a thread at the start, which waits for a child
                 flows, cutter ──▶ conntrack           keeper thread ──▶ rules on disk, for the next boot
                       │
                 main thread: waits for SIGTERM, SIGINT, a thread that died of a bug, settings of the start; tells systemd

Nothing is removed at the end: the rules stay in the kernel.
"""

from __future__ import annotations

import faulthandler
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple

import hostward
from hostward.dataplane.links import LinkWatcher
from hostward.dataplane.linux import LinuxKernel
from hostward.dataplane.needs import at_start, families
from hostward.dataplane.xtables.selftest import SelfTest
from hostward.datastore.opening import open_feed
from hostward.datastore.store import StoreError
from hostward.engine.around import Around
from hostward.engine.cutting import Cutter
from hostward.engine.flows import FlowCleaner
from hostward.engine.heap import Heap
from hostward.engine.intake import Intake
from hostward.engine.keeper import Keeper
from hostward.engine.loop import Loop, settings_at_start
from hostward.engine.mailbox import Mailbox
from hostward.engine.memory import Memory
from hostward.engine.proof import Proof
from hostward.engine.restarts import Restart
from hostward.engine.stand_in import StandIn
from hostward.engine.telling import Teller
from hostward.model.setting_sources import Resolved, resolve
from hostward.model.settings import Settings
from hostward.report import logs, secrets
from hostward.report.agent_lock import AgentLock, AgentRunsError
from hostward.report.certificates import Certificates
from hostward.report.endpoints import Servers
from hostward.report.from_outside import Outside
from hostward.report.health import HealthBoard
from hostward.report.metrics import Metrics
from hostward.report.status import StatusFile
from hostward.report.supervisor import Supervisor
from hostward.report.threads import Threads

log = logs.get_logger()
LOOK_SECONDS = 0.5
LINKS = "Links"


class Sources(Struct, frozen=True, dict=True):
    """Where settings come from, but for the datastore: environment, file, kernel's hostname; and which datastore it is."""

    environ: Mapping[str, str]
    file: Mapping[str, Any]
    hostname: str
    datastore: str = "etcd"

    def certificates(self, settings: Settings) -> dict[str, str]:
        """The files of the certificates that the agent uses, "" where it uses none."""
        found = {"metrics-server": settings.prometheus_metrics_cert_file}
        if self.datastore == "etcd":
            found["etcd-client"] = self.environ.get("CALICO_ETCD_CERT_FILE") or self.environ.get("ETCD_CERT_FILE", "")
        return found

    def resolve(self, node: Mapping[str, Any] | None = None, default: Mapping[str, Any] | None = None) -> Resolved:
        """The effective settings with these FelixConfigurations."""
        return resolve(self.environ, self.file, node, default, self.hostname)


class SettingsTold:
    """Settings for each state of FelixConfiguration; a notice is logged once."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._told: set[str] = set()
        self._last: tuple[object, Settings] | None = None

    def __call__(self, node: Mapping[str, object] | None, default: Mapping[str, object] | None) -> Settings:
        """The effective settings."""
        if self._last is None or self._last[0] != (node, default):
            resolved = self._sources.resolve(node, default)
            for notice in resolved.notices:
                if notice not in self._told:
                    log.warning("settings", notice=notice)
            self._told = set(resolved.notices)
            self._last = ((node, default), resolved.settings)
        return self._last[1]

    @property
    def now(self) -> Settings | None:
        """What was given last. Any thread."""
        last = self._last
        return None if last is None else last[1]


def run(sources: Sources, tested: SelfTest) -> int:
    """Runs the agent until a signal; the exit status: 0 after a signal, 1 when it can't start or a bug ended it.

    `tested` has been running while this module was imported.
    """
    Heap.begin()
    first = sources.resolve()
    settings = first.settings
    writer = logs.configure(settings.log_severity_screen, settings.log_format)
    faulthandler.enable(2)  # a watchdog ends a process that hangs by SIGABRT: it says where
    for name in ("ETCD_PASSWORD", "CALICO_ETCD_PASSWORD"):
        secrets.hide(sources.environ.get(name, ""))
    try:
        for error in first.errors:
            log.error("bad setting", error=error)
        return 1 if first.errors else _run(sources, settings, tested)
    except Exception:  # told here, and not by the interpreter, which would wait for a blocked stderr
        log.exception("a bug ends the agent; the rules stay in place", thread="main")
        return 1
    finally:
        tested.abandon()
        writer.close()


def _settled(restart: Restart, heap: Heap) -> None:
    """After the first apply; engine thread."""
    restart.applied()
    heap.settle()


def _cannot_start(error: Exception, do: str) -> int:
    what = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    log.error("the agent can't start", what=what, do=do)
    return 1


def _can_enforce(settings: Settings) -> bool:
    """Whether anything can be enforced; says what is missing, each by a line."""
    missing, able = at_start(Path(settings.iptables_lock_file_path), families())
    for found in missing:
        if found.level == "fail":
            log.error("the agent can't enforce", check=found.check, what=found.finding, do=found.do)
        else:
            log.warning("something is missing", check=found.check, what=found.finding, do=found.do)
    return able


def _watch(threads: Threads, around: Around, heap: Heap, look: Callable[[], bool]) -> bool:
    """The main thread until something ends the agent; whether it is to begin anew. Looks at once, and from time to time."""
    while not (anew := look()) and not threads.stop.wait(LOOK_SECONDS):
        around.look()
        heap.look()
    threads.stop.set()
    return anew


def _end(threads: Threads, mailbox: Mailbox, keeper: Keeper, servers: Servers) -> None:
    """Ends the threads, those that wait for news too; the last rules are kept once the engine has ended."""
    mailbox.nudge()
    keeper.nudge()
    threads.join()
    keeper.finish()
    servers.stop()


def _run(sources: Sources, settings: Settings, tested: SelfTest) -> int:
    state = Path(settings.state_dir)
    try:
        lock = AgentLock(settings.state_dir)
        memory = Memory(state)
    except AgentRunsError as error:
        return _cannot_start(error, "stop that agent; one of another network namespace needs a stateDir of its own")
    except OSError as error:
        return _cannot_start(error, f"make stateDir {state} a directory that user {os.geteuid()} can write to")
    try:
        feed = open_feed(sources.datastore, sources.environ, cache=state / "manifests.cache")
    except (StoreError, OSError) as error:
        return _cannot_start(error, "set --datastore or HOSTWARD_DATASTORE and ETCD_… as docs/cli.md says")
    intake = Intake(memory, accepted_guid=settings.cluster_guid, always_ready=sources.datastore.startswith("dir:"))
    told = SettingsTold(sources)
    settings = settings_at_start(told, intake)
    logs.configure(settings.log_severity_screen, settings.log_format)
    if not _can_enforce(settings):
        return 1
    kernel = LinuxKernel(
        Path(settings.iptables_lock_file_path), settings.iptables_lock_timeout, settings.iptables_lock_probe_interval
    )
    threads = Threads("a bug ends the agent; the rules stay in place")
    mailbox = Mailbox()
    links = LinkWatcher(refresh_interval=settings.interface_refresh_interval or float("inf"))
    flows = FlowCleaner()
    metrics = Metrics(
        version=hostward.__version__,
        node=settings.node_name,
        process=settings.prometheus_process_metrics_enabled,
        felix=settings.felix_metrics_enabled,
        backend={"tables": "iptables-legacy", "datastore": sources.datastore.partition(":")[0]},
        outside=Outside(
            logs=lambda: astuple(logs.counts()),
            links=lambda: (links.resyncs, links.overruns),
            flows=flows.counts,
            kernel=kernel.calls,
            certificates=Certificates(lambda: sources.certificates(told.now or settings)),
        ),
    )
    health = HealthBoard(time.monotonic, {item.name: item.seconds for item in settings.health_timeout_overrides})
    keeper, cutter = Keeper(state), Cutter(metrics.registry)
    teller = Teller(settings, metrics, health, StatusFile(settings.state_dir, time.monotonic), time.monotonic)
    servers, restart = Servers(settings, health, metrics), Restart(settings, sources.environ)
    heap = Heap(lambda: kernel.calls["write", "done"], time.monotonic)
    loop = Loop(
        kernel, mailbox, intake, teller,
        settings_of=told, peers=feed.peers, flows=flows, ready=Proof(tested, threads).start(),
        settled=partial(_settled, restart, heap), keep=keeper.offer, cut=cutter.applied, stand_in=StandIn(kernel, state),
    )  # fmt: skip # what it goes by, then whom it asks
    threads.end_on_signals()
    log.info("agent starts", version=hostward.__version__, node=settings.node_name, datastore=sources.datastore)
    threads.start("links", lambda stop: links.run(mailbox.links, stop))
    threads.start("feed", lambda stop: feed.run(mailbox, stop))
    for name, run_beside in (("flows", flows.run), ("keeper", keeper.run), ("cutter", cutter.run)):
        threads.start(name, run_beside)
    threads.start("engine", loop.run)
    health.register(LINKS, ready=True)
    supervisor = Supervisor(sources.environ, health, time.monotonic)
    around = Around(teller.beside, kernel.families(), time.monotonic)

    def look() -> bool:
        """Follows what others can't; whether it is time to begin anew."""
        health.report(LINKS, ready=not links.failure, detail=links.failure)
        servers.follow(told.now or settings)
        supervisor.look()
        return restart.is_due(told.now or settings)

    anew = _watch(threads, around, heap, look)
    if not anew:
        supervisor.stops()
    _end(threads, mailbox, keeper, servers)
    memory.close()
    log.info("agent stops, the rules stay in place")
    lock.release()
    if anew and not threads.signalled:
        restart.begin_anew()
    return 1 if threads.failed or restart.failed else 0
