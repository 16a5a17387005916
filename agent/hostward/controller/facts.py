"""All that is known: objects of Kubernetes by kind, what is stored, and which items a change of either concerns.

Only the reconcile thread uses it. Decisions read it and change nothing (`desired`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import Final

from hostward.controller.items import Document, Item, Stored
from hostward.controller.node_settings import UNKNOWN, NodeSettings, read_node_settings
from hostward.controller.owners import KINDS, TIERS, is_ours, item_of, kubernetes_node_of, node_of
from hostward.controller.services import Service, service_of, services_in
from hostward.controller.stored import sound, understood
from hostward.kube.watching import Name, Object
from hostward.model.keys import ResourceKey

CLUSTER: Final = ResourceKey("ClusterInformation", "", "default")
CONFIGURATION: Final = ResourceKey("KubeControllersConfiguration", "", "default")
NAMING: Final = frozenset(("NetworkPolicy", "GlobalNetworkPolicy", "Profile"))
"""The kinds whose rules may name services."""
RELEVANT: Final = KINDS | NAMING | {CLUSTER.kind, CONFIGURATION.kind}
"""The kinds of stored resources that matter at all."""


class Facts:
    """What the two sides say. Everything that changes them returns the items to decide about anew."""

    def __init__(self, kinds: Collection[str]) -> None:
        """`kinds`: those of Kubernetes that are watched; items of others are left alone."""
        self.kinds = frozenset(kinds)
        self.stored: dict[ResourceKey, Stored] = {}
        """What is stored of the kinds that the controller writes: its own, and every Node and HostEndpoint."""
        self.cluster: Document | None = None
        """ClusterInformation."""
        self.node_settings: NodeSettings = UNKNOWN
        self._objects: dict[str, dict[Name, Object]] = {}
        self._stands_for: dict[str, str] = {}
        self._nodes: dict[str, set[str]] = defaultdict(set)
        self._endpoints: dict[str, set[ResourceKey]] = defaultdict(set)
        self._slices: dict[Service, set[Item]] = defaultdict(set)
        self._naming: dict[ResourceKey, frozenset[Service]] = {}
        self._named: Counter[Service] = Counter()

    # --- what decisions ask -------------------------------------------------------------------------------------------
    def listed(self, kind: str) -> bool:
        """Whether all objects of a kind are known. Until then nothing of it is decided."""
        return kind in self._objects

    def count(self, kind: str) -> int:
        """How many objects of a kind there are."""
        return len(self._objects.get(kind, ()))

    def object(self, item: Item) -> Object | None:
        """The object of Kubernetes; None if there is none, or if its kind isn't listed yet."""
        return self._objects.get(item.kind, {}).get(Name(item.namespace, item.name))

    def calico_nodes(self, name: str) -> list[str]:
        """The names of the stored Nodes that stand for a node of Kubernetes, sorted."""
        return sorted(self._nodes.get(name, ()))

    def endpoints(self, node: str) -> list[ResourceKey]:
        """The stored HostEndpoints of a Calico Node, users' too, sorted."""
        return sorted(self._endpoints.get(node, ()))

    def is_named(self, service: Service) -> bool:
        """Whether a rule in the store names a service."""
        return self._named[service] > 0

    def items(self) -> set[Item]:
        """Every item that there is an object or something stored for, of the kinds that are watched."""
        known = {Item(kind, *name) for kind, objects in self._objects.items() for name in objects}
        return known | {item for key in self.stored for item in self._items_of(key)}

    # --- Kubernetes ---------------------------------------------------------------------------------------------------
    def replace(self, kind: str, objects: Mapping[Name, Object]) -> set[Item]:
        """A complete list. The first one concerns all items of its kind."""
        first, before = not self.listed(kind), self._objects.get(kind, {})
        changed = {name for name in {*before, *objects} if before.get(name) != objects.get(name)}
        self._objects.setdefault(kind, {})
        affected = {item for name in changed for item in self.change(kind, name, objects.get(name))}
        return affected | ({item for item in self.items() if item.kind == kind} if first else set())

    def change(self, kind: str, name: Name, value: Object | None) -> set[Item]:
        """One object as it is now; None: it's gone."""
        item, objects = Item(kind, *name), self._objects[kind]
        if objects.get(name) == value:
            return set()
        if kind == "EndpointSlice":
            self._move_slice(item, objects.get(name), value)
        if value is None:
            objects.pop(name, None)
        else:
            objects[name] = value
        return {item}

    def _move_slice(self, item: Item, before: Object | None, now: Object | None) -> None:
        for value, put in ((before, set.discard), (now, set.add)):
            if value is not None and (service := service_of(item.namespace, value)) is not None:
                put(self._slices[service], item)

    # --- the store ----------------------------------------------------------------------------------------------------
    def replace_stored(self, objects: Mapping[ResourceKey, Stored]) -> set[Item]:
        """A complete state of the store, of any kinds."""
        gone = [key for key in (*self.stored, *self._naming, CLUSTER, CONFIGURATION) if key not in objects]
        affected = set()
        for key in dict.fromkeys(gone):
            affected |= self.change_stored(key, None)
        for key, stored in objects.items():
            affected |= self.change_stored(key, stored)
        return affected

    def change_stored(self, key: ResourceKey, stored: Stored | None) -> set[Item]:
        """One stored resource as it is now; None: it's gone."""
        document = stored.document if stored else None
        if key == CLUSTER:
            self.cluster = document
            return set()
        affected = self._read_settings(stored) if key == CONFIGURATION else set()
        if key.kind in NAMING:
            affected |= self._name_services(key, stored)
        if key.kind in KINDS:
            affected |= self._keep(key, stored)
        return affected

    def _read_settings(self, stored: Stored | None) -> set[Item]:
        """A document that isn't understood leaves those before it in force (decision D4)."""
        before = self.node_settings
        self.node_settings = read_node_settings(stored, before)
        changed = before._replace(problems=()) != self.node_settings._replace(problems=())
        return {item for item in self.items() if item.kind == "Node"} if changed else set()

    def _name_services(self, key: ResourceKey, stored: Stored | None) -> set[Item]:
        before = self._naming.pop(key, frozenset())
        now = services_in(key, stored.document if stored else None)
        if stored is not None and before - now and not understood(key, stored):
            now |= before  # an agent that doesn't understand it keeps the rules that it knew in force (decision D4)
        if now:
            self._naming[key] = now
        affected: set[Item] = set()
        for service in before ^ now:
            was = self.is_named(service)
            self._named[service] += 1 if service in now else -1
            if self.is_named(service) != was:
                affected |= self._slices.get(service, set())
        return affected

    def _keep(self, key: ResourceKey, stored: Stored | None) -> set[Item]:
        before, stored = self.stored.get(key), sound(stored) if stored else None
        if before == stored:
            return set()
        affected = self._items_of(key)
        if stored is None or not is_ours(key):
            self.stored.pop(key, None)
        else:
            self.stored[key] = stored
        document = stored.document if stored else None
        if key.kind == "Node":
            self._map_node(key.name, kubernetes_node_of(key.name, document))
        elif key.kind == "HostEndpoint":
            for value, put in ((before.document if before else None, set.discard), (document, set.add)):
                if node := node_of(value):
                    put(self._endpoints[node], key)
        return affected | self._items_of(key)

    def _map_node(self, calico: str, kubernetes: str | None) -> None:
        if (before := self._stands_for.pop(calico, None)) is not None:
            self._nodes[before].discard(calico)
        if kubernetes is not None:
            self._stands_for[calico] = kubernetes
            self._nodes[kubernetes].add(calico)

    def _items_of(self, key: ResourceKey) -> set[Item]:
        """The items whose decisions look at what is stored under a key now."""
        if key.kind == "Node":
            names = {key.name, self._stands_for.get(key.name, key.name)}
            items = {Item("Node", "", name) for name in names}
        elif key.kind == "HostEndpoint":
            stored = self.stored.get(key)
            names = {*self._namesakes(key.name), *filter(None, (node_of(stored.document) if stored else None,))}
            items = {Item("Node", "", name) for one in names for name in (one, self._stands_for.get(one, one))}
        elif key.kind == "Tier":
            items = {Item(kind, *name) for kind in TIERS.get(key.name, ()) for name in self._objects.get(kind, ())}
        else:
            item = item_of(key)
            items = {item} if item else set()
        return {item for item in items if item.kind in self.kinds}

    def _namesakes(self, endpoint: str) -> set[str]:
        """The nodes that may want an endpoint of this name, which begins with theirs."""
        parts = endpoint.split("-")
        begun = {"-".join(parts[:end]) for end in range(1, len(parts))}
        nodes = self._objects.get("Node", {})
        return {name for name in begun if name in self._stands_for or Name("", name) in nodes}
