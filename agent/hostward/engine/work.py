"""One apply as a value: the states that it is between, and what finding the new one took. Pure; any thread."""

from __future__ import annotations

from msgspec import Struct

from hostward.model.resolved import Changed, Resolved
from hostward.render.ruleset import Ruleset


class Work(Struct, frozen=True):
    """What an apply made true: the states, what differs from the last time, and how much was computed and rendered for it."""

    resolved: Resolved
    desired: Ruleset
    changed: Changed
    computed: int
    rendered: int
