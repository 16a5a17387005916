"""The verdicts notice when the converter forgets, or turns round, any one thing that policies say.

One of the converter's own functions at a time is replaced by one that is wrong in one point: that fault is what the rows have
to find, and a converter that is whole can't show which rows would find it. What comes after the converter is whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from hostward.convert import kubernetes_networkpolicy as policies
from hostward.convert import (
    kubernetes_pods,
    kubernetes_ports,
    kubernetes_profiles,
    kubernetes_rules,
    kubernetes_selectors,
)
from tests.conformance.cases import STEPS
from tests.lab import kubernetes_worlds as worlds
from tests.lab.kubernetes_model import Cluster
from tests.lab.pipeline import Node
from tests.lab.pod_model import Packet

Document = dict[str, Any]
Asked = list[tuple[Packet, tuple[bool, bool]]]
RANDOM = "random policies"


def rows(data: str) -> Iterator[tuple[list[Document], Asked]]:
    """Clusters with packets and what must become of them: those of the public data whose policies hold a text; or random ones,
    for what the public data has nothing of."""
    if data == RANDOM:
        for seed in range(60):
            random = Random(seed)
            objects = worlds.cluster(random, random.randint(1, 4))
            cluster = Cluster(objects)
            yield objects, [(packet, cluster.verdict(packet)) for packet in worlds.packets(random, objects, 120)]
        return
    for step in STEPS:
        if data in json.dumps(step.content["policies"]):
            yield list(step.objects()), [(one.packet, (one.expected[0] == "1", one.expected[1] == "1")) for one in step.asked()]


# --- one wrong function each ------------------------------------------------------------------------------------------------
terms = kubernetes_selectors._terms
pods_entity = kubernetes_rules.pods_entity
entity = policies._entity
rule = policies._rule
types = policies._types
of_policy = kubernetes_ports.of_policy
rules = kubernetes_rules.rules
addresses = kubernetes_pods._addresses
Patch = tuple[object, str, Any]


def replaced(old: str, new: str) -> Patch:
    """A word of a selector's text for another one."""
    return kubernetes_selectors, "_terms", lambda selector: (term.replace(old, new) for term in terms(selector))


def other_selector(change: Callable[[Document], Document]) -> Patch:
    return kubernetes_selectors, "_terms", lambda selector: terms(change(selector))


def expressions(change: Callable[[list[Document]], list[Document]]) -> Patch:
    return other_selector(lambda one: {**one, "matchExpressions": change(one.get("matchExpressions") or [])})


def other_peer(change: Callable[[Document], Document]) -> Patch:
    return policies, "_entity", lambda peer, *more: entity(change(peer), *more)


def other_block(change: Callable[[Document], Document]) -> Patch:
    return other_peer(lambda peer: {"ipBlock": change(peer["ipBlock"])} if peer.get("ipBlock") else peer)


def other_rule(change: Callable[[Document], Document]) -> Patch:
    return policies, "_rule", lambda one, *more: rule(change(one), *more)


def other_ports(change: Callable[[Document], Document]) -> Patch:
    return kubernetes_ports, "of_policy", lambda entries: of_policy([change(entry) for entry in entries])


def without(name: str) -> Callable[[Document], Document]:
    return lambda one: {key: value for key, value in one.items() if key != name}


def of_lists(change: Callable[[list[Any]], list[Any]], *names: str) -> Callable[[Document], Document]:
    return lambda one: {key: change(value) if key in names and value else value for key, value in one.items()}


def first_only(items: list[Any]) -> list[Any]:
    return items[:1]


def wrong_side(direction: str, *more: Any) -> Any:
    return rules("egress" if direction == "ingress" else "ingress", *more)


