"""etcd dies, freezes, disappears behind a black hole, forgets its history: R1, R4, R5, R6.

R2 is in tests/e2e/test_etcd_lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e import documents as d
from tests.lab.figures import Figures, sizes
from tests.reliability.rig import FLIP, Rig, allowing, once_more

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
IN_SYNC = 3  # felix_resync_state


@sizes("seconds", short=3, full=600)
@once_more
def test_r1_etcd_is_killed(figures: Figures, seconds: float) -> None:
    """The rules stay byte for byte, nobody feels it, the agent idles, says so, and is back at once."""
    with Rig() as rig, rig.held():
        before = rig.fingerprint()
        with rig.traffic("R1", figures, 1000 if figures.full else 300):
            rig.etcd.kill()
            told = rig.until("it is told", lambda: rig.agent.metric("felix_resync_state") != IN_SYNC)
            rig.share_of_a_core(min(seconds, 10))
        with rig.traffic("R1", figures, 100):
            share = rig.share_of_a_core(seconds)
        assert rig.fingerprint() == before
        assert rig.agent.metric("hostward_datastore_contact_age_seconds") >= seconds
        assert rig.agent.status()["datastore"]["state"] == "lost"
        assert rig.agent.health("readiness")[0] == 200  # it guards as well as before
        with rig.traffic("R1", figures, 1000 if figures.full else 300):
            rig.etcd.start()
            back = rig.until("it is back", lambda: rig.agent.metric("felix_resync_state") == IN_SYNC)
            assert rig.fingerprint() == before
            rig.agent.wait_applied(rig.change())
    figures.tell("R1", "seconds without etcd", seconds, "s")
    figures.below("R1", "told after", told, 10)
    figures.below("R1", "share of a core", share, 0.05, "")
    figures.below("R1", "back after", back, 5)


@sizes("rounds", short=1, full=20)
@once_more
def test_r4_history_is_compacted_while_the_agent_is_away(figures: Figures, rounds: int) -> None:
    """Everything is read again: what is still there was never gone, what was deleted meanwhile goes."""
    with Rig() as rig, rig.held(), rig.traffic("R4", figures, 1000 if figures.full else 300):
        wanted = rig.fingerprint()
        port = rig.etcd.port
        for number in range(rounds):
            rig.agent.wait_applied(rig.store.put(FLIP, d.policy("flip", 1, [d.to_ports("Deny", [9000 + number], "TCP")])))
            assert rig.fingerprint() != wanted
            rig.etcd.stop()
            rig.etcd.port = 22_379  # it works, but where the agent doesn't look
            rig.etcd.start()
            rig.etcd.delete(FLIP)
            for kept in range(3):
                rig.etcd.put(d.policy_key("pass"), {**allowing(), "metadata": {"name": "default.pass", "uid": str(kept)}})
            revision = rig.etcd.compact()
            rig.etcd.stop()
            rig.etcd.port = port
            rig.etcd.start()
            rig.agent.wait_applied(revision)
            assert rig.fingerprint() == wanted, "the deletion is honoured, and nothing else has gone"
        reasons = [line["reason"] for line in rig.agent.log_lines("datastore lost, what is in force stays")]
        assert any("compacted" in reason for reason in reasons), reasons
    figures.tell("R4", "compactions", rounds)


def cut(rig: Rig) -> Callable[[], None]:
    """The router drops everything to and from the store, without a word; how to undo it."""
    for verb in ("-s", "-d"):
        rig.lab.private_router.run("iptables-legacy", "-I", "FORWARD", verb, rig.lab.STORE[0], "-j", "DROP")

    def undo() -> None:
        rig.lab.private_router.run("iptables-legacy", "-F", "FORWARD")

    return undo


def freeze(rig: Rig) -> Callable[[], None]:
    """The server stops in its tracks, with its connections open; how to undo it."""
    rig.etcd.freeze()
    return rig.etcd.thaw


@sizes("seconds", short=0, full=120)
def test_r5_a_black_hole(figures: Figures, seconds: float) -> None:
    silence(figures, "R5", cut, seconds)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_r6_a_frozen_server(figures: Figures) -> None:
    """`tests/datastore/test_etcd_feed.py` has the short form."""
    silence(figures, "R6", freeze, 120)


@once_more
def silence(figures: Figures, scenario: str, how: Callable[[Rig], Callable[[], None]], seconds: float) -> None:
    """No connection breaks, no answer comes: noticed all the same, and over as soon as there are answers again."""
    with Rig() as rig, rig.held():
        before = rig.fingerprint()
        with rig.traffic(scenario, figures, 100):
            undo = how(rig)
            noticed = rig.until("it is noticed", rig.is_lost)
            age = rig.agent.metric("hostward_datastore_contact_age_seconds")
            assert age > noticed - 3, "the freshness that metrics tell is that of before"
            share = rig.share_of_a_core(seconds) if seconds else 0.0
            assert rig.agent.metric("hostward_datastore_contact_age_seconds") >= age + seconds
            assert rig.fingerprint() == before
            began = time.monotonic()
            undo()
            rig.agent.wait_applied(rig.change())
            back = time.monotonic() - began
            assert not rig.is_lost()
    figures.tell(scenario, "seconds of silence after it was noticed", seconds, "s")
    figures.below(scenario, "noticed after", noticed, 30)
    figures.below(scenario, "share of a core", share, 0.05, "")
    figures.below(scenario, "back after", back, 10)
