"""Where results are kept: benchmarks/results.jsonl, the section of docs/performance.md between its markers, and the plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.report import Result

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.jsonl"
PAGE = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "performance"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def write(results: Sequence[Result], plots: Mapping[str, str], facts: dict[str, object]) -> None:
    """All of it. `plots`: SVG by file name."""
    RESULTS.write_text("".join(json.dumps(result.line(facts)) + "\n" for result in results), encoding="utf-8")
    PLOTS.mkdir(exist_ok=True)
    for name, svg in plots.items():
        (PLOTS / name).write_text(svg, encoding="utf-8")
    PAGE.write_text(section(PAGE.read_text(encoding="utf-8"), results, tuple(plots), facts), encoding="utf-8")


def section(page: str, results: Sequence[Result], plots: Sequence[str], facts: dict[str, object]) -> str:
    """The page with its section made anew."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    about = ", ".join(f"{name} {value}" for name, value in facts.items())
    text = [BEGIN, "", f"Written by `make bench`: {about}.", "", *summary(results)]
    text += [f"![{name.removesuffix('.svg')}](performance/{name})\n" for name in plots]
    return head + "\n".join([*text, *(result.text() for result in results), END]) + tail


def summary(results: Sequence[Result]) -> list[str]:
    """Every target in one table."""
    lines = ["| benchmark | size | target | |", "|---|---|---|---|"]
    for result in results:
        for text, reached in result.targets():
            verdict = "void" if result.void else "reached" if reached else "**not reached**"
            lines.append(f"| {result.bench.name} | {result.size} | {text} | {verdict} |")
    return [*lines, ""]
