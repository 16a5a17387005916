"""Health: who is late, who is bad, what the table says."""

from __future__ import annotations

import pytest

from hostward.report.health import HealthBoard


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_is_ready_before_it_says_so(clock):
    board = HealthBoard(clock)
    assert board.liveness().ok
    assert not board.readiness().ok
    board.register("engine", live=True, ready=True, timeout=90)
    board.register("datastore", ready=True)
    assert board.liveness().ok
    assert not board.readiness().ok
    board.report("engine")
    assert not board.readiness().ok
    board.report("datastore", detail="in sync")
    assert board.readiness().ok


def test_a_hung_component_is_neither_live_nor_ready(clock):
    board = HealthBoard(clock)
    board.register("engine", live=True, ready=True, timeout=90)
    board.report("engine")
    clock.now = 90
    assert board.liveness().ok
    clock.now = 90.1
    assert not board.liveness().ok
    assert not board.readiness().ok
    assert "timed out" in board.liveness().text
    board.report("engine")
    assert board.liveness().ok
    assert board.readiness().ok


def test_one_that_never_reported_is_given_its_timeout(clock):
    board = HealthBoard(clock)
    board.register("engine", live=True, timeout=20)
    clock.now = 19
    assert board.liveness().ok
    clock.now = 21
    assert not board.liveness().ok


def test_qualities_that_a_component_does_not_report_do_not_count(clock):
    board = HealthBoard(clock)
    board.register("engine", live=True, ready=True)
    board.register("datastore", ready=True)
    board.register("watchdog", live=True)
    board.report("engine")
    board.report("datastore", live=False, ready=False, detail="frozen:\n  datastoreReady is false")
    assert board.liveness().ok
    assert not board.readiness().ok
    board.report("datastore", ready=True)
    board.report("watchdog", live=False)
    assert board.readiness().ok
    assert not board.liveness().ok


def test_overrides(clock):
    board = HealthBoard(clock, {"engine": 10, "links": 0})
    board.register("engine", live=True, timeout=90)
    board.register("links", live=True, timeout=5)
    clock.now = 8
    assert board.liveness().ok
    clock.now = 11
    text = board.liveness().text
    assert not board.liveness().ok
    assert [line.split()[1] for line in text.splitlines()] == ["timeout", "10s", "-"]


def test_the_table(clock):
    board = HealthBoard(clock)
    board.register("engine", live=True, ready=True, timeout=90)
    board.register("datastore", ready=True)
    board.report("engine", detail="applied 7")
    board.report("datastore", ready=False, detail="frozen:\nGUID changed")
    assert board.readiness().text == (
        "component  timeout  liveness        readiness            detail\n"
        "engine     90s      reporting live  reporting ready      applied 7\n"
        "datastore  -        -               reporting non-ready  frozen: GUID changed\n"
    )
    with pytest.raises(KeyError):
        board.report("stranger")
