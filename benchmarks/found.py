"""What a repetition found, as plain data that goes from its process to the one that reports."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

Row = dict[str, object]


@dataclass
class Found:
    """Samples of what was measured, by what it is; what was counted; and whole rows where each counts by itself."""

    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    other: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    rows: list[Row] = field(default_factory=list)
