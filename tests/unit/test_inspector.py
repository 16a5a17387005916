"""When pieces of looks may come before changes that wait."""

from __future__ import annotations

import time
from itertools import islice

import pytest

from hostward.engine.inspector import PATIENCE, _pieces
from hostward.engine.schedule import Checks

FOREVER = 3600.0


@pytest.mark.parametrize(
    ("late", "hurry", "pieces"),
    [(-FOREVER, False, 0), (0.0, False, 3), (0.0, True, 0), (PATIENCE + FOREVER, True, 1), (PATIENCE + FOREVER, False, 3)],
)
def test_a_look_waits_for_changes_but_not_without_end(late: float, hurry: bool, pieces: int) -> None:
    when = Checks(1.0, due=time.monotonic() - late)
    assert len(list(islice(_pieces(lambda: when.due, when, lambda: hurry), 3))) == pieces


def test_a_change_that_comes_waits_for_one_piece() -> None:
    when, waiting = Checks(1.0, due=time.monotonic()), iter([False, False, True])
    assert len(list(_pieces(lambda: when.due, when, lambda: next(waiting)))) == 2
