"""What Calico's stored policies say about one packet between pods: slow, and straight from the v3 documents.

Written from enforcement 1-3 for workload endpoints (M-11..M-17, M-25..M-31, M-40..M-44, R-1..R-25). Shares no code with
the agent: neither with what converts and validates documents, nor with what reads and enforces them. A field that it doesn't
know is an error here, so that nothing a document says is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import Any, Literal

from tests.lab.selector_model import Labels, matcher

Document = Mapping[str, Any]
Direction = Literal["ingress", "egress"]
NAMESPACE = "projectcalico.org/namespace"
SERVICE_ACCOUNT = "projectcalico.org/serviceaccount"
WITH_PORTS = ("TCP", "UDP", "SCTP")
TIERS = {"kube-admin": (1000, "Pass"), "default": (1_000_000, "Deny"), "kube-baseline": (10_000_000, "Pass")}
RULE_FIELDS = {"action", "protocol", "source", "destination", "metadata"}
ENTITY_FIELDS = {"nets", "notNets", "ports", "selector", "namespaceSelector"}


@dataclass(frozen=True)
class Packet:
    """The first packet of a flow. `port` is the destination's, 0 for protocols without ports."""

    source: str
    destination: str
    protocol: str
    port: int = 0


def in_some_namespace(labels: Labels) -> bool:
    return NAMESPACE in labels


@dataclass
class Endpoint:
    """A pod with all its labels, its own and those of its profiles (M-11, M-17)."""

    document: Document
    profiles: Mapping[str, Document]
    labels: dict[str, str] = field(init=False)
    addresses: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        spec, own = self.document["spec"], self.document["metadata"].get("labels", {})
        self.labels = {key: value for key, value in own.items() if not key.startswith(("pcns.", "pcsa."))}
        if account := spec.get("serviceAccountName"):
            self.labels[SERVICE_ACCOUNT] = account
        for name in spec.get("profiles", ()):
            for key, value in self.profiles.get(name, {"spec": {}})["spec"].get("labelsToApply", {}).items():
                self.labels.setdefault(key, value)
        self.addresses = frozenset(str(ip_network(net).network_address) for net in spec.get("ipNetworks", ()))

    def has_port(self, name: str, packet: Packet) -> bool:
        """M-40, M-41: the port that the endpoint itself gives this name, of the packet's own protocol."""
        ports = self.document["spec"].get("ports", ())
        return any((one.get("name"), one["protocol"], one["port"]) == (name, packet.protocol, packet.port) for one in ports)


