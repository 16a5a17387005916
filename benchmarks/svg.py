"""Drawing by hand: scales with ticks, and charts of lines, bars and whiskers as SVG text. Pure; knows no benchmark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, ROW = 860, 22
MARKED = 12  # so few points are shown as such
INK, FAINT, GRID = "#222222", "#666666", "#dddddd"
COLOURS = ("#1f6fb4", "#d9730d", "#7a7a7a", "#2a9d63", "#8e5bb5", "#b8433f")
Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Values to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = map(math.log10, (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Some round values within."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if len(decades) <= 4 else (1,)
            found = [step * 10.0**decade for decade in decades for step in steps]
            return [value for value in found if self.low <= value <= self.high]
        step = 10 ** math.floor(math.log10((self.high - self.low) or 1.0))
        step /= next(by for by in (1, 2, 5, 10) if (self.high - self.low) / step * by >= 4)
        return [step * n for n in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]


def scale(values: Sequence[float], start: float, end: float, *, log: bool = False) -> Scale:
    """One that all values fit on; a linear one begins at 0."""
    if log:
        return Scale(min(values) / 1.15, max(values) * 1.15, start, end, log=True)
    return Scale(min(0.0, *values), max(values) * 1.05 or 1.0, start, end)


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12, colour: str = INK) -> str:
    """A line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(words)}</text>'


def line(x: float, y: float, to_x: float, to_y: float, *, colour: str = GRID, width: float = 1) -> str:
    """A straight line."""
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    """A filled box."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" fill="{colour}"/>'


def document(height: float, title: str, parts: Sequence[str]) -> str:
    """The whole picture, on white: pages may be dark."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif">'
    body = [rect(0, 0, WIDTH, height, "#ffffff"), text(16, 24, title, size=15), *parts]
    return "\n".join([head, f"<title>{escape(title)}</title>", *body, "</svg>", ""])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"


def _across(axis: Scale, top: float, bottom: float, label: str) -> list[str]:
    """A horizontal axis with its grid."""
    found = [line(axis(tick), top, axis(tick), bottom) for tick in axis.ticks()]
    found += [text(axis(tick), bottom + 16, _number(tick), anchor="middle", size=11, colour=FAINT) for tick in axis.ticks()]
    return [*found, text((axis.start + axis.end) / 2, bottom + 34, label, anchor="middle", size=11, colour=FAINT)]


def _legend(names: Sequence[str], y: float) -> list[str]:
    found, x = [], 16.0
    for name, colour in zip(names, _colours(names), strict=True):
        found += [rect(x, y - 9, 11, 11, colour), text(x + 16, y, name, size=11)]
        x += 34 + 6.2 * len(name)
    return found


def _colours(names: Sequence[str]) -> list[str]:
    return [COLOURS[at % len(COLOURS)] for at in range(len(names))]


def lines(
    title: str, series: Mapping[str, Sequence[Point]], across: str, up: str, *, log_x: bool = False, log_y: bool = False
) -> str:
    """Each series a line."""
    left, right, top, bottom = 70, WIDTH - 24, 76, 350
    x = scale([p for s in series.values() for p, _ in s], left, right, log=log_x)
    y = scale([p for s in series.values() for _, p in s], bottom, top, log=log_y)
    parts = [*_across(x, top, bottom, across), *_legend(list(series), 46)]
    for tick in y.ticks():
        parts += [
            line(left, y(tick), right, y(tick)),
            text(left - 8, y(tick) + 4, _number(tick), anchor="end", size=11, colour=FAINT),
        ]
    parts.append(text(left, top - 4, up, size=11, colour=FAINT))
    for points, colour in zip(series.values(), _colours(list(series)), strict=True):
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        if len(points) <= MARKED:
            parts += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.5" fill="{colour}"/>' for a, b in points]
    return document(bottom + 50, title, parts)


def bars(title: str, groups: Mapping[str, Mapping[str, float]], across: str) -> str:
    """Horizontal bars, several in a group, one colour for each name."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    axis = scale([value for group in groups.values() for value in group.values()], 290, WIDTH - 70)
    parts, y = [], 64.0
    for label, group in groups.items():
        parts.append(text(280, y + ROW * len(group) / 2, label, anchor="end"))
        for name, value in group.items():
            colour = COLOURS[names.index(name) % len(COLOURS)]
            parts += [rect(axis.start, y + 3, axis(value) - axis.start, ROW - 8, colour)]
            parts += [text(axis(value) + 6, y + 14, _number(round(value, 2)), size=11, colour=FAINT)]
            y += ROW - 4
        y += 12
    return document(y + 44, title, [*_across(axis, 58, y, across), *_legend(names, 46), *parts])


def whiskers(title: str, rows: Mapping[str, tuple[float, float, float]], across: str, *, mark: float = 1.0) -> str:
    """For each row least, median and largest on a logarithmic axis, with a line at `mark`: blue up to it, orange beyond."""
    axis = scale([mark, *(max(value, 0.01) for row in rows.values() for value in row)], 430, WIDTH - 30, log=True)
    parts, y = [], 52.0
    for label, row in rows.items():
        low, middle, high = (axis(max(value, 0.01)) for value in row)
        colour = COLOURS[0] if row[1] <= mark else COLOURS[1]
        at = y + ROW / 2
        parts += [text(420, at + 4, label, anchor="end", size=11), line(low, at, high, at, colour=colour, width=2)]
        parts += [rect(middle - 4, at - 4, 8, 8, colour)]
        y += ROW
    return document(
        y + 44, title, [*_across(axis, 46, y, across), line(axis(mark), 46, axis(mark), y, colour=INK, width=1.5), *parts]
    )
