"""Warns before a change that takes a failsafe away, or nobody's way to etcd is left (decision D8 has the agent's own side).

Best effort: a store that can't be asked says so when the write itself is tried. The commands' own thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from hostward.cli import reach
from hostward.datastore.encode import to_json
from hostward.datastore.store import NotFoundError, Store, StoreError
from hostward.model.decode import decode
from hostward.model.failsafe import FailsafePort
from hostward.model.keys import ResourceKey
from hostward.model.names import POLICY_KINDS
from hostward.model.nets import parse_address
from hostward.model.resources import HostEndpoint, Policy, Profile, Resource, Tier
from hostward.model.rules import TCP
from hostward.model.settings import BUILT_IN, SETTINGS
from hostward.model.value_errors import BadValueError

Document = dict[str, Any]
Say = Callable[[str], None]

_CLUSTER: Final = ResourceKey("FelixConfiguration", "", "default")
_FAILSAFES: Final = {
    "failsafeInboundHostPorts": ("inbound", BUILT_IN.failsafe_inbound_host_ports),
    "failsafeOutboundHostPorts": ("outbound", BUILT_IN.failsafe_outbound_host_ports),
}
_DECIDING: Final = ("HostEndpoint", "GlobalNetworkPolicy", "Tier", "Profile", "FelixConfiguration")


def warn(store: Store, after: Mapping[ResourceKey, Document | None], say: Say) -> None:
    """Tells `say` what would be lost when these resources are stored so; None means deleted."""
    if not any(key.kind in _DECIDING for key in after):
        return
    try:
        for text in (*_failsafes_lost(store, after), *_etcd_lost(store, after)):
            say(f"warning: {text}")
    except StoreError:
        return  # the write that follows meets the same trouble and reports it


def _failsafes_lost(store: Store, after: Mapping[ResourceKey, Document | None]) -> Iterator[str]:
    for key, document in after.items():
        if key.kind != _CLUSTER.kind:
            continue
        stored = _stored_spec(store, key)
        cluster = stored if key == _CLUSTER else _stored_spec(store, _CLUSTER)
        lost = []
        for name, (direction, built_in) in _FAILSAFES.items():
            inherited = built_in if key == _CLUSTER else _ports(cluster, name, built_in)
            now = _ports(_spec(document), name, inherited)
            lost += [f"{direction} {port}" for port in _ports(stored, name, inherited) if port not in now]
        if lost:
            yield f"{key} takes failsafe ports away ({', '.join(lost)}); on guarded interfaces only policies keep them open"


def _stored_spec(store: Store, key: ResourceKey) -> Mapping[str, Any]:
    try:
        return _spec(store.get(key).document)
    except NotFoundError:
        return {}


def _spec(document: Document | None) -> Mapping[str, Any]:
    spec = (document or {}).get("spec")
    return spec if isinstance(spec, dict) else {}


def _ports(spec: Mapping[str, Any], name: str, default: tuple[FailsafePort, ...]) -> tuple[FailsafePort, ...]:
    raw = spec.get(name)
    if raw is None:
        return default
    try:
        return tuple(SETTINGS[name].type.read(raw))
    except BadValueError:
        return default  # the agent keeps what it had


def _etcd_lost(store: Store, after: Mapping[ResourceKey, Document | None]) -> Iterator[str]:
    peers = store.peers()
    if not peers:
        return
    found = {one.key: one.document for one in store.list("HostEndpoint")[1]}
    if not found and not any(key.kind == "HostEndpoint" for key in after):
        return
    addresses = _node_addresses(store, after)
    endpoints = [*found.values(), *(one for key, one in after.items() if key.kind == "HostEndpoint" and one)]
    guarded = {address for one in endpoints for address in _addresses(one)}
    guarded |= {address for one in endpoints for address in addresses.get(str(_spec(one).get("node")), ())}
    if not any(address in guarded for address, _ in peers):
        return  # no endpoint guards etcd by its address, or on its node
    for kind in _DECIDING[1:]:
        found |= {one.key: one.document for one in store.list(kind)[1]}
    changed = _changed(found, after)
    before, later = _world(found, addresses), _world(changed, addresses)
    for address, port in peers:
        lost_already = {one.name for one in reach.blocking(before, address, port)}
        for endpoint in reach.blocking(later, address, port):
            if endpoint.name in lost_already or _is_failsafe(changed, endpoint, address, port):
                continue
            # Which interface holds a node's address nobody but its agent knows.
            where = "is" if address in endpoint.expected_ips else f"(an address of node {endpoint.node}) may be"
            yield (
                f"etcd at {address} port {port} {where} behind HostEndpoint({endpoint.name}), where no policy would allow "
                f"TCP {port} any more and it is no inbound failsafe: agents and this command may lose etcd"
            )


def _addresses(endpoint: Document) -> list[str]:
    expected = _spec(endpoint).get("expectedIPs")
    found = (parse_address(one) for one in expected if isinstance(one, str)) if isinstance(expected, list) else ()
    return [address for address in found if address]


def _node_addresses(store: Store, after: Mapping[ResourceKey, Document | None]) -> dict[str, frozenset[str]]:
    """The addresses of each node, as stored or about to be; a node that is deleted keeps its addresses nevertheless."""
    documents = {one.key: one.document for one in store.list("Node")[1]}
    documents |= {key: one for key, one in after.items() if key.kind == "Node" and one}
    return {key.name: frozenset(_of_node(_spec(one))) for key, one in documents.items()}


def _of_node(spec: Mapping[str, Any]) -> Iterator[str]:
    bgp, listed = spec.get("bgp"), spec.get("addresses")
    texts = [bgp.get("ipv4Address"), bgp.get("ipv6Address")] if isinstance(bgp, dict) else []
    texts += [one.get("address") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    for text in texts:
        if isinstance(text, str) and (address := parse_address(text.partition("/")[0])):
            yield address


def _changed(
    found: Mapping[ResourceKey, Document], after: Mapping[ResourceKey, Document | None]
) -> dict[ResourceKey, Document]:
    result = dict(found)
    for key, document in after.items():
        old = key._replace(name=f"default.{key.name}")
        stored_as = old if key.kind in POLICY_KINDS and key not in found and old in found else key
        if document is None:
            result.pop(stored_as, None)
        elif key.kind in _DECIDING:
            result[stored_as] = document
    return result


def _world(documents: Mapping[ResourceKey, Document], addresses: Mapping[str, frozenset[str]]) -> reach.World:
    values: list[Resource] = []
    for key, document in documents.items():
        value = decode(key, to_json(document)).value if key.kind != _CLUSTER.kind else None
        if value is not None:
            values.append(value)
    return reach.World(
        tuple(one for one in values if isinstance(one, HostEndpoint)),
        {one.key: one for one in values if isinstance(one, Policy)},
        {one.name: one for one in values if isinstance(one, Profile)},
        {one.name: one for one in values if isinstance(one, Tier)},
        addresses,
    )


def _is_failsafe(documents: Mapping[ResourceKey, Document], endpoint: HostEndpoint, address: str, port: int) -> bool:
    name = "failsafeInboundHostPorts"
    cluster = _ports(_spec(documents.get(_CLUSTER)), name, BUILT_IN.failsafe_inbound_host_ports)
    own = _CLUSTER._replace(name=f"node.{endpoint.node}")
    for one in _ports(_spec(documents.get(own)), name, cluster):
        family_fits = one.net is None or (":" in one.net) == (":" in address)
        if one.protocol == TCP and one.port == port and family_fits:
            return True
    return False
