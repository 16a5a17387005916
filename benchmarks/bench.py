"""What a benchmark is, as values: which ratios are made of what it found, what must be near 1, and what is aimed at. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from benchmarks.found import Found

CONNECTIONS = (0.9, 1.1)
PACKETS = (0.97, 1.03)


def p99(values: Sequence[float]) -> float:
    """The 99th percentile; the largest of few."""
    return quantiles(values, n=100)[98] if len(values) >= 100 else max(values)


@dataclass(frozen=True)
class Ratio:
    """`of` to `to`, both samples of one repetition: the median of the ratios of what was measured in the same block.

    `less`: what is taken off both before, so that added costs are compared. `by`: of this of the first to the median of the
    second instead of the blocks' median.
    """

    name: str
    of: str
    to: str
    less: str = ""
    by: Callable[[Sequence[float]], float] | None = None

    def value(self, found: Found) -> float | None:
        """None where there are no samples."""
        top, bottom = found.times.get(self.of, ()), found.times.get(self.to, ())
        if not top or not bottom:
            return None
        off = found.times[self.less] if self.less else ()
        if self.by is not None:
            return self.by(top) / median(bottom)
        if self.less:
            return (median(top) - median(off)) / (median(bottom) - median(off))
        if len(top) == len(bottom):
            return median(a / b for a, b in zip(top, bottom, strict=True))
        return median(top) / median(bottom)


@dataclass(frozen=True)
class Target:
    """The median of a ratio over all repetitions is to be at most this. `sizes`: where it is aimed at; empty: everywhere."""

    ratio: str
    most: float
    sizes: tuple[str, ...] = ()
    below: bool = False


@dataclass(frozen=True)
class Bench:
    """One benchmark. `unit`: of its samples."""

    name: str
    about: str
    ratios: tuple[Ratio, ...] = ()
    controls: tuple[Ratio, ...] = ()
    control_range: tuple[float, float] = CONNECTIONS
    targets: tuple[Target, ...] = ()
    unit: str = "milliseconds"
    grid: bool = False
    """Whether samples are called "what: of whom", which makes a shorter table."""
    at_most: tuple[tuple[str, float], ...] = ()
    """Samples, and the most that is aimed at for their median."""
    limits: tuple[tuple[str, float], ...] = ()
    """What was counted, and the most that is aimed at."""
