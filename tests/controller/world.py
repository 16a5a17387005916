"""A store and an API server as values, for deciding without threads: writes are carried out strictly, as etcd would."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from typing import Any

from hostward.controller.desired import decide, decide_all
from hostward.controller.facts import CLUSTER, CONFIGURATION, Facts
from hostward.controller.items import Decision, Item, Stored, Write
from hostward.controller.owners import CREATED_BY, CREATOR, TIERS, is_automatic, item_of
from hostward.controller.resources import CONTROLLERS, projected
from hostward.controller.stored import read_stored
from hostward.datastore.encode import stored_form, to_json
from hostward.kube.watching import Name, Object
from hostward.model.fields import Problem
from hostward.model.keys import ResourceKey

KINDS = frozenset(resource.kind for resources in CONTROLLERS.values() for resource in resources)
API = "projectcalico.org/v3"


class World:
    """Facts, with the store and the server that they are about. `told` collects the problems of each item."""

    def __init__(self, kinds: Iterable[str] = KINDS, store: Mapping[ResourceKey, tuple[bytes, int]] | None = None) -> None:
        self.facts = Facts(kinds)
        self.store: dict[ResourceKey, tuple[bytes, int]] = dict(store or {})
        self.revision = max((revision for _, revision in self.store.values()), default=1)
        self.dirty: set[Item] = set()
        self.told: dict[Item, tuple[Problem, ...]] = {}
        self.writes: list[Write] = []
        self.snapshot()

    # --- the server
    def list(self, kind: str, *objects: Mapping[str, Any]) -> None:
        found = {name_of(one): projected(one) for one in objects}
        self.dirty |= self.facts.replace(kind, found)

    def list_all(self) -> None:
        for kind in self.facts.kinds:
            self.list(kind)

    def put(self, value: Mapping[str, Any]) -> None:
        self.dirty |= self.facts.change(value["kind"], name_of(value), projected(value))

    def remove(self, value: Mapping[str, Any]) -> None:
        self.dirty |= self.facts.change(value["kind"], name_of(value), None)

    # --- the store
    def snapshot(self) -> None:
        self.dirty |= self.facts.replace_stored(
            {key: read_stored(raw, revision) for key, (raw, revision) in self.store.items()}
        )

    def write(self, key: ResourceKey, value: Mapping[str, Any] | bytes | None) -> None:
        """Somebody else's write; None deletes."""
        self.revision += 1
        if value is None:
            del self.store[key]
            self.dirty |= self.facts.change_stored(key, None)
            return
        raw = value if isinstance(value, bytes) else to_json(stored_form(key, value))
        self.store[key] = (raw, self.revision)
        self.dirty |= self.facts.change_stored(key, read_stored(raw, self.revision))

    def read(self, key: ResourceKey) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.store[key][0])
        return document

    def carry_out(self, write: Write) -> None:
        held = self.store.get(write.key)
        assert (held[1] if held else None) == write.revision, f"{write} isn't about what is stored"
        self.check_ownership(write, held[0] if held else None)
        self.writes.append(write)
        self.write(write.key, write.document)

    def check_ownership(self, write: Write, raw: bytes | None) -> None:
        """Fails for a write to what isn't the controller's."""
        match write.key.kind:
            case "HostEndpoint":
                assert raw is None or is_automatic(read_stored(raw, 1).document), write
                assert write.document is None or write.document["metadata"]["labels"][CREATED_BY] == CREATOR
            case "Node":
                assert raw is not None, "Nodes are never made"
            case "WorkloadEndpoint":
                assert raw is not None, "endpoints of pods are never made"
                assert write.document is not None, "nor removed"
            case "Tier":
                assert write.verb == "create"
                assert write.key.name in TIERS
            case _:
                assert item_of(write.key) is not None, write

    # --- the controller
    def settle(self) -> list[Write]:
        """Decides about what has changed until nothing is left to do; the writes."""
        began = len(self.writes)
        for _ in range(20):
            items, self.dirty = sorted(self.dirty), set()
            for item in items:
                before = copy.deepcopy(self.facts.object(item))
                decision = decide(self.facts, item)
                assert self.facts.object(item) == before
                self.told[item] = decision.problems
                for write in decision.writes:
                    self.carry_out(write)
            if not self.dirty:
                return self.writes[began:]
        raise AssertionError(f"it never settles: {self.writes[-5:]}")

    def left(self) -> dict[Item, Decision]:
        """What deciding about everything from nothing would still write: the oracle."""
        return {item: decision for item, decision in decide_all(self.facts).items() if decision.writes}

    def problems(self) -> list[str]:
        return [f"{item}: {problem}" for item, problems in sorted(self.told.items()) for problem in problems]


def name_of(value: Mapping[str, Any]) -> Name:
    metadata = value["metadata"]
    return Name(metadata.get("namespace", ""), metadata["name"])


def policy(name: str, namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "uid": "k-1", "resourceVersion": "7", "managedFields": []}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {"podSelector": {}} | spec,
    }


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
        "status": {"phase": "Active"},
    }


def account(name: str, space: str = "shop", **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": space, "labels": labels}}


def pod(
    name: str, space: str = "shop", node: str = "w1", *, address: str = "10.0.0.1", labels: Any = None, **spec: Any
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": labels or {}, "uid": "p"},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "x"}], "serviceAccountName": "bot"} | spec,
        "status": {"podIP": address, "phase": "Running", "conditions": []} if address else {"phase": "Pending"},
    }


def node(name: str, labels: Mapping[str, str] | None = None, *addresses: str) -> dict[str, Any]:
    status = {"addresses": [{"type": "InternalIP", "address": one} for one in addresses], "images": []}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": dict(labels or {})},
        "spec": {},
        "status": status,
    }


def slice_(name: str, service: str, *addresses: str, space: str = "shop", version: str = "v1", **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"discovery.k8s.io/{version}",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": space, "labels": {"kubernetes.io/service-name": service, "x": "y"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [one], "conditions": {"ready": True}, "nodeName": "w1"} for one in addresses],
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    } | more


def naming(service: str, space: str | None = None) -> dict[str, Any]:
    """A user's policy with a rule that names a service."""
    match = {"name": service} | ({"namespace": space} if space else {})
    return {"spec": {"types": ["Egress"], "egress": [{"action": "Allow", "destination": {"services": match}}]}}


def calico_node(name: str, stands_for: str | None = "", labels: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A stored Node; `stands_for` None: not of Kubernetes."""
    references = [] if stands_for is None else [{"orchestrator": "k8s", "nodeName": stands_for or name}]
    return {"metadata": {"name": name, "labels": dict(labels or {}), "uid": "n"}, "spec": {"orchRefs": references} | spec}


def configuration(*templates: Mapping[str, Any], create: str = "Enabled", **more: Any) -> dict[str, Any]:
    endpoint = {"autoCreate": create, "templates": list(templates)} | more
    return {"metadata": {"name": "default"}, "spec": {"controllers": {"node": {"hostEndpoint": endpoint}}}}


__all__ = ["API", "CLUSTER", "CONFIGURATION", "KINDS", "Stored", "World"]
