"""Which open connections are cut, and when: only those that the last ruleset denies and the one before allowed."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry

from hostward.dataplane.kernel import KernelError
from hostward.engine import cutting
from hostward.engine.cutting import Cutter
from hostward.model.flow import Flow
from hostward.render.evaluate import Packet
from hostward.render.flow_packets import first_packet
from hostward.render.ruleset import ACCEPT, DROP, Hook, Interface, Jump, PortSet, Protocol, Rule, Ruleset, Table, TableId

BIT = 0x40000000
LOCAL = frozenset({"192.0.2.1", "2001:db8::1"})
WAYS = {"192.0.2.5": "eth0", "198.51.100.5": "eth1", "2001:db8::5": "eth0"}


def flow(port, *, source="192.0.2.5", to="192.0.2.1", answer="", answer_port=0, **fields):
    return Flow(source, 40000, to, port, 6, answer or to, answer_port or port, source, **fields)


def ruleset(*ports, family=4):
    """In on eth0 only these ports, nothing is forwarded."""
    where = TableId(family, "filter")
    rules = tuple(Rule((Protocol(6), PortSet("dst", ((port, port),))), ACCEPT) for port in ports)
    chains = {"hw-INPUT": (Rule((Interface("in", "lo"),), ACCEPT), *rules, Rule((Interface("in", "eth0"),), DROP))}
    return Ruleset({where: Table(chains, {"INPUT": Hook((Rule((), Jump("hw-INPUT")),))})})


class FakeWays:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def to(self, address):
        return WAYS.get(address, "")


class World:
    """A cutter whose conntrack is a list."""

    def __init__(self):
        self.table = []
        self.refusals = 0
        self.looks = 0
        self.hold = threading.Event()
        self.hold.set()
        self.registry = CollectorRegistry()
        self.cutter = Cutter(self.registry, self.flows, self.mark, FakeWays)

    def flows(self, wanted):
        self.hold.wait(10)
        self.looks += 1
        if self.refusals:
            self.refusals -= 1
            raise KernelError("no memory")
        return [one for one in self.table if wanted(one)]

    def mark(self, found, value, mask):
        for one in found:
            self.table[self.table.index(one)] = one._replace(mark=one.mark & ~mask | value)
        return len(found)

    def cut(self):
        return {one.destination_port for one in self.table if one.mark & BIT}

    @contextmanager
    def running(self):
        stop = threading.Event()
        thread = threading.Thread(target=self.cutter.run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            self.hold.set()
            thread.join(10)

    def until(self, condition):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def apply(self, *ports):
        looks = self.looks
        self.cutter.applied(ruleset(*ports), BIT, LOCAL)
        self.until(lambda: self.looks >= looks + 2)


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(cutting, "SECOND_LOOK", 0.01)
    made = World()
    with made.running():
        yield made


def test_what_is_newly_denied_and_nothing_else(world):
    world.table = [
        flow(80), flow(81), flow(9, to="192.0.2.9", answer="192.0.2.1", answer_port=81),
        flow(8080, answer="192.0.2.1", answer_port=80), flow(82), flow(80, related=True),
    ]  # fmt: skip
    world.apply(80, 81)
    assert world.cut() == set()  # what was before isn't known
    world.apply(81)
    assert [one.mark for one in world.table] == [BIT, 0, 0, BIT, 0, 0]
    assert world.registry.get_sample_value("hostward_connections_cut_total") == 2
    world.apply(80)
    assert [one.mark for one in world.table] == [0, BIT, BIT, 0, 0, 0]


def test_a_cut_is_taken_back_also_by_a_new_agent(world):
    world.table = [flow(80, mark=BIT | 5), flow(81, mark=BIT)]
    world.apply(80)
    assert [one.mark for one in world.table] == [5, BIT]


def test_changes_while_it_looks_are_judged_together(world):
    world.table = [flow(80), flow(81)]
    world.apply(80, 81)
    world.hold.clear()
    world.cutter.applied(ruleset(80, 81, 1), BIT, LOCAL)
    time.sleep(0.05)
    for ports in ((81,), (1,), (80,)):
        world.cutter.applied(ruleset(*ports), BIT, LOCAL)
    world.hold.set()
    world.until(lambda: world.cut() == {81})


def test_a_refusal_loses_nothing(world):
    world.table = [flow(80), flow(81)]
    world.apply(80, 81)
    world.refusals = 2
    world.cutter.applied(ruleset(81), BIT, LOCAL)
    world.until(lambda: world.cut() == {80})


def test_disabled_it_looks_at_nothing(world):
    world.table = [flow(80)]
    world.cutter.applied(ruleset(80), 0, LOCAL)
    world.cutter.applied(ruleset(), 0, LOCAL)
    time.sleep(0.05)
    assert world.looks == 0
    world.apply()
    assert world.cut() == set()  # it was allowed while nobody asked for it


@pytest.mark.parametrize(
    ("found", "path", "interfaces", "dnat"),
    [
        (flow(80), "input", ("eth0", ""), None),
        (flow(80, source="192.0.2.1", to="198.51.100.5"), "output", ("", "eth1"), None),
        (flow(80, to="198.51.100.5"), "forward", ("eth0", "eth1"), None),
        (flow(80, to="192.0.2.1", answer="198.51.100.5", answer_port=8), "forward", ("eth0", "eth1"), ("198.51.100.5", 8)),
        (flow(80, to="203.0.113.9", answer="192.0.2.1"), "input", ("eth0", ""), ("192.0.2.1", 80)),
        (flow(80, source="192.0.2.1", to="203.0.113.9", answer="198.51.100.5"), "output", ("", "eth1"), ("198.51.100.5", 80)),
    ],
)
def test_the_way_of_a_connection(found, path, interfaces, dnat):
    packet = first_packet(found, LOCAL, FakeWays().to)
    assert isinstance(packet, Packet)
    assert (packet.path, (packet.in_interface, packet.out_interface), packet.dnat) == (path, interfaces, dnat)
    assert (packet.source, packet.destination, packet.destination_port) == (found.source, found.destination, 80)


@pytest.mark.parametrize(
    "found", [flow(80, source="192.0.2.1"), flow(80, source="127.0.0.1", to="127.0.0.1"), flow(80, source="203.0.113.77")]
)
def test_a_connection_that_stays_here_or_comes_from_nowhere(found):
    assert first_packet(found, LOCAL, FakeWays().to) is None


def test_connections_for_people():
    assert str(flow(80)) == "192.0.2.5:40000 to 192.0.2.1:80"
    assert str(flow(80, source="2001:db8::5", to="2001:db8::1")) == "[2001:db8::5]:40000 to [2001:db8::1]:80"
    assert str(flow(80, answer="198.51.100.5", answer_port=8)) == "192.0.2.5:40000 to 192.0.2.1:80 (198.51.100.5:8)"
