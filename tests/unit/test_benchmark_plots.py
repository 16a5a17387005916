"""The benchmarks' pictures: scales, and that each chart is well-formed and shows what it was given."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from benchmarks import converge, plots, svg
from benchmarks.catalogue import BENCHES
from benchmarks.found import Found
from benchmarks.memory import slope
from benchmarks.report import Result
from benchmarks.svg import Scale, scale

NAMESPACE = "{http://www.w3.org/2000/svg}"


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(picture).iter(f"{NAMESPACE}text")]  # noqa: S314 # our own text


def test_a_scale_maps_its_ends_and_its_ticks_lie_within() -> None:
    linear, log = Scale(0, 50, 100, 200), Scale(1, 1000, 200, 100, log=True)
    assert (linear(0), linear(25), linear(50)) == (100, 150, 200)
    assert (log(1), log(1000)) == (200, 100)
    assert log.ticks()[:4] == [1, 2, 5, 10]
    assert linear.ticks() == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize("values", [[0.0], [3.0, 3.0], [1e-3, 1e6], [-2.0, 5.0]])
def test_any_values_have_a_scale(values: list[float]) -> None:
    found = scale(values, 0, 100)
    assert all(-1e-9 <= found(value) <= 100 for value in values)
    assert len(found.ticks()) >= 2


def test_charts_say_what_they_show() -> None:
    drawn = svg.lines("Title <1>", {"a & b": [(1, 1), (10, 3)]}, "x", "y", log_x=True)
    assert {"Title <1>", "a & b", "x", "y"} <= set(texts(drawn))
    assert {"group", "one", "7"} <= set(texts(svg.bars("Bars", {"group": {"one": 7.0, "two": 3.5}}, "ns")))
    beyond = svg.whiskers("Targets", {"met": (0.5, 0.9, 1.1), "missed": (1.0, 2.0, 3.0)}, "times")
    assert {"met", "missed"} <= set(texts(beyond))
    assert svg.COLOURS[0] in beyond
    assert svg.COLOURS[1] in beyond


def test_what_was_measured_is_drawn() -> None:
    times = {f"{who} {way}": [3.0, 4.0] for who in (converge.AGENT, converge.FLOOR) for way in ("open", "close")}
    result = Result(BENCHES["converge_quiet"], "medium", "", [Found(times)])
    drawn = plots.draw([result])
    assert drawn.keys() == {"targets.svg", "converge.svg"}
    assert plots.draw([]) == {}


@pytest.mark.parametrize(("values", "expected"), [([1, 2, 3], 1), ([5, 5, 5], 0), ([3, 1, 2, 0], -0.8)])
def test_the_slope_of_least_squares(values: list[float], expected: float) -> None:
    assert slope(values) == pytest.approx(expected)
