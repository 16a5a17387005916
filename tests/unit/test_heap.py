"""When freed memory is kept and when it is given back; when an agent looks for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from hostward.engine import heap as tested
from hostward.engine.heap import QUIET_SECONDS, START_SECONDS, TRIM_SECONDS, Heap


class Host:
    """A heap, its clock and its commits; `tuned`: what the C library was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.writes, self.trims = 1000.0, 12, 0
        self.tuned: list[object] = []
        monkeypatch.setattr(tested, "_tune", self.tuned.append)
        monkeypatch.setattr(tested, "_trim", self._trim)
        self.heap = Heap(lambda: self.writes, lambda: self.now)

    def _trim(self) -> None:
        self.trims += 1

    def later(self, seconds: float, writes: int = 0) -> None:
        self.now += seconds
        self.writes += writes
        self.heap.look()


def whole_collections() -> int:
    return gc.get_stats()[2]["collections"]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    threshold = gc.get_threshold()
    Heap.begin()
    yield Host(monkeypatch)
    gc.set_threshold(*threshold)
    gc.enable()
    gc.unfreeze()


def test_garbage_is_left_until_the_start_is_over_and_then_collected_whole(host: Host) -> None:
    before = whole_collections()
    host.later(2 * TRIM_SECONDS, writes=3)
    assert (gc.isenabled(), whole_collections() - before) == (False, 0), "a start makes a million values that are no garbage"
    host.heap.settle()
    assert (gc.isenabled(), whole_collections() - before, host.trims) == (True, 1, 1)
    host.later(2 * TRIM_SECONDS)
    assert (whole_collections() - before, host.trims) == (2, 2)


def test_garbage_is_looked_for_while_an_agent_waits_for_its_datastore(host: Host) -> None:
    host.later(START_SECONDS - 1)
    assert not gc.isenabled()
    host.later(1)
    assert gc.isenabled()


def test_what_the_start_wrote_is_no_reason_to_keep_memory(host: Host) -> None:
    host.later(1, writes=5)
    host.heap.settle()
    host.later(1)
    assert not host.heap.keeps
    assert host.tuned == []


def test_memory_is_kept_while_changes_come_and_given_back_after(host: Host) -> None:
    host.heap.settle()
    host.later(1, writes=1)
    assert host.heap.keeps
    for _ in range(int(2 * TRIM_SECONDS / QUIET_SECONDS)):
        host.later(QUIET_SECONDS - 1, writes=1)
    assert (len(host.tuned), host.trims) == (1, 2), "told once, and given back now and then"
    host.later(QUIET_SECONDS - 1)
    assert host.heap.keeps
    host.later(1)
    assert (host.heap.keeps, len(host.tuned), host.trims) == (False, 2, 3)
    assert host.tuned[1] == tested._SMALL


def test_garbage_is_looked_for_while_changes_come(host: Host) -> None:
    host.heap.settle()
    before = whole_collections()
    for _ in range(20):
        host.later(TRIM_SECONDS / 10, writes=1)
    assert whole_collections() - before == 2