MUTATIONS: dict[str, tuple[str, Patch]] = {
    # Selectors of labels.
    "In is NotIn": ('"In"', replaced(" in {", " not in {")),
    "NotIn is In": ('"NotIn"', replaced(" not in {", " in {")),
    "Exists is DoesNotExist": (RANDOM, replaced("has(", "! has(")),
    "DoesNotExist is Exists": (RANDOM, replaced("! has(", "has(")),
    "equal is unequal": ("matchLabels", replaced(" == ", " != ")),
    "no matchLabels": ("matchLabels", other_selector(without("matchLabels"))),
    "one matchLabel": (RANDOM, (kubernetes_selectors, "_terms", lambda selector: list(terms(selector))[:1])),
    "no matchExpressions": ("matchExpressions", expressions(lambda _: [])),
    "the first expression only": (RANDOM, expressions(first_only)),
    "the first value only": ('"In"', expressions(lambda found: [of_lists(first_only, "values")(one) for one in found])),
    # Whom a policy is for.
    "for all pods": ("podSelector", (policies, "selectors", SimpleNamespace(pods=lambda _: kubernetes_selectors.PODS))),
    "types are ignored": ('"policyTypes": ["Ingress"]', (policies, "_types", lambda *_: ["Ingress", "Egress"])),
    "never Egress": ("policyTypes", (policies, "_types", lambda *_: ["Ingress"])),
    "never Ingress": ("policyTypes", (policies, "_types", lambda *_: ["Egress"])),
    "without types both": (
        RANDOM,
        (policies, "_types", lambda spec, found: types(spec, found) if spec.get("policyTypes") else ["Ingress", "Egress"]),
    ),
    # Peers.
    "any pod is a peer": ("podSelector", (policies, "pods_entity", lambda _, spaces: pods_entity(None, spaces))),
    "namespaceSelector is ignored": ("namespaceSelector", (policies, "pods_entity", lambda pods, _: pods_entity(pods, None))),
    "any namespace's pods are peers": (
        "namespaceSelector",
        (policies, "pods_entity", lambda pods, spaces: pods_entity(pods, None if spaces is None else {})),
    ),
    "no namespaceSelector is every namespace": (
        "podSelector",
        (policies, "pods_entity", lambda pods, spaces: pods_entity(pods, spaces or {})),
    ),
    "except is ignored": ("except", other_block(without("except"))),
    "the first except only": (RANDOM, other_block(of_lists(first_only, "except"))),
    "any address is in a block": (
        "ipBlock",
        other_block(lambda block: block | {"cidr": "::/0" if ":" in block["cidr"] else "0.0.0.0/0"}),
    ),
    "a block is its first address": (
        "ipBlock",
        other_block(lambda block: {"cidr": block["cidr"].partition("/")[0] + ("/128" if ":" in block["cidr"] else "/32")}),
    ),
    "the first peer only": ('{"podSelector": {}}, {"namespaceSelector": {}}', other_rule(of_lists(first_only, "from", "to"))),
    "peers are ignored": ("podSelector", other_rule(lambda one: without("from")(without("to")(one)))),
    "no peer is nobody": (
        "ports",
        (policies, "_rule", lambda one, *more: rule(one, *more) if one.get("from") or one.get("to") else ()),
    ),
    "the other side": ("podSelector", (policies, "rules", wrong_side)),
    # Rules.
    "the first rule only": (
        RANDOM,
        (
            policies,
            "_rules",
            lambda spec, way, found: (
                made for index, one in enumerate((spec.get(way) or ())[:1]) for made in rule(one, str(index), way, found)
            ),
        ),
    ),
    "no rules": ("ports", (policies, "_rules", lambda *_: ())),
    # Ports.
    "the protocol is always TCP": ('"protocol": "UDP", "port": 80', other_ports(lambda port: port | {"protocol": "TCP"})),
    "the protocol is ignored": (
        '"protocol"',
        (
            kubernetes_ports,
            "of_policy",
            lambda entries: [(protocol, ports) for _, ports in of_policy(entries) for protocol in ("TCP", "UDP", "SCTP")],
        ),
    ),
    "SCTP is UDP": ("SCTP", other_ports(lambda port: port | ({"protocol": "UDP"} if port.get("protocol") == "SCTP" else {}))),
    "the port is ignored": ('"port"', other_ports(lambda port: {"protocol": port.get("protocol", "TCP")})),
    "names are ignored": (
        '"serve-',
        other_ports(lambda port: without("port")(port) if isinstance(port.get("port"), str) else port),
    ),
    "a name is no port": ('"serve-', (kubernetes_pods, "_ports", lambda *_: ())),
    "endPort is ignored": ("endPort", other_ports(without("endPort"))),
    "endPort isn't part of it": (
        "endPort",
        other_ports(lambda port: port | {"endPort": max(port["port"], port["endPort"] - 1)} if "endPort" in port else port),
    ),
    "the first port only": ('{"port": 80}, {"port": 81}', other_rule(of_lists(first_only, "ports"))),
    "no ports are all of TCP": ('"from"', (kubernetes_ports, "EVERYTHING", (("TCP", []),))),
    # What pods are.
    "namespaces lend no labels": ("namespaceSelector", (kubernetes_profiles, "_labels", lambda *_: {"labelsToApply": {}})),
    "one address only": (RANDOM, (kubernetes_pods, "_addresses", lambda *given: addresses(*given)[:1])),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_converter_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, (module, function, wrong) = MUTATIONS[name]
    monkeypatch.setattr(module, function, wrong)
    for objects, asked in rows(data):
        node = Node(objects)
        if any(node.verdict(packet) != expected for packet, expected in asked):
            return
    pytest.fail("no row fails")
