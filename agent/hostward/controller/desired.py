"""What the store should hold: for each item the writes that are left to do. The whole controller as a function of values.

`decide(facts, item)` reads everything it needs from the facts and answers with writes that can be printed; when they are done,
deciding again answers with none. What isn't understood of an object leaves what was stored for it in place (decision D4). Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from hostward.controller import host_endpoints, services
from hostward.controller.facts import Facts
from hostward.controller.items import NOTHING, Decision, Document, Item, Stored, Write
from hostward.controller.owners import is_automatic, key_of, kubernetes_node_of, node_of
from hostward.convert import kubernetes, kubernetes_nodes
from hostward.convert.defaults import filled
from hostward.model.fields import Found, Problem
from hostward.model.keys import ResourceKey


def decide(facts: Facts, item: Item) -> Decision:
    """The writes that an item wants now; none before all objects of its kind are known."""
    return _DECIDERS[item.kind](facts, item) if facts.listed(item.kind) else NOTHING


def decide_all(facts: Facts) -> dict[Item, Decision]:
    """The decisions over everything that is known, sorted by item."""
    return {item: decide(facts, item) for item in sorted(facts.items())}


def _copy(facts: Facts, item: Item) -> Decision:
    """An object of which a copy is stored: a policy, or the profile of a namespace or a service account."""
    value = facts.object(item)
    if value is None:
        return Decision(tuple(_removed(facts, key_of(item))))
    converted = kubernetes.to_v3(dict(value))
    writes = [
        write
        for document in converted.documents
        for write in (
            _created(facts, document) if document["kind"] == "Tier" else _kept_equal(facts, filled(document), _with_spec)
        )
    ]
    return Decision(tuple(writes), converted.problems)


def _with_spec(stored: Document, wanted: Document) -> Document:
    """Only the spec is ours: other metadata survive (kubernetes 1.1)."""
    return {**stored, "spec": wanted["spec"]}


def _slice(facts: Facts, item: Item) -> Decision:
    """A part of a service: stored while a rule in the store names the service."""
    value, found = facts.object(item), Found()
    service = services.service_of(item.namespace, value) if value is not None else None
    if value is None or service is None or not facts.is_named(service) or value.get("addressType") == "FQDN":
        return Decision(tuple(_removed(facts, key_of(item))))
    wanted = services.stored_slice(item, service, value, found)
    return Decision(tuple(_kept_equal(facts, wanted, _with_slice)), tuple(found))


def _with_slice(stored: Document, wanted: Document) -> Document:
    metadata = stored.get("metadata") or {}
    labels = (metadata.get("labels") or {}) | wanted["metadata"]["labels"]
    return {**stored, "metadata": {**metadata, "labels": labels}, **{name: wanted[name] for name in services.COPIED}}


def _pod(facts: Facts, item: Item) -> Decision:
    """A pod: Calico's network plugin makes and removes its endpoint; labels and service account follow it (kubernetes 1.1)."""
    value = facts.object(item)
    if value is None:
        return NOTHING
    converted = kubernetes.to_v3(dict(value))
    writes: list[Write] = []
    for wanted in converted.documents:
        key = _key(wanted)
        stored = facts.stored.get(key)
        # Before it has an address, the endpoint under its name may be that of a pod that had the name before.
        if stored is not None and stored.document is not None and wanted["spec"]["ipNetworks"]:
            writes += _put(key, stored, _with_pod(stored.document, wanted))
    return Decision(tuple(writes), converted.problems)


def _with_pod(stored: Document, wanted: Document) -> Document:
    spec = dict(stored.get("spec") or {})
    account = wanted["spec"].get("serviceAccountName")
    if account:
        spec["serviceAccountName"] = account
    metadata = {**(stored.get("metadata") or {}), "labels": wanted["metadata"]["labels"]}
    return {**stored, "metadata": metadata, "spec": spec}


