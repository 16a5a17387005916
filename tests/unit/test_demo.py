"""The demo's judgement: what counts as a cell that went as it should."""

from __future__ import annotations

import pytest
from demo.cells import CELLS
from demo.table import right

STEPS = range(1, 8)


@pytest.mark.parametrize(
    ("step", "result", "good"),
    [
        (1, "ok", True),
        (1, "timeout", False),
        (2, "ok", False),
        (2, "timeout", True),
        (2, "denied", True),
        (2, "refused", False),  # a refusal is an answer: the packet was let in
        (2, "closed", False),
        (1, "refused", False),
    ],
)
def test_a_cell_is_right_only_if_it_did_what_its_step_asks(step: int, result: str, good: bool) -> None:
    web = next(cell for cell in CELLS if cell.port == 80 and cell.passes_in == "1")
    assert right(web, step, result) is good


def test_every_step_shows_both_outcomes() -> None:
    assert all(cell.expected(1) for cell in CELLS if not cell.held)
    for step in STEPS[1:]:
        assert {cell.expected(step) for cell in CELLS} == {True, False}


def test_every_step_but_the_last_two_changes_something() -> None:
    for step in STEPS[:4]:
        assert any(cell.expected(step) != cell.expected(step + 1) for cell in CELLS)
    assert [cell.expected(5) for cell in CELLS] == [cell.expected(6) for cell in CELLS] == [cell.expected(7) for cell in CELLS]
