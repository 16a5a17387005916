"""The lab itself: packets get where the topology says, drops are seen as drops, and nothing is left behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.probes import Listener, Probe, Prober, Stream, StreamClass, can_connect, probe_all
from tests.lab.topology import WorkerLab

pytestmark = pytest.mark.kernel

KINDS: list[tuple[int, str | int]] = [(22, "tcp"), (53, "udp"), (0, "icmp"), (9, "sctp-init"), (0, 112)]


@pytest.fixture(scope="module")
def lab() -> Iterator[WorkerLab]:
    with WorkerLab() as lab:
        yield lab


@pytest.fixture(scope="module")
def servers(lab: WorkerLab) -> Iterator[Listener]:
    with Listener(lab.worker, tcp=[22, 80], udp=[53], protocols=[112, 132]) as servers:
        yield servers


@pytest.fixture
def internet(lab: WorkerLab) -> Iterator[Prober]:
    with Prober(lab.internet) as prober:
        yield prober


@pytest.mark.parametrize("family", [0, 1], ids=["v4", "v6"])
def test_every_kind_of_probe_is_answered(lab: WorkerLab, servers: Listener, internet: Prober, family: int) -> None:
    outcomes = internet.probe([Probe(lab.PUBLIC[family], port, proto) for port, proto in KINDS])
    assert [outcome.result for outcome in outcomes] == ["ok"] * len(KINDS)
    assert outcomes[0].seen == outcomes[1].seen == lab.INTERNET[family]
    assert outcomes[1].token in servers.heard()


@pytest.mark.parametrize("family", [0, 1], ids=["v4", "v6"])
def test_a_drop_is_silence_and_a_closed_port_is_not(lab: WorkerLab, servers: Listener, internet: Prober, family: int) -> None:
    tool = ("iptables-legacy", "ip6tables-legacy")[family]
    protocol = ("icmp", "icmpv6")[family]
    ping = ("-p", protocol, f"--{protocol}-type", "echo-request")
    rules = (ping, *(("-p", p) for p in ("tcp", "udp", "sctp", "112")))
    for rule in rules:
        lab.worker.run(tool, "-I", "INPUT", "-i", "eth1", *rule, "-j", "DROP")
    try:
        outcomes = internet.probe([Probe(lab.PUBLIC[family], port, proto, timeout=0.2) for port, proto in KINDS])
    finally:
        lab.worker.run(tool, "-F", "INPUT")
    assert [outcome.result for outcome in outcomes] == ["timeout"] * len(KINDS)
    assert outcomes[1].token not in servers.heard()
    closed = internet.probe([Probe(lab.PUBLIC[family], 81, "tcp"), Probe(lab.PUBLIC[family], 81, "udp")])
    assert [outcome.result for outcome in closed] == ["refused", "refused"]


def test_what_the_own_output_refuses_is_told_apart(lab: WorkerLab, internet: Prober) -> None:
    lab.internet.run("iptables-legacy", "-I", "OUTPUT", "-p", "udp", "-j", "DROP")
    try:
        assert internet.probe([Probe(lab.PUBLIC[0], 53, "udp")])[0].result == "denied"
    finally:
        lab.internet.run("iptables-legacy", "-F", "OUTPUT")


def test_only_the_private_side_reaches_private_addresses(lab: WorkerLab, servers: Listener, internet: Prober) -> None:
    with Prober(lab.peer) as peer:
        results = probe_all({p: [Probe(address, 22) for address in lab.PRIVATE] for p in (internet, peer)})
    assert [outcome.result for outcome in results[peer]] == ["ok", "ok"]
    assert not any(results[internet])


def test_a_held_connection_outlives_a_rule_against_new_ones(lab: WorkerLab, servers: Listener, internet: Prober) -> None:
    assert internet.hold("ssh", lab.PUBLIC[0], 22) == "ok"
    lab.worker.run("iptables-legacy", "-I", "INPUT", "-p", "tcp", "--syn", "-j", "DROP")
    try:
        assert internet.still("ssh") == "ok"
        assert not can_connect(lab.internet, lab.PUBLIC[0], 22, timeout=0.2)
        lab.worker.run("iptables-legacy", "-I", "INPUT", "-p", "tcp", "-j", "DROP")
        assert internet.still("ssh", timeout=0.2) == "timeout"
    finally:
        lab.worker.run("iptables-legacy", "-F", "INPUT")


def test_a_hundred_cells_take_as_long_as_the_slowest(lab: WorkerLab, servers: Listener, internet: Prober) -> None:
    outcomes = internet.probe([Probe(lab.PUBLIC[n % 2], 22) for n in range(100)])
    assert all(outcomes)
    assert len({outcome.token for outcome in outcomes}) == 100


def test_a_stream_counts_every_datagram_and_every_drop(lab: WorkerLab) -> None:
    ports = {"may": 7001, "not": 7002}
    classes = [StreamClass(f"{name} v{n}", lab.PUBLIC[n == 6], port) for name, port in ports.items() for n in (4, 6)]
    for tool in ("iptables-legacy", "ip6tables-legacy"):
        lab.worker.run(tool, "-I", "INPUT", "-p", "udp", "--dport", "7002", "-j", "DROP")
    try:
        with Stream(lab.internet, classes, {lab.worker: [7001, 7002]}) as stream:
            stream.start()
            time.sleep(0.5)
            for tool in ("iptables-legacy", "ip6tables-legacy"):
                lab.worker.run(tool, "-F", "INPUT")
            time.sleep(0.3)
            reports = stream.finish()
    finally:
        for tool in ("iptables-legacy", "ip6tables-legacy"):
            lab.worker.run(tool, "-F", "INPUT")
    for name in ("may v4", "may v6"):
        assert reports[name].sent > 300
        assert reports[name].lost == []
    for name in ("not v4", "not v6"):
        lost = reports[name].lost
        assert lost == list(range(len(lost)))  # all that were sent while the rule stood, none after
        assert 100 < len(lost) < reports[name].sent


def test_nothing_is_left_behind() -> None:
    with WorkerLab() as lab:
        names = {host.name for host in lab.hosts.values()}
        with Listener(lab.pod, tcp=[8080]) as listener:
            pid = listener.process.pid
    assert not names & {path.name for path in Path("/run/netns").iterdir()}
    assert not Path(f"/proc/{pid}").exists()
