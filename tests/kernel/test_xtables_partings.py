"""What rules had counted when an edit removed them, by what it meant; and what the agent does with the kernel, counted."""

from __future__ import annotations

import fcntl
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostward.dataplane.kernel import CreateSet, KernelError, Parting, TableEdit
from hostward.dataplane.linux import LinuxKernel
from hostward.dataplane.xtables import tables
from hostward.dataplane.xtables.commit import commit
from hostward.dataplane.xtables.tables import XTables
from hostward.render.ruleset import ACCEPT, Chain, IPSet, Protocol, Rule
from tests.lab.xtables import FILTER, HOOK, Lab, entered_lab

pytestmark = pytest.mark.kernel


@pytest.fixture(params=["libiptc", "iptables-restore"])
def lab(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    if request.param == "iptables-restore":
        monkeypatch.setattr(tables, "commit", functools.partial(commit, bulk_rules=0))
    with entered_lab(tmp_path) as lab:
        yield lab


def rules(*meanings: str, comment: str = "") -> Chain:
    """Rules that differ in their protocols, and in what they mean."""
    return tuple(Rule((Protocol(50 + at),), ACCEPT, comment, meaning) for at, meaning in enumerate(meanings))


def count(lab: Lab, chain: str, *packets: int) -> None:
    """Makes rules have counted so much, and ten times as many bytes."""
    for at, number in enumerate(packets):
        lab.ns.run(
            "iptables-legacy", "-R", chain, str(at + 1), "-p", str(50 + at), "-j", "ACCEPT", "-c", str(number), str(10 * number)
        )


def parted(kernel: XTables) -> set[Parting]:
    return set(kernel.partings(FILTER))


def test_what_goes_leaves_its_counts_and_what_stays_keeps_them(lab: Lab) -> None:
    old = rules("a", "b", "", "a", "c")
    lab.put({"hw-a": old, "hw-b": rules("a")}, {"INPUT": HOOK})
    count(lab, "hw-a", 1, 2, 3, 4, 5)
    lab.put({"hw-a": (old[0], old[4])})
    assert parted(lab.tables) == {Parting("hw-a", "b", 2, 20), Parting("hw-a", "a", 4, 40)}
    assert list(lab.tables.counters(FILTER)["hw-a"]) == [1, 10, 5, 50]
    lab.put({"hw-a": rules("", "x")})  # all of it goes
    lab.put({"hw-a": old, "hw-b": None}, {"INPUT": HOOK})
    assert parted(lab.tables) == {Parting("hw-a", "a", 1, 10), Parting("hw-a", "c", 5, 50)}
    assert parted(lab.tables) == set()


def test_several_edits_add_up_until_somebody_asks(lab: Lab) -> None:
    for number in (3, 4):
        lab.put({"hw-a": rules("a")}, {"INPUT": HOOK})
        count(lab, "hw-a", number)
        lab.put({"hw-a": ()})
    assert parted(lab.tables) == {Parting("hw-a", "a", 7, 70)}


def test_equal_rules_of_another_process_are_told_apart_by_where_they_stand(lab: Lab) -> None:
    """Rules of two policies may be equal but for what they mean, which isn't in the kernel."""
    twins = (Rule((Protocol(50),), ACCEPT, "", "a"), Rule((Protocol(51),), ACCEPT), Rule((Protocol(50),), ACCEPT, "", "b"))
    lab.put({"hw-a": twins}, {"INPUT": HOOK})
    for at, number in ((1, 5), (3, 7)):
        lab.ns.run("iptables-legacy", "-R", "hw-a", str(at), "-p", "50", "-j", "ACCEPT", "-c", str(number), str(10 * number))
    fresh = XTables(lab.lock_path, 5.0)
    fresh.learn(FILTER, twins)
    assert fresh.read_table(FILTER).chains["hw-a"] == twins
    fresh.placed(FILTER, {"hw-a": twins})
    fresh.apply(TableEdit(FILTER, {"hw-a": twins[1:]}, {}))
    assert parted(fresh) == {Parting("hw-a", "a", 5, 50)}
    fresh.apply(TableEdit(FILTER, {"hw-a": ()}, {}))
    assert parted(fresh) == {Parting("hw-a", "b", 7, 70)}


def test_what_somebody_else_changed_is_told_by_its_content(lab: Lab) -> None:
    old = rules("a", "b", "c")
    lab.put({"hw-a": old}, {"INPUT": HOOK})
    count(lab, "hw-a", 1, 2, 3)
    lab.tool(FILTER, "-D", "hw-a", "1")
    lab.tables.read_table(FILTER)
    lab.put({"hw-a": ()})
    assert parted(lab.tables) == {Parting("hw-a", "b", 2, 20), Parting("hw-a", "c", 3, 30)}


def test_what_is_done_is_counted(lab: Lab) -> None:
    kernel = LinuxKernel(lab.lock_path, 0.2)
    try:
        kernel.read_table(FILTER)
        with kernel.lock():
            kernel.apply(TableEdit(FILTER, {"hw-a": rules("a", "b")}, {"INPUT": HOOK}))
        kernel.apply(CreateSet("hw4-s-a", IPSet("hash:net", 4, frozenset({"10.0.0.0/8"}))))
        kernel.changed(FILTER)
        with pytest.raises(KernelError):
            kernel.apply(CreateSet("hw4-s-a", IPSet("hash:net", 4)))
        with lab.lock_path.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(KernelError), kernel.lock():
                pass
    finally:
        kernel.close()
    assert kernel.calls.pop(("lock", "retries")) > 0
    assert kernel.calls == {
        ("read", "done"): 2,
        ("write", "done"): 1,
        ("rules", "4", "filter"): 2,
        ("sets", "done"): 1,
        ("sets", "failed"): 1,
        ("sets", "members"): 1,
        ("lock", "done"): 1,
        ("lock", "failed"): 1,
    }
