"""A guarded worker under traffic of every kind, its etcd behind a router, and what can be done to that.

Datagrams of five classes (allowed, denied, a NodePort that is shut and one that is open, a failsafe port) of each family are
counted where they arrive, TCP connections that are open stay open, and new ones are tried. Anything that was denied and arrives
is a leak. Packets decide, and the tools' own lists of rules; nothing is asked of the agent but what an operator can ask.
"""

from __future__ import annotations

import functools
import http.client
import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any, Self

from tests.e2e import documents as d
from tests.e2e.disturbance import LostError
from tests.e2e.shapes import CLIENTS, FAILSAFE_PORT, TRAFFIC
from tests.e2e.traffic import served, stream
from tests.lab import saved
from tests.lab.agent import WITHIN, Agent
from tests.lab.etcd import Etcd
from tests.lab.figures import Figures
from tests.lab.probes import ClassReport, Listener, Probe, Prober, StreamClass
from tests.lab.topology import WorkerLab

OPEN, SHUT = 7001, 7002
FLIP = d.policy_key("flip")
"""A policy of one test's own. Nothing is about it in `state`."""


def once_more(test: Callable[..., None]) -> Callable[..., None]:
    """Runs a test once more where something allowed didn't arrive: a busy machine loses a datagram in 240,000 by itself."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        try:
            test(*arguments, **named)
        except LostError as lost:
            print(f"once more: {lost}")
            test(*arguments, **named)

    return run


def allowing() -> d.Document:
    """The policy that allows what is allowed."""
    rules = [d.to_ports("Allow", [OPEN], protocol, selector="side == 'client'") for protocol in ("UDP", "TCP")]
    return d.policy("pass", 20, rules)


def state() -> dict[str, d.Document]:
    """Everything that guards the worker: what must be denied is denied by a policy, and all the rest allowed behind it."""
    shut = [traffic.port for traffic in TRAFFIC if traffic.name == "nodeport-shut"]
    early = d.policy("early", 5, [d.to_ports("Deny", shut)])
    early["spec"] |= {"preDNAT": True, "applyOnForward": True}
    return {
        d.CLUSTER: d.cluster(),
        d.set_key("clients"): d.network_set("clients", {"side": "client"}, CLIENTS),
        d.policy_key("early"): early,
        d.policy_key("deny"): d.policy("deny", 10, [d.to_ports("Deny", [SHUT], p) for p in ("UDP", "TCP")]),
        d.policy_key("pass"): allowing(),
        d.policy_key("rest"): d.policy("rest", 1000, [{"action": "Allow"}]),
        d.endpoint_key("public"): d.endpoint("public", "eth1"),
        d.endpoint_key("private"): d.endpoint("private", "eth0"),
    }


class Rig:
    """One guarded worker. `server` starts what the agent is told to use, in the lab's `store`; an Etcd unless given.

    A context manager; the agent has applied everything when it is entered.
    """

    def __init__(self, *, server: Callable[[WorkerLab], Any] | None = None, env: Mapping[str, str] | None = None) -> None:
        self._server = server or (lambda lab: Etcd(lab.store, lab.STORE[0]))
        self._env = env
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            self.lab = stack.enter_context(served())
            self.etcd = stack.enter_context(self._server(self.lab))
            env = {"HOSTWARD_FAILSAFE_INBOUND_HOST_PORTS": f"tcp:22,udp:{FAILSAFE_PORT}"}
            env |= self.etcd.env if self._env is None else self._env
            self.agent = stack.enter_context(Agent(self.lab.worker, env=env, start=False))
            stack.enter_context(Listener(self.lab.worker, tcp=[OPEN, SHUT]))
            self.client = stack.enter_context(Prober(self.lab.internet))
            self.writer = GatewayWriter(self.store)
            stack.callback(self.writer.close)
            for key, document in state().items():
                self.revision = self.store.put(key, document)
            self.agent.start()
            self.agent.wait_applied(self.revision)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def store(self) -> Etcd:
        """The server that tests write to."""
        server = self.etcd if isinstance(self.etcd, Etcd) else self.etcd.members[0]
        assert isinstance(server, Etcd)
        return server

    def fingerprint(self) -> dict[str, list[str]]:
        """All rules and sets of the worker."""
        return saved.everything(self.lab.worker)

    def until(self, what: str, condition: Callable[[], bool], limit: float = WITHIN) -> float:
        """Waits until something holds, with the agent running; how long that was."""
        began = time.monotonic()
        self.agent.wait(what, condition, limit)
        return time.monotonic() - began

    def is_lost(self) -> bool:
        """Whether the agent says that it has lost its datastore."""
        return self.agent.metric("hostward_datastore_state", state="lost") == 1

    def change(self) -> int:
        """Another policy of no consequence for the traffic; its revision."""
        return self.store.put(FLIP, d.policy("flip", 1, [d.to_ports("Deny", [9000 + time.monotonic_ns() % 999], "TCP")]))

    def alive(self) -> None:
        """New TCP connections come up, or don't, as policy says."""
        probes = [Probe(address, port) for address in self.lab.PUBLIC for port in (OPEN, SHUT)]
        outcomes = [bool(outcome) for outcome in self.client.probe(probes)]
        if outcomes[1] or outcomes[3]:
            raise AssertionError("a connection came up that is denied")
        if not (outcomes[0] and outcomes[2]):
            raise LostError(f"connections that are allowed didn't come up: {outcomes}")

    @contextmanager
    def held(self) -> Iterator[None]:
        """A TCP connection of each family that stays open."""
        for version, address in zip((4, 6), self.lab.PUBLIC, strict=True):
            assert self.client.hold(f"v{version}", address, OPEN) == "ok"
        yield
        for version in (4, 6):
            assert self.client.still(f"v{version}", 2) == "ok", f"the open connection over IPv{version} broke"

    @contextmanager
    def traffic(self, scenario: str, figures: Figures, rate: int, *more: StreamClass) -> Iterator[dict[str, ClassReport]]:
        """Datagrams of all classes meanwhile: what is denied never arrives, what is allowed always does.

        Of `more` classes the caller judges; what it is given has them all when this is left.
        """
        reports: dict[str, ClassReport] = {}
        with stream(self.lab, rate, *more) as sending:
            sending.start()
            yield reports
            self.alive()
            reports.update(sending.finish())
        judge(scenario, figures, reports)

    def share_of_a_core(self, seconds: float, during: Callable[[], None] = lambda: None) -> float:
        """How much of a core the agent takes for so many seconds."""
        began, cpu = time.monotonic(), self.agent.cpu_seconds()
        while time.monotonic() - began < seconds:
            during()
            time.sleep(min(1.0, seconds))
            assert self.agent.alive
        return (self.agent.cpu_seconds() - cpu) / (time.monotonic() - began)


