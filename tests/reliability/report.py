"""Puts the figures that tests have left in HOSTWARD_FIGURES into docs/reliability.json, and the table into docs/reliability.md.

`python -m tests.reliability.report` after `make soak`; without a file of figures it only writes the table anew. Figures of a
scenario and form that ran replace those of before, the others stay.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.lab.figures import FILE
from tests.reliability.catalogue import CATALOGUE, Scenario

ROOT = Path(__file__).parents[2]
STORE, PAGE = ROOT / "docs/reliability.json", ROOT / "docs/reliability.md"
BEGIN, END = "<!-- figures: made by `make soak` -->", "<!-- end of figures -->"
COMBINED = {"max": max, "min": min, "sum": sum}
FORMS = ("full", "short")
Results = dict[str, dict[str, Any]]


def collected(lines: Iterable[str]) -> Results:
    """Figures by scenario and form, those of several runs combined as each says."""
    found: Results = {}
    for line in map(json.loads, lines):
        entry = found.setdefault(line["scenario"], {}).setdefault(line["form"], {"figures": {}, "date": "", "load": 0.0})
        entry |= {"date": max(entry["date"], line["date"]), "load": max(entry["load"], line["load"])}
        entry |= {"kernel": line["kernel"], "cores": line["cores"]}
        figures, value = entry["figures"], line["value"]
        if line["figure"] in figures:
            value = COMBINED[line["how"]]((figures[line["figure"]]["value"], value))
        figures[line["figure"]] = {"value": value, "unit": line["unit"]}
    return found


def merged(old: Results, new: Results) -> Results:
    """The new figures, and the old ones of what didn't run."""
    return {key: {**old.get(key, {}), **new.get(key, {})} for key in sorted({*old, *new})}


def table(results: Mapping[str, Any], catalogue: Iterable[Scenario] = CATALOGUE) -> str:
    """The rows of the page."""
    rows = ["| id | what happens | gate | reached | tests |", "|---|---|---|---|---|"]
    for scenario in catalogue:
        links = ", ".join(f"[{name.partition('::')[2]}](../tests/{name.partition('::')[0]})" for name in scenario.tests)
        what = scenario.what + (f" ({scenario.away})" if scenario.away else "")
        rows.append(f"| {scenario.id} | {what} | {scenario.gate} | {reached(results.get(scenario.id, {}))} | {links} |")
    return "\n".join(rows)


def reached(forms: Mapping[str, Any]) -> str:
    """The figures of the fullest form that was run."""
    for form in FORMS:
        if form in forms:
            entry = forms[form]
            texts = [f"{name} {number(figure['value'])} {figure['unit']}".rstrip() for name, figure in entry["figures"].items()]
            return f"{'; '.join(texts)}. *{form}, {entry['date']}, load {entry['load']:g}*"
    return "yes or no: `make test`"


def number(value: float) -> str:
    """A figure as people read it."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


def page(text: str, rows: str) -> str:
    """The page with these rows."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{rows}\n{END}{tail}"


def main() -> None:
    """See above."""
    results: Results = json.loads(STORE.read_text(encoding="utf-8")) if STORE.exists() else {}
    file = Path(os.environ.get(FILE, ROOT / "build/figures.jsonl"))
    if file.exists():
        results = merged(results, collected(file.read_text(encoding="utf-8").splitlines()))
        STORE.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), table(results)), encoding="utf-8")


if __name__ == "__main__":
    main()
