"""In which order writes are carried out, and when something that failed is tried again. Values and a clock; one thread."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from msgspec import Struct

from hostward.controller.items import Decision, Item, Write
from hostward.controller.owners import SLICE

FIRST: Final = 1.0  # seconds
LAST: Final = 60.0
MANY: Final = 10
"""Of how many objects of a kind it is worth a warning that they all go at once."""
_ORDER: Final = ("Tier", "Profile", SLICE, "NetworkPolicy", "GlobalNetworkPolicy", "WorkloadEndpoint", "Node", "HostEndpoint")
_RANKS: Final = {kind: rank for rank, kind in enumerate(_ORDER)}


class Task(NamedTuple):
    """A write, and the item that wants it."""

    item: Item
    write: Write


def ordered(decisions: Mapping[Item, Decision]) -> list[Task]:
    """The writes of a round: what others refer to is made first and removed last, so that policies stand before endpoints."""
    tasks = [Task(item, write) for item, decision in decisions.items() for write in decision.writes]
    made = [task for task in tasks if task.write.document is not None]
    removed = [task for task in tasks if task.write.document is None]
    return [
        *sorted(made, key=lambda task: (_RANKS[task.write.key.kind], task.write.key)),
        *sorted(removed, key=lambda task: (-_RANKS[task.write.key.kind], task.write.key)),
    ]


def emptied(tasks: Iterable[Task], listed: Callable[[str], int]) -> dict[str, int]:
    """The kinds of Kubernetes of which nothing is left, by `listed`, while many copies are removed; and how many those are."""
    removed: dict[str, int] = {}
    for task in tasks:
        if task.write.document is None:
            removed[task.item.kind] = removed.get(task.item.kind, 0) + 1
    return {kind: count for kind, count in removed.items() if count > MANY and not listed(kind)}


class _Failed(Struct):
    tries: int
    due: float


class Retries:
    """Items whose writes failed. None is ever given up, none holds up another. `now`: seconds, monotonic."""

    def __init__(self, now: Callable[[], float], uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._now, self._uniform = now, uniform
        self._failed: dict[Item, _Failed] = {}

    def __len__(self) -> int:
        return len(self._failed)

    def failed(self, item: Item) -> bool:
        """One more failure; True for the first in a row."""
        tries = self._failed[item].tries if item in self._failed else 0
        pause = self._uniform(0.0, min(LAST, FIRST * 2.0 ** min(tries, 10)))
        self._failed[item] = _Failed(tries + 1, self._now() + pause)
        return not tries

    def succeeded(self, item: Item) -> None:
        """All that it wants is written."""
        self._failed.pop(item, None)

    def due(self) -> set[Item]:
        """What is to be tried again now."""
        now = self._now()
        return {item for item, failed in self._failed.items() if failed.due <= now}

    def pause(self, longest: float) -> float:
        """Seconds until the next one is due, at most `longest`."""
        return max(0.0, min([longest, *(failed.due - self._now() for failed in self._failed.values())]))