def judge(scenario: str, figures: Figures, reports: Mapping[str, ClassReport]) -> None:
    """Whether what is denied never arrived and what is allowed always did. Classes that aren't in `TRAFFIC` are left out."""
    denied = {traffic.name for traffic in TRAFFIC if not traffic.allowed}
    allowed = {traffic.name for traffic in TRAFFIC if traffic.allowed} | {"failsafe"}
    sent = min(report.sent for report in reports.values())
    leaked = {n: len(r.arrived) for n, r in reports.items() if n.split(" ")[0] in denied and r.arrived}
    lost = {n: len(r.lost) for n, r in reports.items() if n.split(" ")[0] in allowed and r.lost}
    figures.tell(scenario, "datagrams of each class", sent, how="sum")
    figures.tell(scenario, "datagrams leaked", sum(leaked.values()), how="sum")
    figures.tell(scenario, "datagrams lost", sum(lost.values()), how="sum")
    assert not leaked, f"of {sent} of each leaked: {leaked}"
    if lost:
        raise LostError(f"of {sent} of each were lost: {lost}")


class GatewayWriter:
    """Writes through etcd's JSON gateway over one connection: cheap enough for many writes a second."""

    def __init__(self, server: Etcd) -> None:
        assert server.namespace is not None
        self._connection = http.client.HTTPConnection(server.address, server.port, timeout=20)
        self._namespace = server.namespace

    def put(self, key: str, value: Mapping[str, Any]) -> int:
        """Writes a document; its revision."""
        body = json.dumps({"key": _text64(key), "value": _text64(json.dumps(value))})
        with self._namespace.entered():
            self._connection.request("POST", "/v3/kv/put", body)
            answer = json.load(self._connection.getresponse())
        return int(answer["header"]["revision"])

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


def _text64(text: str) -> str:
    return b64encode(text.encode()).decode()


def applied_at(agent: Agent) -> list[tuple[int, float]]:
    """Revision and time of each time that the agent said that it applied something, in order."""
    lines = agent.log_lines("applied")
    return [(line["revision"], datetime.fromisoformat(line["timestamp"]).timestamp()) for line in lines]


def latencies(agent: Agent, written: Mapping[int, float]) -> list[float]:
    """Seconds from each write, by its revision, until the agent said that it had it in the kernel."""
    told = applied_at(agent)
    return [
        next(at for applied, at in told if applied >= revision and at >= when - 1) - when for revision, when in written.items()
    ]
