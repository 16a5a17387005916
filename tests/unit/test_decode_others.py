"""Endpoints, sets, tiers, cluster information and whole documents: what is understood and what D4 makes of the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hostward.model.decode import MAX_PROBLEMS, Decoded, decode
from hostward.model.keys import KINDS, ResourceKey
from hostward.model.resources import (
    BUILT_IN_TIERS,
    ClusterInformation,
    Configuration,
    HostEndpoint,
    NamedPort,
    NetworkSet,
    Node,
    StagedPolicy,
    Tier,
)
from hostward.model.rules import Action
from tests.unit.decoding import endpoint, paths, stored

WHOLE: dict[str, Any] = {
    "node": "w1",
    "interfaceName": "eth1",
    "expectedIPs": ["192.0.2.10", "2001:DB8:0::1"],
    "profiles": ["b", "a"],
    "ports": [{"name": "ssh", "protocol": "TCP", "port": 22}, {"name": "dns", "protocol": 17, "port": 53}],
}
UNDERSTOOD = HostEndpoint(
    "x",
    "w1",
    "eth1",
    ("192.0.2.10", "2001:db8::1"),
    ("b", "a"),
    (NamedPort("ssh", 6, 22), NamedPort("dns", 17, 53)),
    {"ibm.role": "worker_public", "odd": "a value, with: anything\n"},
)
LABELS = {**UNDERSTOOD.labels}


# --- host endpoints -----------------------------------------------------------------------------------------------------
def test_a_host_endpoint() -> None:
    assert endpoint(WHOLE, labels=LABELS) == (UNDERSTOOD, [])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"node": "w1", "interfaceName": "*"}, HostEndpoint("x", "w1", "*")),
        ({"node": "w1", "interfaceName": "bond0.100", "profiles": []}, HostEndpoint("x", "w1", "bond0.100")),
        (
            {"node": "w1", "interfaceName": "", "expectedIPs": ["10.0.0.1", "10.0.0.1"]},
            HostEndpoint("x", "w1", "", ("10.0.0.1",)),
        ),
        (
            {"node": "w1", "interfaceName": "e", "ports": [{"name": "a", "protocol": "sctp", "port": 1}], "expectedIPs": None},
            HostEndpoint("x", "w1", "e", ports=(NamedPort("a", 132, 1),)),
        ),
    ],
)
def test_more_host_endpoints(spec: dict[str, Any], expected: HostEndpoint) -> None:
    assert endpoint(spec) == (expected, [])


BAD_PORTS: list[object] = [
    {"name": "a", "protocol": "ICMP", "port": 1},
    {"name": "a", "protocol": "TCP", "port": 0},
    {"name": "a", "protocol": "TCP", "port": 65536},
    {"name": "a", "protocol": "TCP", "port": "22"},
    {"name": "a", "protocol": "TCP", "port": True},
    {"name": "a", "protocol": True, "port": 1},
    {"name": "", "protocol": "TCP", "port": 1},
    {"name": "a b", "protocol": "TCP", "port": 1},
    {"name": "a", "protocol": "TCP", "port": 1, "x": 1},
    {"name": "a", "port": 1},
    "ssh",
    None,
]


@pytest.mark.parametrize(
    ("fields", "where", "kept"),
    [
        ({"colour": 1}, ["spec.colour"], {}),
        ({"profiles": ["a", 5]}, ["spec.profiles[1]"], {"profiles": ()}),
        ({"profiles": "a"}, ["spec.profiles"], {"profiles": ()}),
        ({"expectedIPs": ["10.0.0.0/24", "10.0.0.1"]}, ["spec.expectedIPs[0]"], {"expected_ips": ("10.0.0.1",)}),
        ({"expectedIPs": "10.0.0.1"}, ["spec.expectedIPs"], {"expected_ips": ()}),
        # The interface can't be read, but the addresses say which it is.
        ({"interfaceName": "sixteen-letters."}, ["spec.interfaceName"], {"interface": ""}),
        ({"interfaceName": 5}, ["spec.interfaceName"], {"interface": ""}),
        ({"interfaceName": "eth+"}, ["spec.interfaceName"], {"interface": ""}),
        ({"interfaceName": "a/b"}, ["spec.interfaceName"], {"interface": ""}),
        ({"interfaceName": "eth0\n"}, ["spec.interfaceName"], {"interface": ""}),
        *(({"ports": [port]}, ["spec.ports[0]"], {"ports": ()}) for port in BAD_PORTS),
    ],
)
def test_an_endpoint_that_is_not_understood_is_isolated(
    fields: dict[str, Any], where: list[str], kept: dict[str, object]
) -> None:
    value, problems = endpoint({**WHOLE, **fields}, labels=LABELS)
    assert problems == where
    assert value is not None
    assert value.isolated
    for name in ("name", "node", "interface", "expected_ips", "profiles", "labels"):
        assert getattr(value, name) == kept.get(name, getattr(UNDERSTOOD, name))


@pytest.mark.parametrize("labels", [{"a": 5, "ibm.role": "x"}, [], "x"])
def test_labels_that_are_not_understood_isolate(labels: object) -> None:
    value, problems = endpoint(WHOLE, labels=labels)
    assert value is not None
    assert (value.isolated, dict(value.labels)) == (True, {"ibm.role": "x"} if isinstance(labels, dict) else {})
    assert problems == (["metadata.labels.a"] if isinstance(labels, dict) else ["metadata.labels"])


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({**WHOLE, "node": ""}, ["spec.node"]),
        ({**WHOLE, "node": 5}, ["spec.node", "spec.node"]),
        ({"node": "w1"}, ["spec"]),
        ({"node": "w1", "interfaceName": "a b", "expectedIPs": ["x"]}, ["spec.interfaceName", "spec.expectedIPs[0]", "spec"]),
        (None, ["spec.node"]),
        ("x", ["spec", "spec.node"]),
    ],
)
def test_an_endpoint_of_no_node_or_interface_can_only_be_reported(spec: object, where: list[str]) -> None:
    assert endpoint(spec) == (None, where)


# --- network sets -------------------------------------------------------------------------------------------------------
def test_a_network_set() -> None:
    decoded = stored(
        "GlobalNetworkSet", {"nets": ["203.0.113.7/24", "10.0.0.1", "::/0", "10.0.0.1"]}, "s", labels={"role": "m"}
    )
    assert decoded == Decoded(NetworkSet("s", ("203.0.113.0/24", "10.0.0.1/32", "::/0"), {"role": "m"}))
    assert stored("GlobalNetworkSet", {}, "s") == Decoded(NetworkSet("s"))


@pytest.mark.parametrize(
    ("spec", "labels", "nets", "kept", "where"),
    [
        ({"nets": ["10.0.0.0/8", "bad", None, "10.0.0.1/33"]}, {"a": "b"}, ("10.0.0.0/8",), {"a": "b"},
         ["spec.nets[1]", "spec.nets[2]", "spec.nets[3]"]),
        ({"nets": ["10.0.0.0/8"]}, {"a": "b", "c": 5}, ("10.0.0.0/8",), {"a": "b"}, ["metadata.labels.c"]),
        ({"nets": ["10.0.0.0/8"], "x": 1}, {}, ("10.0.0.0/8",), {}, ["spec.x"]),
        ({"nets": {"10.0.0.0/8": 1}}, {}, (), {}, ["spec.nets"]),
        ({"nets": ["1" * 100_000]}, {}, (), {}, ["spec.nets[0]"]),
        (None, {"a": "b"}, (), {"a": "b"}, ["spec"]),
        ({"nets": []}, {"projectcalico.org/namespace": "n"}, (), {}, ["metadata.labels['projectcalico.org/namespace']"]),
    ],
)  # fmt: skip
def test_of_a_network_set_the_members_that_are_understood(
    spec: object, labels: dict[str, Any], nets: tuple[str, ...], kept: dict[str, str], where: list[str]
) -> None:
    decoded = stored("GlobalNetworkSet", spec, "s", labels=labels)
    assert (decoded.value, paths(decoded)) == (NetworkSet("s", nets, kept), where)


# --- tiers --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "spec", "expected", "where"),
    [
        ("t", {"order": 5, "defaultAction": "Pass"}, Tier("t", 5.0, Action.PASS), []),
        ("t", {"order": 5}, Tier("t", 5.0), []),
        ("t", {"order": None, "defaultAction": "Deny"}, Tier("t", 1_000_000.0), []),
        ("t", {"order": 5, "defaultAction": "pass"}, Tier("t", 5.0), ["spec.defaultAction"]),
        ("t", {"order": 5, "defaultAction": ["Pass"]}, Tier("t", 5.0), ["spec.defaultAction"]),
        ("t", {"order": "5", "defaultAction": "Pass"}, Tier("t", None, Action.PASS), ["spec.order"]),
        ("t", {"order": 5, "x": 1}, Tier("t", 5.0), ["spec.x"]),
        ("t", None, Tier("t", None), ["spec"]),
        ("default", {"order": 1000000, "defaultAction": "Deny"}, BUILT_IN_TIERS["default"], []),
        ("default", {}, BUILT_IN_TIERS["default"], []),
        ("default", {"order": 1, "defaultAction": "Pass"}, BUILT_IN_TIERS["default"], ["spec.order", "spec.defaultAction"]),
        ("kube-admin", {"defaultAction": "Deny"}, BUILT_IN_TIERS["kube-admin"], ["spec.defaultAction"]),
        ("kube-baseline", "x", BUILT_IN_TIERS["kube-baseline"], ["spec"]),
    ],
)
def test_tiers(name: str, spec: object, expected: Tier, where: list[str]) -> None:
    decoded = stored("Tier", spec, name)
    assert (decoded.value, paths(decoded)) == (expected, where)


# --- cluster information, configuration, nodes --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("spec", "expected", "where"),
    [
        ({"clusterGUID": "g", "datastoreReady": True, "calicoVersion": "v3", "new": {}}, ClusterInformation("g", True), []),
        ({"clusterGUID": "g", "datastoreReady": False}, ClusterInformation("g", False), []),
        ({"clusterGUID": "g"}, ClusterInformation("g", False), []),
        ({"clusterGUID": "g", "datastoreReady": None}, ClusterInformation("g", False), []),
        ({"clusterGUID": "g", "datastoreReady": "true"}, ClusterInformation("g", False), ["spec.datastoreReady"]),
        ({"clusterGUID": "g", "datastoreReady": 1}, ClusterInformation("g", False), ["spec.datastoreReady"]),
        ({"clusterGUID": 5, "datastoreReady": True}, ClusterInformation("", False), ["spec.clusterGUID"]),
        ([], ClusterInformation("", False), ["spec"]),
        (None, ClusterInformation("", False), []),
    ],
)
def test_ready_only_for_an_explicit_true(spec: object, expected: ClusterInformation, where: list[str]) -> None:
    decoded = stored("ClusterInformation", spec, "default")
    assert (decoded.value, paths(decoded)) == (expected, where)


def test_a_configuration_is_its_spec() -> None:
    spec = {"chainInsertMode": "Insert", "failsafeInboundHostPorts": [{"protocol": "TCP", "port": 22}], "none": None}
    expected = Configuration("node.w1", {name: spec[name] for name in ("chainInsertMode", "failsafeInboundHostPorts")})
    assert stored("FelixConfiguration", spec, "node.w1") == Decoded(expected)
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    decoded = stored("FelixConfiguration", {"a": 1, "deep": deep}, "node.w1")
    assert (decoded.value, paths(decoded)) == (Configuration("node.w1", {"a": 1}), ["spec.deep"])


def test_a_node_is_its_name() -> None:
    assert stored("Node", {"bgp": {"anything": []}}, "w1", status={}) == Decoded(Node("w1"))


# --- whole documents ----------------------------------------------------------------------------------------------------
BROKEN = [
    b"", b"{", b"[]", b"null", b'"x"', b"5", b"NaN", b"\x00", b"\xff\xfe", b'{"a":"\xff"}', b'{"a":"\\ud800"}', b"{} {}",
    b"[" * 5000, b'{"spec":' * 5000, b'{"spec":' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"a":1e400,"b":' + b"[" * 5000,
    b'{"a":1e400,"b":"\\ud800"}', b'{"a":1e400,"b":NaN}', b'{"a":1e400,}',
]  # fmt: skip


@pytest.mark.parametrize("raw", BROKEN)
def test_what_stands_for_a_document_that_cannot_be_read(raw: bytes) -> None:
    for kind in ("GlobalNetworkPolicy", "HostEndpoint", "GlobalNetworkSet", "Profile", "Node", "FelixConfiguration"):
        decoded = decode(ResourceKey(kind, "", "x"), raw)
        assert decoded.value is None
        assert paths(decoded) == [""]
    assert decode(ResourceKey("Tier", "", "x"), raw).value == Tier("x", None)
    assert decode(ResourceKey("Tier", "", "kube-admin"), raw).value == BUILT_IN_TIERS["kube-admin"]
    assert decode(ResourceKey("ClusterInformation", "", "default"), raw).value == ClusterInformation("", False)


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"1" + b"0" * 5000, b"-1" + b"0" * 400])
def test_a_huge_number_spoils_only_its_field(number: bytes) -> None:
    raw = b'{"spec":{"selector":"has(a)","ingress":[{"action":"Deny","protocol":%s},{"action":"Allow"}]}}' % number
    decoded = decode(ResourceKey("GlobalNetworkPolicy", "", "x"), raw)
    assert paths(decoded) == ["spec.ingress[0].protocol"]
    assert [rule.action for rule in getattr(decoded.value, "ingress_rules", ())] == [Action.DENY, Action.ALLOW]
    assert paths(decode(ResourceKey("GlobalNetworkPolicy", "", "x"), b'{"spec":{"order":%s}}' % number)) == ["spec.order"]


def test_of_a_name_given_twice_the_last_wins() -> None:
    raw = b'{"spec":{"nets":["10.0.0.1"],"nets":["10.0.0.2"]}}'
    assert decode(ResourceKey("GlobalNetworkSet", "", "x"), raw) == Decoded(NetworkSet("x", ("10.0.0.2/32",)))


def test_kinds_that_enforcement_does_not_use() -> None:
    for kind in ("IPPool", "KubeControllersConfiguration"):
        assert decode(ResourceKey(kind, "", "x"), b"\xff") == Decoded(None)


def test_staged_policies_are_only_known_to_exist() -> None:
    for kind in (kind for kind in KINDS.values() if kind.name.startswith("Staged")):
        key = ResourceKey(kind.name, "n" if kind.namespaced else "", "x")
        assert decode(key, b"\xff") == Decoded(StagedPolicy(key))


def test_problems_are_few_short_and_on_one_line() -> None:
    spec = {"nets": [*range(500), "x" * 100_000, "a\nb"], "y" * 100_000: 1, "n\n": 10**30}
    decoded = stored("GlobalNetworkSet", spec)
    assert len(decoded.problems) == MAX_PROBLEMS + 1
    assert str(decoded.problems[-1]) == "and 484 more problems"
    for raw in (
        b'{"spec":{"nets":["%s","\\n",1e999,%s]}}' % (b"x" * 100_000, b"9" * 5000),
        json.dumps({"spec": spec}).encode(),
    ):
        for problem in decode(ResourceKey("GlobalNetworkSet", "", "x"), raw).problems:
            assert len(str(problem)) < 300
            assert str(problem).isprintable()
