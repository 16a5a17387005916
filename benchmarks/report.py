"""Ratios out of what repetitions found, for machines as JSON lines and for people as tables. Pure.

Given are the least, the median and the largest over all repetitions. The control is the floor (or the empty router) held
against itself: when that isn't near 1, the machine was too busy and the run is void.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.bench import Bench, Target
from benchmarks.found import Found, Row

MANY = 8  # controls that are told one by one


def three(values: Sequence[float]) -> list[float]:
    """Least, median, largest."""
    return [round(value, 3) for value in (min(values), median(values), max(values))]


@dataclass(frozen=True)
class Result:
    """One benchmark at one size."""

    bench: Bench
    size: str
    about: str
    repetitions: Sequence[Found]

    def samples(self, name: str) -> list[float]:
        """Of all repetitions."""
        return [value for found in self.repetitions for value in found.times.get(name, ())]

    def ratios(self) -> dict[str, list[float]]:
        """Least, median, largest, over repetitions."""
        found = {}
        for ratio in self.bench.ratios:
            values = [value for one in self.repetitions if (value := ratio.value(one)) is not None]
            if values:
                found[ratio.name] = three(values)
        return found

    def controls(self) -> dict[str, float]:
        """What should be 1: the median over all repetitions."""
        found = {}
        for ratio in self.bench.controls:
            values = [value for one in self.repetitions if (value := ratio.value(one)) is not None]
            if values:
                found[ratio.name] = round(median(values), 3)
        return found

    @property
    def void(self) -> bool:
        """Whether nothing can be said: a control is off, or something costs less than nothing."""
        least, most = self.bench.control_range
        off = not all(least <= value <= most for value in self.controls().values())
        return off or any(middle < 0 for _, middle, _ in self.ratios().values())

    def targets(self) -> list[tuple[str, bool]]:
        """What was aimed at here, and whether it was reached."""
        found, ratios, counted = [], self.ratios(), self.other()
        for target in self.bench.targets:
            if self._is_here(target) and target.ratio in ratios:
                value = ratios[target.ratio][1]
                text = f"{target.ratio}: {value:.2f}, aimed at {'below' if target.below else 'at most'} {target.most:g}"
                found.append((text, value < target.most if target.below else value <= target.most))
        for name, most in self.bench.at_most:
            if values := self.samples(name):
                value = median(values)
                found.append((f"{name}: {value:.2f} {self.bench.unit}, aimed at at most {most:g}", value <= most))
        for name, most in self.bench.limits:
            if name in counted:
                found.append((f"{name}: {counted[name][-1]:g}, aimed at at most {most:g}", counted[name][-1] <= most))
        return found

    def _is_here(self, target: Target) -> bool:
        return not target.sizes or self.size in target.sizes

    def times(self) -> dict[str, list[float]]:
        """Least, median, largest of all, and how many."""
        names = dict.fromkeys(name for found in self.repetitions for name in found.times)
        return {name: [*three(self.samples(name)), len(self.samples(name))] for name in names if self.samples(name)}

    def other(self) -> dict[str, list[float]]:
        """Each distinct value of what must always be the same; least, median and largest of what varies."""
        found = {}
        for name in dict.fromkeys(name for r in self.repetitions for name in r.other):
            values = sorted(value for r in self.repetitions for value in r.other.get(name, ()))
            found[name] = sorted(set(values)) if len(set(values)) <= 2 else three(values)
        return {name: [round(value, 2) for value in values] for name, values in found.items()}

    def rows(self) -> list[Row]:
        """What counts by itself, of all repetitions."""
        return [row for found in self.repetitions for row in found.rows]

    def line(self, facts: dict[str, object]) -> dict[str, object]:
        """For machines, every sample included."""
        about = {"bench": self.bench.name, "size": self.size, "repetitions": len(self.repetitions), "void": self.void}
        measured = {"ratios": self.ratios(), "controls": self.controls(), "times": self.times(), "other": self.other()}
        aims = [{"target": text, "reached": reached} for text, reached in self.targets()]
        samples = [
            {name: [round(value, 2) for value in values] for name, values in one.times.items()} for one in self.repetitions
        ]
        return {**about, **facts, **measured, "targets": aims, "rows": self.rows(), "samples": samples}

    def text(self) -> str:
        """For people: Markdown."""
        void = " (VOID: the machine was too busy)" if self.void else ""
        title = ", ".join(filter(None, (self.bench.name, self.size)))
        about = ". ".join(filter(None, (self.bench.about[0].upper() + self.bench.about[1:], self.about)))
        lines = [f"### {title}{void}", "", f"{about}.", ""]
        lines += [f"- {'reached' if reached else '**not reached**'}: {text}" for text, reached in self.targets()]
        lines += [""] if self.targets() else []
        ratios, controls = self.ratios(), self.controls()
        if ratios or controls:
            lines += ["| ratio | least | median | largest |", "|---|---|---|---|"]
            lines += [f"| {name} | {a:.2f} | **{b:.2f}** | {c:.2f} |" for name, (a, b, c) in ratios.items()]
            if len(controls) > MANY:
                a, b, c = three(list(controls.values()))
                lines += [f"| {len(controls)} controls: empty again / empty | {a:.3f} | {b:.3f} | {c:.3f} |"]
            else:
                lines += [f"| control: {name} | | {value:.3f} | |" for name, value in controls.items()]
            lines += [""]
        if self.bench.grid:
            lines += self._grid()
        elif times := self.times():
            lines += [f"| {self.bench.unit} | least | median | largest | samples |", "|---|---|---|---|---|"]
            lines += [f"| {name} | {a:,.2f} | {b:,.2f} | {c:,.2f} | {n} |" for name, (a, b, c, n) in times.items()]
            lines += [""]
        if counted := self.other():
            lines += ["| counted | |", "|---|---|"]
            lines += [f"| {name} | {' / '.join(f'{value:,g}' for value in values)} |" for name, values in counted.items()]
            lines += [""]
        return "\n".join([*lines, *table(self.rows())])

    def _grid(self) -> list[str]:
        """Samples called "what: of whom" as a table of medians, with the least and the largest of the repetitions'."""
        rows: dict[str, Row] = {}
        for name in self.times():
            what, _, whom = name.rpartition(": ")
            least, middle, most = three([median(found.times[name]) for found in self.repetitions if found.times.get(name)])
            spread = f" ({least:,.0f} to {most:,.0f})" if len(self.repetitions) > 1 else ""
            rows.setdefault(what, {self.bench.unit: what})[whom] = f"{middle:,.0f}{spread}"
        return table(list(rows.values()))


def table(rows: Sequence[Row]) -> list[str]:
    """Rows as a Markdown table; a column that a row has not is left empty."""
    if not rows:
        return []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(_cell(row.get(name, '')) for name in columns)} |" for row in rows]
    return [*lines, ""]


def _cell(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
