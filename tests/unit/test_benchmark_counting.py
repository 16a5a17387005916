"""What the benchmark of counters stores and concludes, and which benchmarks run where."""

from __future__ import annotations

import json

import pytest
from benchmarks import counted_workload as w
from benchmarks import counting
from benchmarks.catalogue import BENCHES
from benchmarks.groups import GROUPS, planned

from hostward.model import keys
from hostward.model.decode import decode


def test_everything_stored_is_understood_and_each_change_is_one() -> None:
    stored = dict(w.documents(50))
    assert sum("policies/" in path for path in stored) == 50
    for kind in w.DOCUMENTS:
        (path, before), (again, after) = w.changed(kind, there=False), w.changed(kind, there=True)
        assert path == again
        assert stored[path] == before != after
        stored[f"{path} changed"] = after
    for path, document in stored.items():
        key = keys.parse(path.removesuffix(" changed"))
        assert key is not None, path
        assert not decode(key, json.dumps(document).encode()).problems, path


def test_what_is_not_changed_is_the_same_but_for_the_number_of_other_policies() -> None:
    few, many = dict(w.documents(50)), dict(w.documents(500))
    assert {path: many[path] for path in few} == few
    assert all("globalnetworkpolicies/default.f" in path for path in many.keys() - few.keys())


def rows(policies: int, **counted: int) -> counting.Row:
    return counting.row("x", [counted]) | {counting.POLICIES: policies}


def test_only_growth_from_the_second_largest_to_the_largest_counts() -> None:
    few, some, many = rows(100, computed=1, commits=2), rows(1000, computed=5, commits=2), rows(10000, computed=5, commits=3)
    assert few["rendered_chains"] == counting.NOT_COUNTED
    assert counting.growing([few, some, many]) == ["x: commits"]
    assert counting.growing([few, some]) == ["x: computed"]


def test_a_row_holds_the_most_of_all_lines() -> None:
    assert counting.row("x", [{"commits": 2}, {"commits": 4}, {}])["commits"] == 4


def test_every_benchmark_belongs_to_one_group() -> None:
    named = [bench for group in GROUPS.values() for bench in group.benches]
    assert sorted(named) == sorted(BENCHES)


@pytest.mark.parametrize("name", list(GROUPS))
def test_quick_runs_everything_once(name: str) -> None:
    group = GROUPS[name]
    plan = planned(group, only=(), sizes=(), quick=True)
    assert list(plan.values()) == [group.benches]
    assert planned(group, only=("no such",), sizes=(), quick=False) == {}


def test_what_is_asked_for_runs_also_where_it_does_not_by_default() -> None:
    control = GROUPS["control"]
    assert planned(control, only=("drift_repair",), sizes=("large",), quick=False) == {"large": ("drift_repair",)}
    assert planned(control, only=("drift_repair",), sizes=(), quick=False) == {
        "medium": ("drift_repair",),
    }
