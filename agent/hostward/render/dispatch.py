"""Dispatch by interface as a tree: what a packet pays doesn't grow with the number of interfaces (`statements.md` H-51).

An interface that comes or goes costs the chains on the way to it. Owned by the engine thread's renderer.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, Literal

from hostward.render.names import chain_name
from hostward.render.ruleset import Chain, Interface, Jump, Rule, Target

Way = Literal["in", "out"]
WAYS: Final[tuple[Way, ...]] = ("in", "out")
MOST_IN_A_ROW: Final = 8
"""So many interfaces stand one after another; more are told apart by the next character of their names first."""
_LAST: Final = "\U0010ffff"


@lru_cache(maxsize=8192)
def by_interface(way: Way, name: str, target: Target, *, prefix: bool = False) -> Rule:
    """The same rule wherever and whenever it is needed."""
    return Rule((Interface(way, name, prefix),), target)


class Dispatch:
    """The chains that lead from `root` to each interface's target; a packet of no known interface meets `end`.

    `end` stands at the end of every chain: after a goto a packet doesn't come back to the one before.
    """

    def __init__(self, root: str, way: Way, end: Chain = ()) -> None:
        self.root = root
        self._way: Way = way
        self._end = end
        self._targets: dict[str, Target] = {}
        self._sorted: list[str] = []
        self._prefixes: dict[str, str] = {root: ""}
        self._chains: dict[str, Chain] = {}

    def __contains__(self, chain: str) -> bool:
        return chain in self._prefixes

    @property
    def size(self) -> int:
        """How many chains are known."""
        return len(self._prefixes)

    def update(self, targets: Mapping[str, Target | None], end: Chain | None = None) -> set[str]:
        """Takes new targets of interfaces (None: gone), and another end; the known chains that may differ now."""
        dirty: set[str] = set()
        moved: list[str] = []
        if end is not None and end != self._end:
            self._end = end
            dirty |= self._prefixes.keys()
        for interface, target in targets.items():
            if target == self._targets.get(interface):
                continue
            if interface not in self._targets:
                insort(self._sorted, interface)
            if target is None:
                del self._targets[interface], self._sorted[bisect_left(self._sorted, interface)]
            else:
                self._targets[interface] = target
            moved.append(interface)
        for interface in moved:  # once all names are there: one that comes may begin as one that goes
            dirty |= self._on_the_way(interface)
        for chain in dirty:
            self._chains.pop(chain, None)
        return dirty & self._prefixes.keys()

    def chain(self, name: str) -> Chain:
        """One of the chains. Knows those that the chains made so far lead to, and the root."""
        found = self._chains.get(name)
        if found is None:
            found = self._chains[name] = (*self._rules(self._prefixes[name]), *self._end)
        return found

    def _on_the_way(self, interface: str) -> set[str]:
        """The known chains for names that begin as this one does; those for names that none has are forgotten."""
        found = {self.root}
        for length in range(1, len(interface) + 1):
            prefix = interface[:length]
            name = self._child(prefix)
            if name in self._prefixes:
                found.add(name)
                at = bisect_left(self._sorted, prefix)
                if at == len(self._sorted) or not self._sorted[at].startswith(prefix):
                    del self._prefixes[name]
        return found

    def _child(self, prefix: str) -> str:
        return chain_name(f"{self.root}-", prefix)

    def _rules(self, prefix: str) -> Iterator[Rule]:
        first, beyond = self._range(prefix, 0)
        if beyond - first <= MOST_IN_A_ROW:
            for interface in self._sorted[first:beyond]:
                yield by_interface(self._way, interface, self._targets[interface])
            return
        told_apart = _in_common(self._sorted[first], self._sorted[beyond - 1]) + 1
        while first < beyond:
            interface = self._sorted[first]
            among, start = interface[:told_apart], first
            first = self._range(among, start)[1] if len(among) == told_apart else start + 1
            if first - start == 1:
                yield by_interface(self._way, interface, self._targets[interface])
            else:
                child = self._child(among)
                self._prefixes[child] = among
                yield by_interface(self._way, among, Jump(child, goto=True), prefix=True)

    def _range(self, prefix: str, start: int) -> tuple[int, int]:
        """Where the names that begin with a prefix are among the sorted ones, from `start` on."""
        return bisect_left(self._sorted, prefix, start), bisect_left(self._sorted, prefix + _LAST, start)


def _in_common(first: str, last: str) -> int:
    """With how many characters two names begin alike; of the first and last of sorted names: all of them."""
    return next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
