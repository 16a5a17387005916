"""Which local host endpoint governs which interface, kept up to date as either changes (`statements.md` enforcement 4.1).

Used by the engine thread only; pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from hostward.calc.compute import governing
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resolved import ANY_INTERFACE, Scope
from hostward.model.resources import HostEndpoint


class Governors:
    """Interface to governing endpoint. `table` is the result."""

    def __init__(self, scope: Scope) -> None:
        self.table: dict[str, ResourceKey] = {}
        self._scope = scope
        self._links: dict[str, Link] = {}
        self._local: dict[ResourceKey, HostEndpoint] = {}
        self._by_name: dict[str, set[ResourceKey]] = {}
        self._by_address: dict[str, set[ResourceKey]] = {}
        self._interfaces_of: dict[str, set[str]] = {}

    def update(self, endpoints: Mapping[ResourceKey, HostEndpoint | None], links: Mapping[str, Link] | None) -> set[str]:
        """Takes changed endpoints (None: gone) and, unless None, the whole new link table.

        Returns the interfaces whose governor, or its value, changed.
        """
        dirty: set[str] = set()
        if links is not None:
            dirty |= self._take_links(links)
        for key, value in endpoints.items():
            old = self._local.pop(key, None)
            new = value if value is not None and value.node == self._scope.node else None
            for endpoint, add in ((old, False), (new, True)):
                if endpoint is not None:
                    dirty |= self._index(key, endpoint, add=add)
            if new is not None:
                self._local[key] = new
        changed = set()
        for interface in dirty:
            winner = self._winner(interface)
            if winner != self.table.get(interface) or (winner is not None and winner in endpoints):
                changed.add(interface)
            if winner is None:
                self.table.pop(interface, None)
            else:
                self.table[interface] = winner
        return changed

    def endpoint(self, key: ResourceKey) -> HostEndpoint:
        """A local endpoint's value."""
        return self._local[key]

    def _take_links(self, links: Mapping[str, Link]) -> set[str]:
        dirty = {name for name in self._links.keys() | links.keys() if self._links.get(name) != links.get(name)}
        for name in dirty:
            for table, add in ((self._links, False), (links, True)):
                for address in table[name].addresses if name in table else ():
                    holders = self._interfaces_of.setdefault(address, set())
                    (holders.add if add else holders.discard)(name)
                    if not holders:
                        del self._interfaces_of[address]
        self._links = dict(links)
        return dirty

    def _index(self, key: ResourceKey, endpoint: HostEndpoint, *, add: bool) -> set[str]:
        if endpoint.interface:
            places, dirty = [(self._by_name, endpoint.interface)], {endpoint.interface}
        else:
            places = [(self._by_address, address) for address in endpoint.expected_ips]
            dirty = {name for address in endpoint.expected_ips for name in self._interfaces_of.get(address, ())}
        for index, value in places:
            keys = index.setdefault(value, set())
            (keys.add if add else keys.discard)(key)
            if not keys:
                del index[value]
        return dirty

    def _winner(self, interface: str) -> ResourceKey | None:
        link = self._links.get(interface)
        if interface != ANY_INTERFACE and not self._scope.is_host_interface(interface):
            return None
        keys = set(self._by_name.get(interface, ()))
        for address in link.addresses if link is not None else ():
            keys |= self._by_address.get(address, set())
        by_endpoint = {id(self._local[key]): key for key in keys}
        winner = governing((self._local[key] for key in keys), interface, link)
        return by_endpoint[id(winner)] if winner is not None else None
