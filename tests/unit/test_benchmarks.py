"""What benchmarks store is wholly understood by the agent, and what they report follows from what they found."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from benchmarks import changes, page, workload
from benchmarks.bench import Bench, Ratio, Target, p99
from benchmarks.found import Found
from benchmarks.report import Result, table
from benchmarks.sizes import SIZES, TINY

from hostward.model import keys
from hostward.model.decode import decode

SMALL = SIZES["small"]


def assert_understood(path: str, document: dict[str, object]) -> None:
    key = keys.parse(path)
    assert key is not None, path
    assert not decode(key, json.dumps(document).encode()).problems, path


@pytest.mark.parametrize("name", ["tiny", "small", "medium"])
def test_everything_stored_is_understood_and_there_is_as_much_as_is_said(name: str) -> None:
    size = SIZES[name]
    stored = dict(workload.documents(size))
    for path, document in stored.items():
        assert_understood(path, document)
    kinds = Counter(document["kind"] for document in stored.values())
    assert kinds["GlobalNetworkPolicy"] + kinds["NetworkPolicy"] == size.policies
    assert (kinds["HostEndpoint"], kinds["WorkloadEndpoint"]) == (size.hosts, size.workloads)
    nets = [document["spec"]["nets"] for document in stored.values() if document["kind"] == "GlobalNetworkSet"]
    assert sum(map(len, nets)) == len({net for some in nets for net in some}) == size.members
    path, opened = workload.changed_policy(opened=True)
    assert stored[path] == workload.changed_policy(opened=False)[1] != opened
    path, opened = workload.member_set(size, opened=True)
    assert len(opened["spec"]["nets"]) == len(stored[path]["spec"]["nets"]) + 1


@pytest.mark.parametrize("name", list(SIZES))
def test_workloads_have_interfaces_of_their_own(name: str) -> None:
    size = SIZES[name]
    specs = [document["spec"] for _, document in workload.endpoints(size) if document["kind"] == "WorkloadEndpoint"]
    assert len({spec["interfaceName"] for spec in specs}) == size.workloads
    assert len({address for spec in specs for address in spec["ipNetworks"]}) == 2 * size.workloads


@pytest.mark.parametrize("kind", changes.KINDS)
def test_a_change_is_understood_and_taken_back_later(kind: str) -> None:
    stored, wide = dict(workload.documents(SMALL)), changes.window(SMALL, kind)
    for serial in range(0, 6 * wide, 2 * wide):
        (path, made), (again, back) = changes.of(SMALL, kind, serial), changes.of(SMALL, kind, serial + wide)
        assert path == again
        assert made is not None
        assert_understood(path, made)
        assert back == stored.get(path) != made


def test_random_changes_are_always_the_same() -> None:
    first, again = (list(islice(changes.mixed(TINY), 50)) for _ in range(2))
    assert first == again
    assert len({path for path, _ in first}) > 5


BENCH = Bench(
    "one",
    "about",
    (Ratio("a / b", "a", "b"), Ratio("a's p99 / b", "a", "b", by=p99), Ratio("added", "a", "b", less="zero")),
    (Ratio("b again / b", "c", "b"),),
    targets=(Target("a / b", 3.0), Target("added", 1.0, ("large",))),
    limits=(("commits", 2),),
)


def found(a: list[float], b: list[float], c: list[float]) -> Found:
    return Found({"a": a, "b": b, "c": c, "zero": [1.0]}, {"commits": [2, 2]})


def test_ratios_are_of_the_same_block_and_the_same_repetition() -> None:
    busy = [1, 2, 4, 9]
    drifting = found([20 * one for one in busy[:3]] + [1], [10.0 * one for one in busy], [10.0 * one for one in busy])
    result = Result(BENCH, "small", "", [found([20, 20], [10, 10], [10, 10]), found([60], [20], [20]), drifting])
    assert result.ratios()["a / b"] == [2.0, 2.0, 3.0]
    assert result.ratios()["added"][2] == round(59 / 19, 3)
    assert result.ratios()["a's p99 / b"] == [2.0, 2.667, 3.0]
    assert not result.void
    assert "VOID" not in result.text()
    assert result.other() == {"commits": [2]}
    assert result.targets() == [("a / b: 2.00, aimed at at most 3", True), ("commits: 2, aimed at at most 2", True)]


def test_what_was_not_measured_is_left_out() -> None:
    result = Result(BENCH, "large", "", [Found({"a": [1.0]})])
    assert (result.ratios(), result.controls(), result.targets()) == ({}, {}, [])
    assert not result.void


@pytest.mark.parametrize(("control", "void"), [(11.5, True), (8.5, True), (10.5, False)])
def test_a_run_whose_control_is_off_is_void(control: float, void: bool) -> None:
    result = Result(BENCH, "small", "", [found([20], [10], [control])])
    assert result.void is void
    assert ("VOID" in result.text()) is void
    assert ("| void |" in "\n".join(page.summary([result]))) is void
    assert result.line({"kernel": "x"})["void"] is void


def test_a_run_in_which_something_costs_less_than_nothing_is_void() -> None:
    assert not Result(BENCH, "small", "", [found([-20], [10], [10]), found([20], [10], [10]), found([20], [10], [10])]).void
    assert Result(BENCH, "small", "", [found([-20], [10], [10]), found([-20], [10], [10]), found([20], [10], [10])]).void


def test_the_page_keeps_everything_around_its_section() -> None:
    old = f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n"
    new = page.section(old, [page.Measured(Result(BENCH, "small", "", [found([20], [10], [10])]), {"kernel": "6"})], ["x.svg"])
    assert new.startswith(f"before\n{page.BEGIN}\n")
    assert new.endswith(f"{page.END}\nafter\n")
    assert "old" not in new
    assert "![x](performance/x.svg)" in new


def test_a_grid_shows_who_paid_what() -> None:
    bench = Bench("grid", "about", unit="ns", grid=True)
    found = [Found({"new: ours": [3.0, 5.0], "new: optimum": [2.0]}), Found({"new: ours": [6.0]})]
    assert "| new | 5 (4 to 6) | 2 (2 to 2) |" in Result(bench, "small", "", found).text()


def test_a_table_has_a_column_for_all_that_any_row_has() -> None:
    assert table([{"a": 1000, "b": 0.5}, {"b": "x", "c": 2}]) == [
        "| a | b | c |",
        "|---|---|---|",
        "| 1,000 | 0.5 |  |",
        "|  | x | 2 |",
        "",
    ]


def test_results_of_other_runs_are_kept_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, other = "converge_quiet", "rss"
    monkeypatch.setattr(page, "RESULTS", tmp_path / "results.jsonl")
    monkeypatch.setitem(page.BENCHES, name, BENCH)
    assert page.kept([]) == []
    result = Result(BENCH, "small", SMALL.text, [found([20], [10], [10]), found([24], [10], [10])])
    result.repetitions[0].other["commits"] = [2, 2]
    result.repetitions[1].rows.append({"a": 1})
    line = result.line({"kernel": "6"}) | {"bench": name}
    page.RESULTS.write_text(json.dumps(line) + "\n")
    (again,) = page.kept([Result(page.BENCHES[other], "small", "", [])])
    assert again.facts == {"kernel": "6"}
    assert again.result.text() == result.text()
    assert again.result.line({}) == result.line({})
