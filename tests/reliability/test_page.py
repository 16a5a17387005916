"""docs/reliability.md says what the catalogue and the kept figures say, and every test that it names is there."""

from __future__ import annotations

import ast
import json

import pytest

from tests.reliability.catalogue import CATALOGUE, Scenario
from tests.reliability.report import PAGE, ROOT, STORE, collected, merged, page, reached, table

LINE = {
    "scenario": "R1",
    "form": "short",
    "unit": "s",
    "how": "max",
    "date": "2026-01-02",
    "load": 1.5,
    "kernel": "6",
    "cores": 2,
}


def line(**fields: object) -> str:
    return json.dumps(LINE | fields)


@pytest.mark.parametrize("scenario", CATALOGUE, ids=lambda scenario: scenario.id)
def test_its_tests_are_there(scenario: Scenario) -> None:
    for name in scenario.tests:
        file, _, function = name.partition("::")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_the_page_is_what_they_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text, table(json.loads(STORE.read_text(encoding="utf-8")))), "run python -m tests.reliability.report"


def test_every_kept_figure_is_of_a_scenario() -> None:
    assert set(json.loads(STORE.read_text(encoding="utf-8"))) <= {scenario.id for scenario in CATALOGUE}


def test_figures_of_several_runs_are_combined() -> None:
    found = collected(
        [
            line(figure="slowest", value=2.0),
            line(figure="slowest", value=1.0),
            line(figure="kills", value=100, how="sum", unit="", load=3.0),
            line(figure="kills", value=100, how="sum", unit=""),
        ]
    )
    entry = found["R1"]["short"]
    assert {name: figure["value"] for name, figure in entry["figures"].items()} == {"slowest": 2.0, "kills": 200}
    assert reached(found["R1"]) == "slowest 2 s; kills 200. *short, 2026-01-02, load 3*"


def test_what_did_not_run_stays_and_the_full_form_is_shown() -> None:
    old = collected([line(form="full", figure="back after", value=0.25)])
    both = merged(old, collected([line(figure="back after", value=0.5)]))
    assert set(both["R1"]) == {"short", "full"}
    assert reached(both["R1"]).startswith("back after 0.25 s. *full")
    assert reached({}) == "yes or no: `make test`"
