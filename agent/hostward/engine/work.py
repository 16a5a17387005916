"""One apply as a value: the states that it is between, and what finding the new one took. Pure; any thread."""

from __future__ import annotations

from dataclasses import dataclass

from hostward.model.resolved import Changed, Resolved
from hostward.render.ruleset import Ruleset


@dataclass(frozen=True, slots=True)
class Work:
    """What an apply made true: the states, what differs from the last time, and how much was computed and rendered for it."""

    resolved: Resolved
    desired: Ruleset
    changed: Changed
    computed: int
    rendered: int
