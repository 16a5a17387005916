"""While policies change by every means and the agent is killed at any moment, no packet meets a mix of two states."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e import documents as d
from tests.e2e.disturbance import Disturbance, LostError
from tests.e2e.shapes import FAILSAFE_PORT, TRAFFIC, Shapes
from tests.lab import kubeproxy
from tests.lab.agent import Agent
from tests.lab.etcd import Etcd
from tests.lab.probes import ClassReport, Stream, StreamClass
from tests.lab.topology import WorkerLab

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
SEED = 20260301


@contextmanager
def site() -> Iterator[tuple[WorkerLab, Etcd]]:
    """A lab with the services of all kinds of traffic, and its etcd."""
    with WorkerLab() as lab:
        services = [
            kubeproxy.Service(f"{traffic.name.upper()}{version}", "udp", pod, traffic.inner, traffic.port)
            for version, pod in zip((4, 6), lab.POD, strict=True)
            for traffic in TRAFFIC
            if traffic.forwarded
        ]
        # A datagram a port and no answers: conntrack keeps half a minute of them unless told otherwise.
        lab.worker.sysctl({"net/netfilter/nf_conntrack_udp_timeout": "5"})
        kubeproxy.install(lab.worker, services, lab.POD_RANGE)
        with Etcd(lab.store, lab.STORE[0]) as etcd:
            yield lab, etcd


def classes(lab: WorkerLab) -> list[StreamClass]:
    ports = {traffic.name: traffic.port for traffic in TRAFFIC} | {"failsafe": FAILSAFE_PORT}
    return [StreamClass(f"{name} v{v}", lab.PUBLIC[v == 6], port) for name, port in ports.items() for v in (4, 6)]


def stream(lab: WorkerLab, rate: int) -> Stream:
    """All classes, from the internet; counted at the worker and, after DNAT, at the pod."""
    local = [traffic.inner for traffic in TRAFFIC if not traffic.forwarded]
    remote = [traffic.inner for traffic in TRAFFIC if traffic.forwarded]
    return Stream(lab.internet, classes(lab), {lab.worker: [*local, FAILSAFE_PORT], lab.pod: remote}, rate=rate)


def disturb(lab: WorkerLab, etcd: Etcd, *, rate: int, changes: int, kills: int, seed: int) -> Disturbance:
    """The whole story: 0 leaked, 0 lost."""
    with stream(lab, 100) as unguarded:
        unguarded.start()
        time.sleep(0.3)
        for name, report in unguarded.finish().items():
            assert report.sent, name
            assert not report.lost, f"{name}: doesn't arrive where nothing guards, so its absence would prove nothing"
    etcd.put(d.CLUSTER, d.cluster())
    env = etcd.env | {"HOSTWARD_FAILSAFE_INBOUND_HOST_PORTS": f"tcp:22,udp:{FAILSAFE_PORT}"}
    with Agent(lab.worker, env=env) as agent:
        shapes = Shapes(seed)
        disturbance = Disturbance(agent, etcd, shapes, seed)
        agent.wait_applied(disturbance.write())
        with stream(lab, rate) as guarded:
            guarded.start()
            disturbance.run(changes, kills)
            reports = guarded.finish()
        refused = agent.log_lines("the kernel refused a change, what was in force stays; trying again")
        assert not refused, refused[0]
    judge(reports, disturbance, shapes)
    return disturbance


def judge(reports: dict[str, ClassReport], disturbance: Disturbance, shapes: Shapes) -> None:
    """What was denied all the time never arrived, what was allowed all the time always did."""
    denied = {traffic.name for traffic in TRAFFIC if not traffic.allowed}
    sent = reports["failsafe v4"].sent
    print(f"{sent} sent per class, {disturbance.kills} kills, {disturbance.midway} of them midway")
    leaks, losses = [], []
    for name, report in reports.items():
        if name.split(" ")[0] in denied and report.arrived:
            leaks.append(f"{name}: {len(report.arrived)} leaked, the first: {sorted(report.arrived)[:10]}")
        elif name.split(" ")[0] not in denied and report.lost:
            losses.append(f"{name}: {len(report.lost)} lost, the first: {report.lost[:10]}")
    assert not leaks, f"of {sent} of each: {leaks}"
    assert disturbance.midway, "no kill came while a change was under way"
    drawn = {(name, means) for state in shapes.log for name, means in state.items()}
    assert len(drawn) > 30, f"too few means were drawn to say anything: {sorted(drawn)}"
    if losses:
        raise LostError(f"of {sent} of each: {losses}")


def hold(*, changes: int, kills: int, seed: int) -> None:
    """The story once; a second time if something was lost the first time."""
    for last in (False, True):
        with site() as (lab, etcd):
            try:
                disturb(lab, etcd, rate=1000, changes=changes, kills=kills, seed=seed)
            except LostError as lost:
                if last:
                    raise
                print(f"once more: {lost}")
            else:
                return


def test_two_hundred_changes_and_twenty_kills() -> None:
    hold(changes=200, kills=20, seed=SEED)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [SEED + n for n in range(1, 6)])
def test_four_hundred_changes_and_a_hundred_kills(seed: int) -> None:
    hold(changes=400, kills=100, seed=seed)
