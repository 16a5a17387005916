"""What benchmarks store is wholly understood by the agent, and what they report follows from what they found."""

from __future__ import annotations

import json

import pytest
from benchmarks import cold_start, converge_quiet, workload
from benchmarks.found import Found
from benchmarks.report import APART, Result

from hostward.model import keys
from hostward.model.decode import decode


@pytest.mark.parametrize("policies", [2, 10, 1003])
def test_everything_stored_is_understood(policies: int) -> None:
    stored = dict(workload.documents(policies))
    for path, document in stored.items():
        key = keys.parse(path)
        assert key is not None, path
        assert not decode(key, json.dumps(document).encode()).problems, path
    assert sum("globalnetworkpolicies" in path for path in stored) == policies
    path, opened = workload.changed_policy(policies, opened=True)
    assert stored[path] == workload.changed_policy(policies, opened=False)[1] != opened


def converge(agent: float, floor: float, control: float) -> Found:
    names = {converge_quiet.AGENT: agent, converge_quiet.FLOOR: floor, converge_quiet.CONTROL: control}
    times = {f"{name} {way}": [value, value, 99] for name, value in names.items() for way in ("open", "close")}
    return Found(times | {converge_quiet.AGENT_CPU: [agent], converge_quiet.FLOOR_CPU: [floor, floor]}, {"commits": [2]})


def test_ratios_are_of_the_same_block_and_the_same_repetition() -> None:
    result = Result("converge_quiet", 10, [converge(20, 10, 10), converge(60, 20, 20), converge(40, 10, 10)])
    assert {ratio: found for ratio, found in result.ratios().items() if "CPU" not in ratio} == {
        f"{way}: agent / floor": [2.0, 3.0, 4.0] for way in ("open", "close")
    }
    assert result.ratios()["CPU of a change: agent / floor"] == [2.0, 3.0, 4.0]
    assert not result.void
    assert "VOID" not in result.text()
    drifting = Found(
        {name: [value * busy for busy in (1, 2, 4, 9)] for name, (value, *_) in converge(20, 10, 10).times.items()}, {}
    )
    drifting.times[f"{converge_quiet.AGENT} open"][3] = 1.0
    assert Result("converge_quiet", 10, [drifting]).ratios()["open: agent / floor"] == [2.0, 2.0, 2.0]
    assert result.other() == {"commits": [2]}


@pytest.mark.parametrize(("control", "void"), [(11.5, True), (8.5, True), (10.5, False)])
def test_a_run_whose_control_is_off_is_void(control: float, void: bool) -> None:
    result = Result("converge_quiet", 10, [converge(20, 10, control)])
    assert result.void is void
    assert ("VOID" in result.text()) is void
    assert result.line({"kernel": "x"})["void"] is void


def test_imports_and_decoding_are_taken_off() -> None:
    times = {cold_start.AGENT: 1000.0, cold_start.ENFORCED: 900.0, cold_start.FLOOR: 100.0, cold_start.CONTROL: 100.0}
    parts = {"alone: importing": 300.0, "alone: reading and decoding": 200.0, "agent: CPU": 500.0, "floor: CPU": 50.0}
    found = Found({name: [value] for name, value in (times | parts).items()}, {})
    assert Result("cold_start", 10, [found]).ratios()[APART] == [5.0, 5.0, 5.0]
