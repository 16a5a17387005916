"""Figures that a test reached, beside the gate that it holds: printed, and kept for docs/reliability.md where `make soak` asks.

A scenario of the catalogue (`tests/reliability/catalogue.py`) has a short form in `make test` and a full one, marked `soak`.
The full form is held to the gate itself, the short one to `SLACK` times as much: it runs beside anything, on any machine.
Knows nothing of Hostward.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

FILE = "HOSTWARD_FIGURES"
"""The environment variable that names the file which figures are appended to, one JSON object a line."""
SLACK = 6.0
How = Literal["max", "min", "sum"]


@dataclass(frozen=True)
class Figures:
    """What one test tells. `full`: it runs a scenario's full form."""

    test: str
    full: bool

    def tell(self, scenario: str, figure: str, value: float, unit: str = "", how: How = "max") -> None:
        """Keeps a figure; `how` says what counts of several runs: the largest, the smallest, or all together."""
        print(f"{scenario} {figure}: {round(value, 4):g} {unit}".rstrip())
        if not os.environ.get(FILE):
            return
        line = {
            "scenario": scenario,
            "form": "full" if self.full else "short",
            "figure": figure,
            "value": round(value, 4),
            "unit": unit,
            "how": how,
            "test": self.test,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "load": round(os.getloadavg()[0], 1),
            "kernel": platform.release(),
            "cores": os.cpu_count(),
        }
        path = Path(os.environ[FILE])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def below(self, scenario: str, figure: str, value: float, limit: float, unit: str = "s") -> None:
        """Keeps a figure and holds it to its gate."""
        self.tell(scenario, figure, value, unit)
        allowed = limit if self.full else limit * SLACK
        assert value < allowed, f"{scenario}: {figure} is {value:g} {unit}, not below {allowed:g}"


def sizes(name: str, *, short: Any, full: Any, timeout: float = 900) -> Callable[[Any], Any]:
    """Parametrises a test by what makes its short form short and its full form full."""
    marks = [pytest.mark.soak, pytest.mark.timeout(timeout)]
    return pytest.mark.parametrize(name, [pytest.param(short, id="short"), pytest.param(full, id="full", marks=marks)])


def percentile(values: list[float], share: float) -> float:
    """The value that this share of all are not above."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


__all__ = ["Figures", "percentile", "sizes"]
