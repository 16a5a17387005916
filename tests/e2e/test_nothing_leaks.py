"""While policies change by every means and the agent is killed at any moment, no packet meets a mix of two states."""

from __future__ import annotations

import time

import pytest

from tests.e2e import documents as d
from tests.e2e.disturbance import Disturbance, LostError
from tests.e2e.shapes import FAILSAFE_PORT, TRAFFIC, Shapes
from tests.e2e.traffic import served, stream
from tests.lab.agent import Agent
from tests.lab.etcd import Etcd
from tests.lab.figures import Figures, percentile
from tests.lab.probes import ClassReport
from tests.lab.topology import WorkerLab

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
SEED = 20260301


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
    sent = disturbance.sent = reports["failsafe v4"].sent
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


def hold(*, changes: int, kills: int, seed: int) -> Disturbance:
    """The story once; a second time if something was lost the first time."""
    for last in (False, True):
        with served() as lab, Etcd(lab.store, lab.STORE[0]) as etcd:
            try:
                return disturb(lab, etcd, rate=1000, changes=changes, kills=kills, seed=seed)
            except LostError as lost:
                if last:
                    raise
                print(f"once more: {lost}")
    raise AssertionError("it has ended or failed")


def test_two_hundred_changes_and_twenty_kills(figures: Figures) -> None:
    tell(figures, hold(changes=200, kills=20, seed=SEED))


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [SEED + n for n in range(1, 11)])
def test_four_hundred_changes_and_a_hundred_kills(figures: Figures, seed: int) -> None:
    tell(figures, hold(changes=400, kills=100, seed=seed))


def tell(figures: Figures, disturbance: Disturbance) -> None:
    """K1, which the story was: it fails at the first datagram that leaked."""
    figures.tell("K1", "kills", disturbance.kills, how="sum")
    figures.tell("K1", "kills that left a change half done", disturbance.midway, how="sum")
    figures.tell("K1", "datagrams of each class", disturbance.sent, how="sum")
    figures.tell("K1", "datagrams leaked or lost", 0, how="sum")
    figures.below("K1", "start to converged, median", percentile(disturbance.converged, 0.5), 3)
    figures.tell("K1", "start to converged, slowest", max(disturbance.converged), "s")
