"""etcd goes away and comes back: nothing changes meanwhile, nothing is missed, nothing is done twice."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e import documents as d
from tests.e2e.conftest import GUARDED, Site
from tests.e2e.disturbance import State, difference
from tests.e2e.shapes import Shapes
from tests.lab.agent import Agent
from tests.lab.figures import Figures, sizes

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
SEED = 20260302


class Writer:
    """Writes states until told to end, each until the store has confirmed it; a write whose answer was lost is repeated."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.shapes = Shapes(SEED)
        self.state: State = {}
        self.confirmed = self.revision = 0
        self.stop = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self.write()
        except BaseException as error:
            self.error = error
            raise

    def write(self) -> None:
        new = self.shapes.draw()
        puts, deletes = difference(self.state, new)
        for _ in range(600):
            try:
                self.revision = self.site.etcd.transaction({key: json.dumps(value) for key, value in puts.items()}, deletes)
                break
            except RuntimeError:
                time.sleep(0.1)
        else:
            raise AssertionError("etcd was away for a minute")
        self.state = new
        self.confirmed += 1
        time.sleep(0.03)


@contextmanager
def writing(site: Site) -> Iterator[Writer]:
    writer = Writer(site)
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        yield writer
    finally:
        writer.stop.set()
        thread.join(90)
    assert writer.error is None


@sizes("rounds", short=10, full=100)
def test_restarts_under_writes(site: Site, figures: Figures, rounds: int) -> None:
    """R2: what the agent made of all that it followed is what a new one makes of what is there now."""
    site.etcd.put(d.CLUSTER, d.cluster())
    site.agent.start()
    rng = Shapes(SEED).rng
    with writing(site) as writer:
        for round_ in range(1, rounds + 1):
            site.until("two more writes are confirmed", lambda wanted=2 * round_: writer.confirmed >= wanted)
            time.sleep(rng.uniform(0, 0.3))
            site.etcd.kill()
            time.sleep(rng.uniform(0, 0.5))
            site.etcd.start()
    site.agent.wait_applied(writer.revision)
    assert site.agent.log_lines("datastore lost, what is in force stays")
    followed = site.everything()
    assert site.agent.metric("hostward_applied_revision") == site.agent.metric("hostward_desired_revision") == writer.revision
    assert site.agent.metric("hostward_repairs_total") == 0
    site.agent.stop()
    shutil.rmtree(site.agent.state)
    assert site.agent.command("cleanup").returncode == 0
    site.agent.start()
    site.agent.wait_applied(writer.revision)
    assert site.everything() == followed
    figures.tell("R2", "restarts", rounds)
    figures.tell("R2", "confirmed writes", writer.confirmed)
    figures.tell("R2", "differences from a fresh agent", 0)


def assert_idle(agent: Agent, seconds: float) -> float:
    """The agent lives and takes less than 5 % of a core for so long; its share."""
    began, cpu = time.monotonic(), agent.cpu_seconds()
    while time.monotonic() - began < seconds:
        time.sleep(min(5, seconds))
        assert agent.alive
    share = (agent.cpu_seconds() - cpu) / (time.monotonic() - began)
    assert share < 0.05
    return share


def test_an_agent_that_starts_without_etcd_keeps_what_is_there(guarded: Site) -> None:
    """Nothing is loosened before the first snapshot (D12), nor repaired: it isn't known what should be there."""
    guarded.agent.kill()
    guarded.etcd.stop()
    before = guarded.everything()
    guarded.agent.start()
    guarded.until("the agent has noticed", lambda: guarded.agent.status().get("datastore", {}).get("state") == "lost")
    assert guarded.agent.health("readiness")[0] == 503
    assert "no complete snapshot" in guarded.agent.health("readiness")[1]
    assert guarded.agent.health("liveness")[0] == 200
    assert_idle(guarded.agent, 4)
    assert guarded.everything() == before
    assert guarded.reached() == GUARDED
    guarded.etcd.start()
    guarded.agent.wait_applied(guarded.etcd.revision())
    assert guarded.everything() == before
    assert guarded.agent.health("readiness")[0] == 200


def test_a_restored_etcd(guarded: Site) -> None:
    """The revision goes back: what it holds now is followed, and the cluster is still the same."""
    guarded.etcd.stop()
    copy = guarded.etcd.home / "copy"
    guarded.etcd.backup(copy)
    guarded.etcd.start()
    for number in range(5):
        revision = guarded.etcd.put(d.policy_key(f"p{number}"), d.policy(f"p{number}", 1, [d.to_ports("Deny", [80], "TCP")]))
    guarded.agent.wait_applied(revision)
    assert guarded.reached() == {"v4": (22, 81), "v6": (22, 81)}
    guarded.etcd.kill()
    guarded.etcd.restore(copy)
    guarded.etcd.start()
    guarded.until("the old state is back", lambda: guarded.reached() == GUARDED)
    now = guarded.etcd.revision()
    guarded.until("the revision went back", lambda: guarded.agent.metric("hostward_applied_revision") == now)
