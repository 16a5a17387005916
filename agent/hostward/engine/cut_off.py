"""Workload interfaces of this host that no endpoint stands behind, so that they are cut off: which, and when to warn (H-52).

Knows no log. Engine thread only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from hostward.model.resolved import Scope

PATIENCE: Final = 5.0  # seconds: a pod's interface is there before its endpoint is in the datastore


class CutOff:
    """`names` are those of now, sorted."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._since: dict[str, float] = {}
        self._told: set[str] = set()

    def follow(self, links: Iterable[str], scope: Scope, guarded: Collection[str], now: float) -> list[str]:
        """Looks at the interfaces that exist and at those with an endpoint; the ones to warn of, each once.

        That is, once until it is gone or has an endpoint.
        """
        self.names = tuple(sorted(name for name in links if scope.is_workload_interface(name) and name not in guarded))
        self._since = {name: self._since.get(name, now) for name in self.names}
        self._told &= self._since.keys()
        new = [name for name, since in self._since.items() if now - since >= PATIENCE and name not in self._told]
        self._told.update(new)
        return new
