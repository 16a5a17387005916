"""What a repetition found, as plain data that goes from its process to the one that reports."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Found:
    """Milliseconds by what took them; and what isn't a time by its name."""

    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    other: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
