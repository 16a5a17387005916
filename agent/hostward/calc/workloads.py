"""Which local workload endpoint stands behind which interface, kept up to date as endpoints change (`statements.md` H-2, H-52).

Used by the engine thread only; pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostward.model.keys import ResourceKey
from hostward.model.resolved import Scope
from hostward.model.resources import WorkloadEndpoint


def behind(keys: Iterable[ResourceKey]) -> ResourceKey:
    """The one of several endpoints on one interface that counts: the smallest namespace and name, bytewise."""
    return min(keys, key=lambda key: (key.namespace.encode(), key.name.encode()))


def is_local(endpoint: WorkloadEndpoint, scope: Scope) -> bool:
    """Whether an endpoint is this agent's. On an interface without a workload prefix no packet would ever meet its policy."""
    return endpoint.node == scope.node and scope.is_workload_interface(endpoint.interface)


class Workloads:
    """Interface to the endpoint behind it. `table` is the result."""

    def __init__(self, scope: Scope) -> None:
        self.table: dict[str, ResourceKey] = {}
        self._scope = scope
        self._local: dict[ResourceKey, WorkloadEndpoint] = {}
        self._by_interface: dict[str, set[ResourceKey]] = {}

    def endpoint(self, key: ResourceKey) -> WorkloadEndpoint:
        """A local endpoint's value."""
        return self._local[key]

    def update(self, endpoints: Mapping[ResourceKey, WorkloadEndpoint | None]) -> set[str]:
        """Takes changed endpoints (None: gone). Returns the interfaces whose endpoint, or its value, changed."""
        dirty: set[str] = set()
        for key, value in endpoints.items():
            if (old := self._local.pop(key, None)) is not None:
                self._by_interface[old.interface].discard(key)
                dirty.add(old.interface)
            if value is not None and is_local(value, self._scope):
                self._local[key] = value
                self._by_interface.setdefault(value.interface, set()).add(key)
                dirty.add(value.interface)
        changed = set()
        for interface in dirty:
            keys = self._by_interface[interface]
            if not keys:
                del self._by_interface[interface]
                if self.table.pop(interface, None) is not None:
                    changed.add(interface)
                continue
            winner = behind(keys)
            if winner != self.table.get(interface) or winner in endpoints:
                changed.add(interface)
            self.table[interface] = winner
        return changed
