"""An engine on the strict fake kernel, with everything around it but the threads of feeds."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hostward.dataplane.fake import FakeKernel
from hostward.dataplane.kernel import KernelError
from hostward.datastore.feed import Changes, Snapshot, Stored
from hostward.engine.flows import FlowCleaner
from hostward.engine.intake import Intake
from hostward.engine.loop import Loop
from hostward.engine.mailbox import Mailbox
from hostward.engine.memory import Memory
from hostward.engine.telling import Teller
from hostward.model.keys import ROOT
from hostward.model.links import Link
from hostward.model.setting_sources import resolve
from hostward.model.settings import Settings
from hostward.render.evaluate import Packet, evaluate
from hostward.render.ruleset import TableId
from hostward.report.health import HealthBoard
from hostward.report.metrics import Metrics
from hostward.report.status import Status, StatusFile, read_status

FILTER = TableId(4, "filter")
LINKS = {"eth0": Link("eth0", 2, True, frozenset({"10.0.0.1"}))}
READY = {"spec": {"clusterGUID": "a", "datastoreReady": True}}
HEP = {"metadata": {"labels": {"role": "worker"}}, "spec": {"node": "w1", "interfaceName": "eth0"}}


def policy(action: str = "Allow", port: int | str = 80, **spec: Any) -> dict[str, Any]:
    rule = {"action": action, "protocol": "TCP", "destination": {"ports": [port]}}
    return {"spec": {"selector": "all()", "types": ["Ingress"], "ingress": [rule], **spec}}


def to_port(port: int) -> Packet:
    return Packet(4, "input", "192.0.2.9", "10.0.0.1", 6, 4000, port, in_interface="eth0")


@dataclass
class FakeConntrack:
    """Entries as pairs of addresses. `readings` are the addresses asked for, each time; `on_reading` meddles while it reads."""

    entries: set[tuple[str, str]] = field(default_factory=set)
    readings: list[frozenset[str]] = field(default_factory=list)
    on_reading: Callable[[], object] = lambda: None
    refuses: bool = False

    def forget(self, addresses: Collection[str]) -> int:
        assert addresses, "an empty set of addresses isn't worth a reading"
        self.readings.append(frozenset(addresses))
        found = {entry for entry in self.entries if not set(entry).isdisjoint(addresses)}
        self.on_reading()
        if self.refuses:
            raise KernelError("no conntrack", retry=True)
        self.entries -= found
        return len(found)


@dataclass
class Agent:
    """An engine with everything around it but threads of feeds."""

    directory: Path
    kernel: FakeKernel
    guid: str = ""
    conntrack: FakeConntrack = field(default_factory=FakeConntrack)
    ready: Callable[[], bool] = lambda: True

    def __post_init__(self) -> None:
        self.mailbox = Mailbox()
        self.memory = Memory(self.directory)
        self.intake = Intake(self.memory, accepted_guid=self.guid)
        self.metrics = Metrics(version="0", node="w1", process=False)
        self.health = HealthBoard(time.monotonic)
        file = StatusFile(str(self.directory), time.monotonic)
        self.stop = threading.Event()
        self.flows = FlowCleaner(self.conntrack.forget)
        self.loop = Loop(
            self.kernel,
            self.mailbox,
            self.intake,
            Teller(self.settings(None, None), self.metrics, self.health, file, time.monotonic),
            settings_of=self.settings,
            peers=lambda: (("10.0.0.250", 4001),),
            flows=self.flows,
            ready=self.ready,
        )
        self.revision = 10
        self.objects: dict[str, Stored] = {}
        self.beats = 0
        self.threads = [threading.Thread(target=self._run), threading.Thread(target=self.flows.run, args=(self.stop,))]
        for thread in self.threads:
            thread.start()
        self.mailbox.links(LINKS)

    def _run(self) -> None:
        beat = self.loop._teller.beat

        def counted(*arguments: Any) -> float:
            self.beats += 1
            return beat(*arguments)

        self.loop._teller.beat = counted  # type: ignore[method-assign] # counts rounds
        self.loop.run(self.stop)

    def settings(self, node: Any, default: Any) -> Settings:
        environ = {"HOSTWARD_DRIFT_CHECK_INTERVAL": "0.1", "HOSTWARD_IPSETS_REFRESH_INTERVAL": "1"}
        return resolve(environ, {}, node, default, "w1").settings

    def end(self) -> None:
        self.stop.set()
        self.mailbox.nudge()
        for thread in self.threads:
            thread.join(10)
        self.memory.close()

    def snapshot(self, objects: dict[str, Any]) -> None:
        self.snapshot_without_waiting(objects)
        self.settled()

    def snapshot_without_waiting(self, objects: dict[str, Any]) -> None:
        self.revision += 1
        self.objects = {ROOT + path: self.stored(value) for path, value in objects.items()}
        self.mailbox.snapshot(Snapshot(self.revision, self.objects))

    def put(self, **objects: Any) -> None:
        """Keys as plural__name."""
        self.revision += 1
        changes = {ROOT + key.replace("__", "/"): None if v is None else self.stored(v) for key, v in objects.items()}
        self.mailbox.changes(Changes(self.revision, changes))
        self.settled()

    def stored(self, value: Any) -> Stored:
        return Stored(value if isinstance(value, bytes) else json.dumps(value).encode(), self.revision)

    def settled(self) -> None:
        """Until the revision was applied, or the engine decided to freeze."""
        frozen = f"hostward_desired_revision {float(self.revision)}"
        wanted = f"hostward_applied_revision {float(self.revision)}"
        until(lambda: wanted in self.text() or (frozen in self.text() and self.intake.frozen is not None))

    def text(self) -> str:
        return self.metrics.text().decode()

    def lets_in(self, port: int) -> bool:
        return evaluate(to_port(port), self.kernel.filter_state()).accepted

    def status(self) -> Status:
        return read_status(str(self.directory))


def until(holds: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


CLOSED = {"clusterinformations/default": READY, "hostendpoints/w1-eth0": HEP}
