"""A small site: one worker with two interfaces, a client on each, an etcd server, an agent that isn't started yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.e2e import documents as d
from tests.lab import saved
from tests.lab.agent import WITHIN, Agent
from tests.lab.etcd import Etcd, Tls
from tests.lab.probes import Listener, Probe, Prober
from tests.lab.topology import Network

PORTS = (22, 80, 81, 82)


class Site(Network):
    """`eth0` and `eth1` of the worker lead to a client each. etcd listens on the worker's loopback, where nothing guards."""

    WORKER = (("192.0.2.10", "2001:db8:2::10"), ("198.51.100.10", "2001:db8:3::10"))
    CLIENT = (("192.0.2.5", "2001:db8:2::5"), ("198.51.100.5", "2001:db8:3::5"))

    def __init__(self, stack: ExitStack, *, tls: Tls | None = None) -> None:
        super().__init__()
        stack.callback(self.close)
        self.worker = self.host("worker")
        self.probers = []
        for number in (0, 1):
            client = self.host(f"client{number}")
            near = [f"{self.WORKER[number][0]}/24", f"{self.WORKER[number][1]}/64"]
            far = [f"{self.CLIENT[number][0]}/24", f"{self.CLIENT[number][1]}/64"]
            self.link(self.worker, f"eth{number}", near, client, "eth0", far)
            self.probers.append(stack.enter_context(Prober(client)))
        self.etcd = stack.enter_context(Etcd(self.worker, tls=tls))
        self.listener = stack.enter_context(Listener(self.worker, tcp=PORTS))
        self.agent = stack.enter_context(Agent(self.worker, env=self.etcd.env, start=False))
        for _ in range(20):  # quicker than to wait until every link says that it runs
            if self.reached(0) == self.reached(1) == ALL_OPEN:
                return
        raise TimeoutError("the clients can't reach the worker")

    def guard(self) -> int:
        """Writes what a guarded worker has: port 80 open to all, 81 to a set, everything else closed; the last revision.

        Where 81 is allowed is a set with two members of each family, one of them the client on eth0.
        """
        nets = [*self.CLIENT[0], "10.9.0.0/16", "fd99::/16"]
        self.etcd.put(d.CLUSTER, d.cluster())
        self.etcd.put(d.set_key("friends"), d.network_set("friends", {"who": "friend"}, nets))
        self.etcd.put(d.policy_key("web"), d.policy("web", 10, [d.to_ports("Allow", [80], "TCP")]))
        friends = [d.to_ports("Allow", [81], "TCP", selector="who == 'friend'")]
        self.etcd.put(d.policy_key("friends"), d.policy("friends", 20, friends))
        early = d.policy("early", 5, [d.to_ports("Deny", [82], "TCP")])
        early["spec"] |= {"preDNAT": True, "applyOnForward": True}
        self.etcd.put(d.policy_key("early"), early)
        return self.etcd.put(d.endpoint_key("w0"), d.endpoint("w0", "eth0"))

    def reached(self, number: int = 0) -> dict[str, tuple[int, ...]]:
        """The ports that the client on this interface can connect to, per family."""
        cells = [(version, port) for version in (0, 1) for port in PORTS]
        probes = [Probe(self.WORKER[number][version], port, timeout=0.3) for version, port in cells]
        outcomes = self.probers[number].probe(probes)
        return {
            ("v4", "v6")[version]: tuple(p for (v, p), outcome in zip(cells, outcomes, strict=True) if outcome and v == version)
            for version in (0, 1)
        }

    def everything(self) -> dict[str, list[str]]:
        """The worker's rules and sets."""
        return saved.everything(self.worker)

    def until(self, what: str, condition: Callable[[], bool], limit: float = WITHIN) -> float:
        """Waits until something holds, with the agent running; how long that was."""
        began = time.monotonic()
        self.agent.wait(what, condition, limit)
        return time.monotonic() - began


ALL_OPEN = {"v4": PORTS, "v6": PORTS}
GUARDED = {"v4": (22, 80, 81), "v6": (22, 80, 81)}
"""What a site shows its first client once guarded; 22 is a failsafe port."""


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack)


def start_guarding(site: Site) -> Site:
    """The site with its agent running and everything applied."""
    revision = site.guard()
    site.agent.start()
    site.agent.wait_applied(revision)
    return site


@pytest.fixture
def guarded(site: Site) -> Site:
    """A guarded site of the test's own."""
    return start_guarding(site)


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    """A guarded site for tests that leave it as they find it."""
    with ExitStack() as stack:
        yield start_guarding(Site(stack))
