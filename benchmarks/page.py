"""Where results are kept: benchmarks/results.jsonl, the section of docs/performance.md between its markers, and the plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.catalogue import BENCHES
from benchmarks.found import Found
from benchmarks.report import Result
from benchmarks.sizes import SIZES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.jsonl"
PAGE = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "performance"
RESULT_KEYS = {"bench", "size", "repetitions", "void", "ratios", "controls", "times", "other", "targets", "rows", "samples"}
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


@dataclass(frozen=True)
class Measured:
    """A result, and the machine and the moment that it is of."""

    result: Result
    facts: Mapping[str, object]


def kept(results: Sequence[Result]) -> list[Measured]:
    """What the files hold of other benchmarks and sizes than these, in its order."""
    now = {(result.bench.name, result.size) for result in results}
    lines = map(json.loads, RESULTS.read_text(encoding="utf-8").splitlines()) if RESULTS.exists() else ()
    return [_measured(line) for line in lines if (line["bench"], line["size"]) not in now and line["bench"] in BENCHES]


def _measured(line: dict[str, Any]) -> Measured:
    repetitions = [Found(times) for times in line["samples"]]
    repetitions[0] = Found(line["samples"][0], line["other"], line["rows"])  # of all of them: they are counted together
    about = SIZES[line["size"]].text if line["size"] else ""
    facts = {name: value for name, value in line.items() if name not in RESULT_KEYS}
    return Measured(Result(BENCHES[line["bench"]], line["size"], about, repetitions), facts)


def write(found: Sequence[Measured], plots: Mapping[str, str]) -> None:
    """All of it. `plots`: SVG by file name."""
    RESULTS.write_text("".join(json.dumps(one.result.line(dict(one.facts))) + "\n" for one in found), encoding="utf-8")
    PLOTS.mkdir(exist_ok=True)
    for name, svg in plots.items():
        (PLOTS / name).write_text(svg, encoding="utf-8")
    PAGE.write_text(section(PAGE.read_text(encoding="utf-8"), found, tuple(plots)), encoding="utf-8")


def section(page: str, found: Sequence[Measured], plots: Sequence[str]) -> str:
    """The page with its section made anew. Where there was more than one run, it says what is of which."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    results = [one.result for one in found]
    runs: dict[str, list[str]] = {}
    for one in found:
        about = ", ".join(f"{name} {value}" for name, value in one.facts.items())
        runs.setdefault(about, []).append(f"{one.result.bench.name} {one.result.size}".strip())
    first = max(runs, key=lambda about: len(runs[about]))
    text = [BEGIN, "", f"Written by `make bench`: {first}.", ""]
    text += [f"Measured again by themselves, {about}: {', '.join(which)}.\n" for about, which in runs.items() if about != first]
    text += summary(results)
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
