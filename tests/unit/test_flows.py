"""Which addresses' connections are forgotten when workloads change, and the thread that forgets them."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hostward.calc.flows import Flows, flows_to_forget, have_moved
from hostward.engine import flows
from hostward.engine.flows import FlowCleaner
from hostward.model.resolved import ResolvedWorkload
from tests.unit.engines import FakeConntrack, until

Names = tuple[str, ...]
World = dict[str, Names]
A, A6, B, C = "10.0.0.1", "fd00::1", "10.0.0.2", "10.0.0.3"


def workloads(world: World, names: Mapping[str, str]) -> dict[str, ResolvedWorkload]:
    return {i: ResolvedWorkload(i, names.get(i, f"ns/{i}"), addresses) for i, addresses in world.items()}


@pytest.mark.parametrize(
    ("before", "after", "pending", "gone", "moved", "returned"),
    [
        ({}, {"cali1": (A, A6)}, (), (), (), ()),
        ({"cali1": (A, A6)}, {"cali1": (A, A6)}, (), (), (), ()),
        ({"cali1": (A, A6), "cali2": (B,)}, {"cali2": (B,)}, (), (A, A6), (), ()),
        ({"cali1": (A, A6)}, {"cali1": (A,)}, (), (A6,), (), ()),
        ({"cali1": (A,)}, {"cali2": (A,)}, (), (), (A,), ()),
        ({"cali1": (A,), "cali2": (B,)}, {"cali1": (B,), "cali2": (A,)}, (), (), (A, B), ()),
        ({"cali1": (A,)}, {"cali1": (A,), "cali2": (A,)}, (), (), (A,), ()),
        ({"cali1": (A,), "cali2": (A,)}, {"cali2": (A,)}, (), (), (), ()),
        ({}, {"cali2": (A, B)}, (A, C), (), (), (A,)),
        ({"cali1": (B,)}, {"cali1": (B,)}, (A, B), (), (), ()),
        ({"cali1": (A,)}, {"cali2": (A,)}, (A,), (), (A,), ()),
    ],
)
def test_addresses_that_go_and_move(
    before: World, after: World, pending: Names, gone: Names, moved: Names, returned: Names
) -> None:
    found = flows_to_forget(workloads(before, {}), workloads(after, {}), frozenset(pending))
    assert found == (set(gone), set(moved), set(returned))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_nothing_is_forgotten_where_nobody_has_moved(seed: int) -> None:
    rng = random.Random(seed)
    old = workloads({f"cali{n}": (rng.choice((A, B, C)),) for n in range(3)}, {})
    new = dict(old)
    for name in rng.sample(sorted(old), rng.randrange(3)):
        new[name] = replace(old[name], profiles=("other",), addresses=rng.choice([old[name].addresses, (A6,)]))
    changed = [name for name in old if old[name] is not new[name]]
    moved = any(old[name].addresses != new[name].addresses for name in changed)
    assert have_moved(old, new, changed) is moved
    if not moved:
        assert flows_to_forget(old, new, frozenset({A, A6})) == Flows()
    assert have_moved(old, {}, old)


def test_another_workload_on_the_same_interface_has_not_the_old_ones_connections() -> None:
    before, after = workloads({"cali1": (A,)}, {"cali1": "ns/one"}), workloads({"cali1": (A,)}, {"cali1": "ns/two"})
    assert flows_to_forget(before, after) == (set(), {A}, set())


def test_a_changed_policy_cuts_nothing() -> None:
    """H-71."""
    before = workloads({"cali1": (A,)}, {})
    after = {"cali1": ResolvedWorkload("cali1", "ns/cali1", (A,), profiles=("other",), isolated=True)}
    assert flows_to_forget(before, after) == (set(), set(), set())


@pytest.fixture
def conntrack() -> FakeConntrack:
    return FakeConntrack({(A, "192.0.2.1"), ("192.0.2.2", A), (B, C), (C, "192.0.2.1")})


@pytest.fixture
def cleaner(conntrack: FakeConntrack) -> Iterator[FlowCleaner]:
    """With its thread running."""
    stop = threading.Event()
    cleaner = FlowCleaner(conntrack.forget)
    thread = threading.Thread(target=cleaner.run, args=(stop,))
    thread.start()
    yield cleaner
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_connections_of_an_address_go_and_others_stay(cleaner: FlowCleaner, conntrack: FakeConntrack) -> None:
    cleaner.forget([A])
    until(lambda: cleaner.counts() == (2, 0, 0))
    assert conntrack.entries == {(B, C), (C, "192.0.2.1")}


def test_what_is_asked_for_during_a_reading_waits_for_one_more(cleaner: FlowCleaner, conntrack: FakeConntrack) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        assert go_on.wait(10)

    conntrack.on_reading = hold
    cleaner.forget([A])
    assert entered.wait(10)
    conntrack.entries.add((A, "192.0.2.9"))  # where this reading has been already
    for address in (A, B, C):
        cleaner.forget([address])
    assert cleaner.pending() == {A, B, C}
    go_on.set()
    until(lambda: not cleaner.pending())
    assert conntrack.readings == [{A}, {A, B, C}]
    assert conntrack.entries == set()


def test_who_waits_is_told_once_they_are_gone(cleaner: FlowCleaner, conntrack: FakeConntrack) -> None:
    assert cleaner.wait_clean({A, C}, 10)
    assert conntrack.entries == set()
    assert cleaner.wait_clean({A}, 10)


def test_who_waits_isnt_told_of_a_reading_that_began_before(cleaner: FlowCleaner, conntrack: FakeConntrack) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        assert go_on.wait(10)

    conntrack.on_reading = hold
    cleaner.forget([A])
    assert entered.wait(10)
    conntrack.entries.add((A, "192.0.2.9"))
    threading.Timer(0.05, go_on.set).start()
    assert cleaner.wait_clean({A}, 10)
    assert conntrack.entries == {(B, C), (C, "192.0.2.1")}


def test_nobody_waits_longer_than_he_wants(cleaner: FlowCleaner, conntrack: FakeConntrack) -> None:
    go_on = threading.Event()
    conntrack.on_reading = lambda: go_on.wait(10)
    assert not cleaner.wait_clean({A}, 0.05)
    go_on.set()
    until(lambda: not cleaner.pending())


def test_a_refusal_is_told_at_once_and_tried_again(cleaner: FlowCleaner, conntrack: FakeConntrack) -> None:
    go_on = threading.Event()

    def refuse_once() -> None:
        conntrack.refuses = len(conntrack.readings) == 1
        if not conntrack.refuses:
            go_on.wait(2)  # who isn't told of the first reading is told of this one

    conntrack.on_reading = refuse_once
    assert not cleaner.wait_clean({A}, 60)
    assert cleaner.pending() == {A}
    go_on.set()
    until(lambda: not cleaner.pending())
    deleted, failed, _ = cleaner.counts()
    assert deleted == 2
    assert failed == 1
    assert cleaner.wait_clean({B}, 10)


def test_it_ends_while_the_kernel_refuses(conntrack: FakeConntrack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "FIRST_RETRY", 600.0)
    conntrack.refuses = True
    stop = threading.Event()
    cleaner = FlowCleaner(conntrack.forget)
    cleaner.forget([A])
    thread = threading.Thread(target=cleaner.run, args=(stop,), daemon=True)  # a failure ends, too
    thread.start()
    until(lambda: cleaner.counts().failed == 1)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