def _node(facts: Facts, item: Item) -> Decision:
    """A node: labels of its Calico Node, and its automatic host endpoints."""
    value, found = facts.object(item), Found()
    nodes = facts.calico_nodes(item.name)
    if value is None:
        gone = [write for name in nodes for write in _removed(facts, ResourceKey("Node", "", name))]
        return Decision((*gone, *_host_endpoints(facts, item.name, {}, found)), tuple(found))
    converted = kubernetes.to_v3(dict(value))
    if not converted.documents:
        return Decision((), converted.problems)
    found += converted.problems
    (node,) = converted.documents
    writes: list[Write] = []
    described: dict[str, Document] = {}
    for name in nodes:
        stored = facts.stored[ResourceKey("Node", "", name)]
        if stored.document is None:
            found.append(Problem("", f"the stored Node {name} isn't understood and gets no labels"))
        else:
            described[name] = stored.document
            if facts.node_settings.sync_labels:
                described[name] = kubernetes_nodes.with_labels(stored.document, node["metadata"]["labels"])
                writes += _put(ResourceKey("Node", "", name), stored, described[name])
            # The key is its name, whatever the document says, or doesn't.
            metadata = {**(described[name].get("metadata") or {}), "name": name}
            described[name] = {**described[name], "metadata": metadata}
    if not nodes and ResourceKey("Node", "", item.name) not in facts.stored:
        described[item.name] = node
    return Decision((*writes, *_host_endpoints(facts, item.name, described, found)), tuple(found))


def _host_endpoints(facts: Facts, name: str, nodes: Mapping[str, Document], found: Found) -> Iterator[Write]:
    """The writes for the automatic endpoints of the Calico Nodes that stand for a node of Kubernetes.

    None while it isn't known whether they are switched on: an endpoint that is removed opens a host.
    """
    settings = facts.node_settings
    if not settings.known:
        return
    wanted = {
        endpoint: one
        for node in nodes.values()
        for endpoint, one in host_endpoints.host_endpoints(node, settings, found).items()
    }
    ours = _nodes_to_clean(facts, name)
    for endpoint, one in wanted.items():
        key = ResourceKey("HostEndpoint", "", endpoint)
        stored = facts.stored.get(key)
        if stored is not None and not is_automatic(stored.document):
            found.append(Problem("", f"{key} isn't made: somebody else's endpoint has this name"))
        elif stored is not None and _is_elsewhere(stored, ours):
            found.append(Problem("", f"{key} isn't made: an endpoint of another node has this name"))
        else:
            now = one.document if stored is None else host_endpoints.merged(stored.document or {}, one)
            yield from _put(key, stored, now)
    for node in ours:
        for key in facts.endpoints(node):
            stored = facts.stored[key]
            if key.name not in wanted and is_automatic(stored.document):
                yield Write(key, None, stored.revision)


def _is_elsewhere(stored: Stored, ours: set[str]) -> bool:
    """Whether an automatic endpoint is another node's, so that two would write it by turns for ever."""
    node = node_of(stored.document)
    return node is not None and node not in ours


def _nodes_to_clean(facts: Facts, name: str) -> set[str]:
    """The Calico Nodes whose endpoints are decided on with this node of Kubernetes.

    A stored Node that stands for none keeps what it has until all are switched off: this controller made nothing of it.
    """
    nodes = set(facts.calico_nodes(name))
    stored = facts.stored.get(ResourceKey("Node", "", name))
    stands_for_none = stored is not None and kubernetes_node_of(name, stored.document) is None
    if stored is None or (stands_for_none and not facts.node_settings.create):
        nodes.add(name)
    return nodes


# --- writes -----------------------------------------------------------------------------------------------------------
def _key(document: Document) -> ResourceKey:
    metadata = document["metadata"]
    return ResourceKey(document["kind"], metadata.get("namespace", ""), metadata["name"])


def _created(facts: Facts, document: Document) -> Iterator[Write]:
    if (key := _key(document)) not in facts.stored:
        yield Write(key, filled(document), None)


def _kept_equal(facts: Facts, wanted: Document, merge: Callable[[Document, Document], Document]) -> Iterator[Write]:
    """A copy as it should be: `merge` puts what is ours of it over what is stored, if that can be read."""
    key = _key(wanted)
    stored = facts.stored.get(key)
    yield from _put(key, stored, merge(stored.document, wanted) if stored and stored.document is not None else wanted)


def _put(key: ResourceKey, stored: Stored | None, now: Document) -> Iterator[Write]:
    if stored is None:
        yield Write(key, now, None)
    elif now != stored.document:
        yield Write(key, now, stored.revision)


def _removed(facts: Facts, key: ResourceKey) -> Iterator[Write]:
    if (stored := facts.stored.get(key)) is not None:
        yield Write(key, None, stored.revision)


_DECIDERS: Final[Mapping[str, Callable[[Facts, Item], Decision]]] = {
    "NetworkPolicy": _copy,
    "Namespace": _copy,
    "ServiceAccount": _copy,
    "AdminNetworkPolicy": _copy,
    "BaselineAdminNetworkPolicy": _copy,
    "ClusterNetworkPolicy": _copy,
    "EndpointSlice": _slice,
    "Pod": _pod,
    "Node": _node,
}
