"""A pod goes and another gets its address: what was open to the first never reaches the second, whatever it asks for.

By a real agent, with a pod beside them whose connections nobody touches. IPv4 and IPv6.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.e2e import cluster as c
from tests.lab.probes import Outcome, Probe, Prober

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
ADDRESSES = c.pod_address("one", 5)
PORT = 8080
UDP_FROM, KNOCK_FROM = 30001, 30002
OPEN = c.policy("red", "open", "app == 'open'", ingress=[{"action": "Allow"}], egress=[{"action": "Allow"}])
SHUT = c.policy("red", "shut", "app == 'shut'", ingress=[], egress=[])


class Site(c.Cluster):
    """One node: `old`, open to all, `other` beside it, and `outside`, whose flows are open to both."""

    def __init__(self, stack: ExitStack) -> None:
        super().__init__(stack, ("one",))
        self.agent = self.agents["one"]
        self.old = self.pod("red", "old", "one", 5, app="open")
        self.other = self.pod("red", "other", "one", 6, app="open")
        self.settle()
        self.base = {**c.namespace("red"), **OPEN, **SHUT}
        self.bring(self.base, self.endpoints())
        self.start()
        self.outside = self.probers["outside"]
        for pod in (self.old, self.other):
            for address in pod.addresses:
                assert self.outside.hold(f"{pod.name} {address}", address, PORT, c.OPEN_SECONDS) == "ok"
                assert self.datagram(address, c.OPEN_SECONDS)

    def datagram(self, address: str, timeout: float = 0.3) -> Outcome:
        """Asks once more in the one UDP flow to an address."""
        [outcome] = self.outside.probe([Probe(address, PORT, "udp", source_port=UDP_FROM, timeout=timeout)])
        return outcome

    def unplug(self, pod: c.Pod) -> None:
        """Ends a pod as the network plugin does, first its interface; its document is still stored."""
        self.nodes["one"].ip(f"link del {pod.interface}")
        del self.pods[pod.label]

    def plug_the_next(self) -> c.Pod:
        """Wires a pod with the first one's addresses, and counts in it what arrives from outside; nothing is written yet."""
        pod = self.pod("red", "new", "one", 5, app="shut")
        for tool, address in zip(("iptables-legacy", "ip6tables-legacy"), c.OUTSIDE, strict=True):
            self.host_of(pod).run(tool, "-t", "raw", "-A", "PREROUTING", "-s", address)
        return pod

    def arrived(self, pod: c.Pod) -> int:
        """Packets of either IP version that came from outside."""
        tools = ("iptables-legacy-save", "ip6tables-legacy-save")
        saved = "".join(self.host_of(pod).run(tool, "-c", "-t", "raw") for tool in tools)
        counts = [line for line in saved.splitlines() if "-A PREROUTING" in line]
        assert len(counts) == len(tools), saved
        return sum(int(line[1:].partition(":")[0]) for line in counts)

    def check(self, new: c.Pod) -> None:
        """Nothing of the first pod reaches the second; the other's flows are as they were."""
        for address in ADDRESSES:
            assert self.outside.still(f"old {address}") != "ok"
            assert self.datagram(address).result == "timeout"
        assert self.arrived(new) == 0
        for address in self.other.addresses:
            assert self.outside.still(f"other {address}", c.OPEN_SECONDS) == "ok"
            assert self.datagram(address, c.OPEN_SECONDS)
        self.judge({"outside > red/new 80": False, "outside > red/other 80": True, "one > red/new 80": True})

    @contextmanager
    def knocking(self) -> Iterator[None]:
        """All the while, datagrams of the same flows to the addresses, from the first pod's time on."""
        stop = threading.Event()
        trouble: list[BaseException] = []

        def knock(prober: Prober) -> None:
            try:
                while not stop.is_set():
                    prober.probe([Probe(a, PORT, "udp", source_port=KNOCK_FROM, timeout=0.02) for a in ADDRESSES])
            except Exception as error:
                trouble.append(error)
                raise

        with Prober(self.hosts["outside"]) as prober:
            first = [Probe(a, PORT, "udp", source_port=KNOCK_FROM, timeout=c.OPEN_SECONDS) for a in ADDRESSES]
            assert all(prober.probe(first))
            thread = threading.Thread(target=knock, args=(prober,))
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join(30)
        assert not thread.is_alive()
        assert not trouble


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack)


def test_a_pod_is_deleted_and_its_address_used_again(site: Site) -> None:
    with site.knocking():
        site.unplug(site.old)
        site.bring(site.base, site.endpoints())
        new = site.plug_the_next()
        site.bring(site.base, site.endpoints())
    site.check(new)
    site.agent.wait("entries are deleted", lambda: site.agent.metric("hostward_conntrack_entries_deleted_total") >= 4)


def test_the_agent_hears_of_both_pods_at_once(site: Site) -> None:
    """One revision: there is no time between the first pod and the second."""
    with site.knocking():
        site.unplug(site.old)
        new = site.plug_the_next()
        site.bring(site.base, site.endpoints())
    site.check(new)


def test_open_connections_outlive_the_agent_and_a_changed_policy(site: Site) -> None:
    """H-71: what was open stays open, though it couldn't be opened now. Nobody has gone, so nothing is forgotten."""
    endpoints = {**site.endpoints(), site.old.key: site.old.relabelled(app="shut").document()}
    site.bring(site.base, endpoints)
    site.agent.restart()
    site.applied(site.etcd.revision())
    for pod in (site.old, site.other):
        for address in pod.addresses:
            assert site.outside.still(f"{pod.name} {address}", c.OPEN_SECONDS) == "ok"
            assert site.datagram(address, c.OPEN_SECONDS)
    site.judge({"outside > red/old 80": False, "outside > red/other 80": True})
    assert site.agent.metric("hostward_conntrack_entries_deleted_total") == 0