class World:
    """All documents at one moment."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self.documents = list(documents)
        self.profiles = {one["metadata"]["name"]: one for one in self.of_kind("Profile")}
        self.endpoints = [Endpoint(one, self.profiles) for one in self.of_kind("WorkloadEndpoint")]
        self._addresses: dict[tuple[str, str, str | None], frozenset[str]] = {}
        self._selected: dict[tuple[int, Direction], list[Document]] = {}

    def of_kind(self, *kinds: str) -> list[Document]:
        return [one for one in self.documents if one["kind"] in kinds]

    def verdict(self, packet: Packet) -> tuple[bool, bool]:
        """Whether the destination lets it in and whether the source lets it out; True for an address that is no pod's."""
        asked: tuple[tuple[Direction, str], ...] = (("ingress", packet.destination), ("egress", packet.source))
        into, out = (
            all(self.allows(one, way, packet) for one in self.endpoints if address in one.addresses) for way, address in asked
        )
        return into, out

    def allows(self, endpoint: Endpoint, direction: Direction, packet: Packet) -> bool:
        """M-28: tiers in order, in each its policies in order, then profiles; M-29 b: with neither, denied."""
        policies = self.policies(endpoint, direction)
        for tier in sorted({self.tier(one) for one in policies}, key=self.tier_order):
            answer = None
            for policy in (one for one in policies if self.tier(one) == tier):
                answer = answer or self.answer(policy, direction, packet)
            answer = answer or self.tiers.get(tier, (math.inf, "Deny"))[1]
            if answer != "Pass":
                return answer == "Allow"
        for name in endpoint.document["spec"].get("profiles", ()):
            if name not in self.profiles:
                return False  # M-31
            if (answer := self.answer(self.profiles[name], direction, packet)) in ("Allow", "Deny"):
                return answer == "Allow"
        return False

    @cached_property
    def tiers(self) -> dict[str, tuple[float, str]]:
        stored = {one["metadata"]["name"]: (one["spec"]["order"], one["spec"]["defaultAction"]) for one in self.of_kind("Tier")}
        return TIERS | stored

    @staticmethod
    def tier(policy: Document) -> str:
        return str(policy["spec"].get("tier", "default"))

    def tier_order(self, name: str) -> tuple[bool, float, bytes]:
        return name not in self.tiers, self.tiers.get(name, (math.inf, ""))[0], name.encode()

    def policies(self, endpoint: Endpoint, direction: Direction) -> list[Document]:
        """Those that select an endpoint in a direction, in order (M-12..M-15, M-23, M-26)."""
        key = (id(endpoint), direction)
        if key not in self._selected:
            found = [
                one
                for one in self.of_kind("NetworkPolicy", "GlobalNetworkPolicy")
                if direction in [name.lower() for name in one["spec"]["types"]] and self.selects(one, endpoint.labels)
            ]
            self._selected[key] = sorted(found, key=_policy_order)
        return self._selected[key]

    @staticmethod
    def selects(policy: Document, labels: Labels) -> bool:
        spec = policy["spec"]
        if policy["kind"] == "NetworkPolicy":
            mine = labels.get(NAMESPACE) == policy["metadata"].get("namespace", "default")
            return mine and matcher(spec.get("selector", ""))(labels)
        if namespaces := spec.get("namespaceSelector", ""):
            own = matcher(spec.get("selector", ""), "", in_some_namespace) if spec.get("selector") else (lambda _: True)
            return own(labels) and matcher(namespaces, "pcns.", in_some_namespace)(labels)
        return matcher(spec.get("selector", ""))(labels)

    def answer(self, policy: Document, direction: Direction, packet: Packet) -> str | None:
        """The action of the first rule that matches; None when none does."""
        home = policy["metadata"].get("namespace", "default") if policy["kind"] == "NetworkPolicy" else None
        rules = policy["spec"].get(direction, ())
        return next((str(rule["action"]) for rule in rules if self.matches(rule, home, packet)), None)

    def matches(self, rule: Document, home: str | None, packet: Packet) -> bool:
        assert not set(rule) - RULE_FIELDS, rule
        if "protocol" in rule and rule["protocol"] != packet.protocol:
            return False
        sides = (("source", packet.source), ("destination", packet.destination))
        return all(self.side_matches(rule.get(side, {}), side, home, address, packet) for side, address in sides)

    def side_matches(self, entity: Document, side: str, home: str | None, address: str, packet: Packet) -> bool:
        assert not set(entity) - ENTITY_FIELDS, entity
        if entity.get("nets") and not any(_inside(address, net) for net in entity["nets"]):
            return False
        if any(_inside(address, net) for net in entity.get("notNets", ())):
            return False
        selector = (entity.get("selector", ""), entity.get("namespaceSelector", ""), home)
        if any(selector[:2]) and address not in self.addresses(*selector):
            return False
        ports = entity.get("ports", ())
        assert side == "destination" or not ports, entity
        return not ports or any(self.port_matches(port, selector, address, packet) for port in ports)

    def addresses(self, selector: str, namespaces: str, home: str | None) -> frozenset[str]:
        """Of all endpoints that the side of a rule selects (R-20, R-21, R-25)."""
        key = (selector, namespaces, home)
        if key not in self._addresses:
            found = (one.addresses for one in self.endpoints if self.side_selects(one.labels, *key))
            self._addresses[key] = frozenset().union(*found)
        return self._addresses[key]

    @staticmethod
    def side_selects(labels: Labels, selector: str, namespaces: str, home: str | None) -> bool:
        if namespaces:
            if not matcher(namespaces, "pcns.", in_some_namespace)(labels):
                return False
        elif home is not None and labels.get(NAMESPACE) != home:
            return False
        return matcher(selector)(labels)

    def port_matches(self, port: int | str, selector: tuple[str, str, str | None], address: str, packet: Packet) -> bool:
        if packet.protocol not in WITH_PORTS:
            return False
        first, colon, last = str(port).partition(":")
        if first.isdigit():
            return int(first) <= packet.port <= int(last if colon else first)
        owners = (one for one in self.endpoints if address in one.addresses)
        if any(selector[:2]):
            owners = (one for one in owners if self.side_selects(one.labels, *selector))  # M-42
        return any(one.has_port(str(port), packet) for one in owners)


def _policy_order(policy: Document) -> tuple[float, bytes]:
    meta, order = policy["metadata"], policy["spec"].get("order")
    identity = "/".join((meta["name"], meta.get("namespace", ""), policy["kind"]))
    return math.inf if order is None else order, identity.encode()


def _inside(address: str, net: str) -> bool:
    return ip_address(address) in ip_network(net)
