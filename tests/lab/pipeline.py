"""The whole way from objects of Kubernetes to the packet filter, as values: converted, stored, decoded, calculated, rendered,
and asked packet by packet what the kernel would do.

The agent's own functions in the agent's own order, on the one node of all pods; beside them nothing is worked out here. Knows
no kernel and no etcd.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any

from hostward.calc.calculate import calculate
from hostward.convert import kubernetes
from hostward.convert.defaults import filled
from hostward.convert.validate import problems
from hostward.datastore.directory.manifests import key_of
from hostward.datastore.encode import stored_form, to_json
from hostward.model import keys
from hostward.model.decode import decode
from hostward.model.keys import ResourceKey
from hostward.model.resolved import Inputs, Scope
from hostward.model.resources import Resource
from hostward.model.settings import BUILT_IN
from hostward.render import evaluate
from hostward.render.options import options
from hostward.render.renderer import Renderer
from hostward.render.ruleset import Family
from tests.lab.pod_model import Packet

NODE = "w1"
UPLINK = "eth0"
"""The interface towards everybody who is no pod of this node. No host endpoint governs it."""
WRITTEN_AS_IT_IS = ("KubernetesEndpointSlice",)  # by the controller alone; nothing is ever filled in
PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
Document = Mapping[str, Any]


def documents(objects: Iterable[Document]) -> list[dict[str, Any]]:
    """What is stored for objects: those of Kubernetes converted, v3 documents as they are. Nothing may be odd about any."""
    found = []
    for one in objects:
        converted = kubernetes.to_v3(dict(one)) if kubernetes.is_kubernetes(one) else kubernetes.Converted((dict(one),), ())
        assert converted.problems == (), (one, converted.problems)
        for document in converted.documents:
            if document["kind"] in WRITTEN_AS_IT_IS:
                found.append(document)
                continue
            assert problems(document) == [], (document, problems(document))
            found.append(filled(document))
    return found


def stored(objects: Iterable[Document]) -> dict[str, bytes]:
    """The content of a datastore: the keys of these objects' documents, and their bytes."""
    found = {}
    for document in documents(objects):
        key = key_of(document)
        assert key is not None, document
        # Pods of one cluster may give the same tier twice; nothing else comes twice.
        assert keys.path(key) not in found or key.kind == "Tier", key
        found[keys.path(key)] = to_json(stored_form(key, document))
    return found


def understood(content: Mapping[str, bytes]) -> dict[ResourceKey, Resource]:
    """What the agent understands of a datastore; fails when anything in it isn't understood."""
    found = {}
    for path, value in content.items():
        key = keys.parse(path)
        assert key is not None, path
        decoded = decode(key, value)
        assert decoded.value is not None, (key, value)
        assert not decoded.problems, (key, decoded.problems)
        found[key] = decoded.value
    return found


class Node:
    """The packet filter of the node that all these pods are on."""

    def __init__(self, objects: Iterable[Document]) -> None:
        resources = understood(stored(objects))
        resolved = calculate(Inputs(Scope(NODE), resources, {}))
        self.filter = evaluate.of_ruleset(Renderer(options(BUILT_IN, ())).render(resolved))
        self.interfaces = {
            str(ip_network(address).network_address): interface
            for interface, workload in resolved.workloads.items()
            for address in workload.addresses
        }

    def verdict(self, packet: Packet) -> tuple[bool, bool]:
        """Whether the destination lets it in and whether the source lets it out; True for an address that is no pod's here.

        Each half is asked by itself, as where the other pod is on another node; the whole must come to both.
        """
        source, destination = self.interfaces.get(packet.source), self.interfaces.get(packet.destination)
        into = destination is None or self._passes(packet, UPLINK, destination)
        out = source is None or self._passes(packet, source, UPLINK)
        if source is not None and destination is not None:
            whole = self._passes(packet, source, destination)
            assert whole == (into and out), f"{packet}: {whole} from pod to pod, but {into} in and {out} out"
        return into, out

    def _passes(self, packet: Packet, into: str, out: str) -> bool:
        return evaluate.evaluate(_on_wire(packet, into, out), self.filter).accepted


def _on_wire(packet: Packet, into: str, out: str) -> evaluate.Packet:
    """A packet of a new flow that is forwarded between two interfaces; ICMP is an echo request."""
    version: Family = 6 if ":" in packet.source else 4
    number = PROTOCOLS.get(packet.protocol) or (1 if version == 4 else 58)
    return evaluate.Packet(
        version,
        "forward",
        packet.source,
        packet.destination,
        number,
        source_port=40_000 if packet.protocol in PROTOCOLS else 0,
        destination_port=packet.port,
        in_interface=into,
        out_interface=out,
        icmp_type=0 if packet.protocol in PROTOCOLS else (8 if version == 4 else 128),
    )
