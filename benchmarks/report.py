"""Ratios out of what repetitions found, for machines as JSON lines and for people as tables. Pure.

A ratio is the median, within a repetition, of the ratios of what was measured in the same block, when the machine was about
equally busy; given are the least, the median and the largest over all repetitions. The control is the floor held against
itself: when that isn't near 1, the machine was too busy and the run is void.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks import cold_start, converge_quiet
from benchmarks.found import Found

CONTROL_RANGE = (0.9, 1.1)
_AGENT, _FLOOR, _CONTROL = converge_quiet.AGENT, converge_quiet.FLOOR, converge_quiet.CONTROL
Pairs = dict[str, tuple[str, str]]
"""The two times that each ratio is of."""
RATIOS: dict[str, Pairs] = {
    "converge_quiet": {
        **{f"{way}: agent / floor": (f"{_AGENT} {way}", f"{_FLOOR} {way}") for way in ("open", "close")},
        "CPU of a change: agent / floor": (converge_quiet.AGENT_CPU, converge_quiet.FLOOR_CPU),
    },
    "cold_start": {
        "in sync / floor": (cold_start.AGENT, cold_start.FLOOR),
        "enforced / floor": (cold_start.ENFORCED, cold_start.FLOOR),
        "CPU: agent / floor": ("agent: CPU", "floor: CPU"),
    },
}
CONTROLS: dict[str, Pairs] = {
    "converge_quiet": {f"{way}: floor again / floor": (f"{_CONTROL} {way}", f"{_FLOOR} {way}") for way in ("open", "close")},
    "cold_start": {"floor again / floor": (cold_start.CONTROL, cold_start.FLOOR)},
}
PARTS = ("alone: importing", "alone: reading and decoding")
APART = "in sync without imports, reading and decoding / floor"


def _pairs(one: Found, a: str, b: str) -> list[float]:
    """Ratios of what was measured in the same block; of medians where there aren't as many of both."""
    if len(one.times[a]) == len(one.times[b]):
        return [first / second for first, second in zip(one.times[a], one.times[b], strict=True)]
    return [median(one.times[a]) / median(one.times[b])]


@dataclass(frozen=True)
class Result:
    """One benchmark at one size. Times in milliseconds."""

    bench: str
    policies: int
    repetitions: Sequence[Found]

    def _all(self, name: str) -> list[float]:
        return [value for found in self.repetitions for value in found.times.get(name, ())]

    def ratios(self) -> dict[str, list[float]]:
        """Least, median, largest, over repetitions."""
        found: dict[str, list[float]] = {}
        for one in self.repetitions:
            took = {name: median(values) for name, values in one.times.items()}
            for name, (a, b) in RATIOS[self.bench].items():
                found.setdefault(name, []).append(median(_pairs(one, a, b)))
            if self.bench == "cold_start":
                rest = took[cold_start.AGENT] - sum(took[part] for part in PARTS)
                found.setdefault(APART, []).append(rest / took[cold_start.FLOOR])
        return {name: [round(value, 2) for value in (min(r), median(r), max(r))] for name, r in found.items()}

    def controls(self) -> dict[str, float]:
        """The floor held against itself, over all repetitions."""
        return {
            name: round(median(ratio for one in self.repetitions for ratio in _pairs(one, a, b)), 3)
            for name, (a, b) in CONTROLS[self.bench].items()
        }

    @property
    def void(self) -> bool:
        """Whether a control says that nothing can be said."""
        return not all(CONTROL_RANGE[0] <= value <= CONTROL_RANGE[1] for value in self.controls().values())

    def times(self) -> dict[str, list[float]]:
        """Least, median, largest of all, and how many."""
        names = dict.fromkeys(name for found in self.repetitions for name in found.times)
        return {name: [*(round(f(self._all(name)), 2) for f in (min, median, max)), len(self._all(name))] for name in names}

    def other(self) -> dict[str, list[float]]:
        """Each distinct value of what must always be the same; least, median and largest of what varies."""
        found = {}
        for name in dict.fromkeys(name for r in self.repetitions for name in r.other):
            values = sorted(value for r in self.repetitions for value in r.other.get(name, ()))
            found[name] = sorted(set(values)) if len(set(values)) <= 2 else [values[0], median(values), values[-1]]
        return {name: [round(value, 2) for value in values] for name, values in found.items()}

    def line(self, facts: dict[str, object]) -> dict[str, object]:
        """For machines, every sample included."""
        about = {"bench": self.bench, "policies": self.policies, "repetitions": len(self.repetitions), "void": self.void}
        measured = {"ratios": self.ratios(), "controls": self.controls(), "times": self.times(), "other": self.other()}
        samples = [
            {name: [round(value, 2) for value in values] for name, values in one.times.items()} for one in self.repetitions
        ]
        return {**about, **facts, **measured, "samples": samples}

    def text(self) -> str:
        """For people: Markdown."""
        lines = [f"### {self.bench}, {self.policies:,} policies{' (VOID: the control is off)' if self.void else ''}", ""]
        lines += ["| ratio | least | median | largest |", "|---|---|---|---|"]
        lines += [f"| {name} | {a:.2f} | **{b:.2f}** | {c:.2f} |" for name, (a, b, c) in self.ratios().items()]
        lines += [f"| control: {name} | | {value:.2f} | |" for name, value in self.controls().items()]
        lines += ["", "| milliseconds | least | median | largest | samples |", "|---|---|---|---|---|"]
        lines += [f"| {name} | {a:.1f} | {b:.1f} | {c:.1f} | {n} |" for name, (a, b, c, n) in self.times().items()]
        lines += ["", "| counted | |", "|---|---|"]
        lines += [f"| {name} | {' / '.join(f'{value:g}' for value in values)} |" for name, values in self.other().items()]
        return "\n".join([*lines, ""])
