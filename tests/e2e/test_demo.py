"""`make demo` as a whole; and that it does fail when enforcement does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from demo.cells import Cell
from demo.story import Story

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]


def test_the_demo_succeeds() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo"], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every attempt went as it should" in done.stdout


def test_the_demo_notices_what_is_not_enforced(monkeypatch: pytest.MonkeyPatch) -> None:
    with Story() as story:
        # Step 2's expectations with nothing enforced: every cell that should be blocked is open, and no other is complained of.
        rows = story.attempt(2)
        monkeypatch.setattr(story, "attempt", lambda step: rows)
        story.look(2)
    blocked = [(cell, family) for cell, row in rows.items() for family in (0, 1) if row[family] and not cell.expected(2)]
    assert len(story.wrong) == len(blocked) > 20
    assert all(isinstance(cell, Cell) and rows[cell][family] == "ok" for cell, family in blocked)
