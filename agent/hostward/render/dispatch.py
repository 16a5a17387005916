"""Dispatch by interface as a tree: what a packet pays doesn't grow with the number of interfaces (`enforcement.md` H-51).

Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from hostward.render.names import chain_name
from hostward.render.ruleset import Chain, Interface, Jump, Rule

Way = Literal["in", "out"]
MOST_IN_A_ROW: Final = 8
"""So many interfaces stand one after another; more are told apart by the next character of their names first."""


def tree(root: str, way: Way, targets: Mapping[str, str], end: Chain) -> dict[str, Chain]:
    """The chains that lead from `root` to each interface's chain by goto; a packet of no known interface meets `end`.

    `end` stands at the end of every chain: after a goto a packet doesn't come back to the one before.
    """
    chains: dict[str, Chain] = {}
    todo = [(root, sorted(targets.items()))]
    while todo:
        name, among = todo.pop()
        rules = []
        for prefix, within in _bins(among).items():
            if len(within) == 1:
                [(interface, chain)] = within
                rules.append(Rule((Interface(way, interface),), Jump(chain, goto=True)))
            else:
                child = chain_name(f"{root}-", prefix)
                rules.append(Rule((Interface(way, prefix, True),), Jump(child, goto=True)))
                todo.append((child, within))
        chains[name] = (*rules, *end)
    return chains


def _bins(targets: list[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Sorted targets by as much of their names as tells them apart; each by itself where they are few."""
    if len(targets) <= MOST_IN_A_ROW:
        return {target[0]: [target] for target in targets}
    told_apart = _in_common(targets[0][0], targets[-1][0]) + 1
    bins: dict[str, list[tuple[str, str]]] = {}
    for target in targets:
        bins.setdefault(target[0][:told_apart], []).append(target)
    return bins


def _in_common(first: str, last: str) -> int:
    """With how many characters two names begin alike; of the first and last of sorted names: all of them."""
    return next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
