"""Kubernetes NetworkPolicies to v3, as pairs of input and output (kubernetes 1.3, 1.4), and what of them is reported."""

from __future__ import annotations

from copy import deepcopy

import pytest

from hostward.convert import kubernetes, kubernetes_ports
from hostward.convert.defaults import filled
from hostward.convert.validate import problems
from hostward.datastore.documents import parse

PODS = "projectcalico.org/orchestrator == 'k8s'"
EXAMPLE = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop, labels: {a: b}, uid: abc, resourceVersion: '7'}
spec:
  podSelector: {matchLabels: {tier: front, app: web}}
  policyTypes: [Egress, Ingress]
  ingress:
  - ports: [{port: 81}, {port: 80}, {protocol: UDP, port: dns}, {port: 8000, endPort: 8010}]
    from:
    - podSelector: {matchExpressions: [{key: role, operator: NotIn, values: [a, b]}]}
    - namespaceSelector: {matchLabels: {team: x}}
    - ipBlock: {cidr: 10.1.2.3/16, except: [10.1.9.0/24]}
  egress:
  - {}
"""


def convert(spec, metadata=None):
    metadata = {"name": "p"} if metadata is None else metadata
    one = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
    copy = deepcopy(one)
    found = kubernetes.to_v3(one)
    assert one == copy
    assert [problems(document) for document in found.documents] == [[] for _ in found.documents]
    return found


def spec_of(spec):
    documents, wrong = convert(spec)
    assert wrong == ()
    return documents[0]["spec"]


def rules_of(*rules, way="ingress"):
    return spec_of({way: list(rules)})[way]


def wrong(spec):
    """What is reported, and what is left of the policy's ingress rules."""
    documents, found = convert(spec)
    return [str(one) for one in found], documents[0]["spec"].get("ingress", []) if documents else None


def test_the_worked_example():
    (parsed,) = parse(EXAMPLE, "test.yaml")
    (document,), found = kubernetes.to_v3(parsed.document)
    assert found == ()
    assert problems(document) == []
    assert (document["apiVersion"], document["kind"]) == ("projectcalico.org/v3", "NetworkPolicy")
    assert document["metadata"] == {"name": "knp.default.web", "namespace": "shop"}
    spec = document["spec"]
    assert (spec["order"], spec["tier"], spec["types"]) == (1000, "default", ["Ingress", "Egress"])
    assert spec["selector"] == f"{PODS} && app == 'web' && tier == 'front'"
    sources = [
        {"selector": f"{PODS} && role not in {{ 'a', 'b' }}"},
        {"selector": PODS, "namespaceSelector": "team == 'x'"},
        {"nets": ["10.1.0.0/16"], "notNets": ["10.1.9.0/24"]},
    ]
    assert spec["ingress"] == [
        {"action": "Allow", "protocol": protocol, "source": source, "destination": {"ports": ports}}
        for protocol, ports in (("TCP", ["80:81", "8000:8010"]), ("UDP", ["dns"]))
        for source in sources
    ]
    assert spec["egress"] == [{"action": "Allow"}]


def test_writers_add_only_what_repeats_tier_and_name():
    (parsed,) = parse(EXAMPLE, "test.yaml")
    (document,), _ = kubernetes.to_v3(parsed.document)
    stored = filled(document)
    assert stored["spec"] == document["spec"]
    assert stored["metadata"] == document["metadata"] | {
        "labels": {"projectcalico.org/tier": "default"},
        "annotations": {"projectcalico.org/metadata": '{"name":"knp.default.web"}'},
    }


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({}, PODS),
        (None, PODS),
        ({"matchLabels": {}, "matchExpressions": []}, PODS),
        ({"matchLabels": {"k": "v"}}, f"{PODS} && k == 'v'"),
        ({"matchLabels": {"k": ""}}, f"{PODS} && k == ''"),
        ({"matchLabels": {"b": "1", "a.b/c": "2"}}, f"{PODS} && a.b/c == '2' && b == '1'"),
        ({"matchExpressions": [{"key": "k", "operator": "In", "values": ["b", "a"]}]}, f"{PODS} && k in {{ 'b', 'a' }}"),
        ({"matchExpressions": [{"key": "k", "operator": "NotIn", "values": ["a"]}]}, f"{PODS} && k not in {{ 'a' }}"),
        ({"matchExpressions": [{"key": "k", "operator": "Exists"}]}, f"{PODS} && has(k)"),
        ({"matchExpressions": [{"key": "k", "operator": "DoesNotExist", "values": []}]}, f"{PODS} && ! has(k)"),
        (
            {
                "matchExpressions": [{"key": "z", "operator": "Exists"}, {"key": "a", "operator": "Exists"}],
                "matchLabels": {"k": "v"},
            },
            f"{PODS} && k == 'v' && has(z) && has(a)",
        ),
    ],
)
def test_pod_selectors(selector, text):
    assert spec_of({"podSelector": selector})["selector"] == text


@pytest.mark.parametrize(
    ("peer", "entity"),
    [
        ({"podSelector": {}}, {"selector": PODS}),
        ({"podSelector": {"matchLabels": {"k": "v"}}}, {"selector": f"{PODS} && k == 'v'"}),
        ({"namespaceSelector": {}}, {"selector": PODS, "namespaceSelector": "all()"}),
        (
            {"namespaceSelector": {"matchExpressions": [{"key": "k", "operator": "DoesNotExist"}]}, "podSelector": None},
            {"selector": PODS, "namespaceSelector": "! has(k)"},
        ),
        (
            {"namespaceSelector": {"matchLabels": {"b": "1", "a": "2"}}, "podSelector": {"matchLabels": {"k": "v"}}},
            {"selector": f"{PODS} && k == 'v'", "namespaceSelector": "a == '2' && b == '1'"},
        ),
        ({"ipBlock": {"cidr": "10.0.0.1/8"}}, {"nets": ["10.0.0.0/8"]}),
        ({"ipBlock": {"cidr": "10.0.0.0/8", "except": []}}, {"nets": ["10.0.0.0/8"]}),
        (
            {"ipBlock": {"cidr": "2001:DB8::/32", "except": ["2001:db8:0:1::/64", "2001:db8::/48"]}},
            {"nets": ["2001:db8::/32"], "notNets": ["2001:db8:0:1::/64", "2001:db8::/48"]},
        ),
    ],
)
def test_peers(peer, entity):
    assert rules_of({"from": [peer]}) == [{"action": "Allow", "source": entity}]
    assert rules_of({"to": [peer], "ports": [{"port": 80}]}, way="egress") == [
        {"action": "Allow", "protocol": "TCP", "destination": entity | {"ports": [80]}}
    ]


@pytest.mark.parametrize("absent", [{}, {"from": None, "ports": None}, {"from": [], "ports": []}])
def test_a_rule_without_peers_and_ports_allows_everything(absent):
    assert rules_of(absent) == [{"action": "Allow"}]


@pytest.mark.parametrize(
    ("ports", "groups"),
    [
        ([{}], [("TCP", None)]),
        ([{"protocol": "SCTP"}], [("SCTP", None)]),
        ([{"port": 80}], [("TCP", [80])]),
        ([{"port": "80"}], [("TCP", [80])]),
        ([{"port": "http", "protocol": "UDP"}], [("UDP", ["http"])]),
        ([{"port": 80, "endPort": 90}], [("TCP", ["80:90"])]),
        ([{"port": 80, "endPort": 80}], [("TCP", [80])]),
        ([{"protocol": "UDP", "port": 1}, {"port": 1}, {"protocol": "SCTP"}], [("SCTP", None), ("TCP", [1]), ("UDP", [1])]),
        ([{"port": 80}, {"protocol": "TCP"}, {"port": 81}], [("TCP", None)]),
        ([{"port": 80}, {"port": "http"}], [("TCP", [80, "http"])]),
        ([{"port": 81}, {"port": "http"}, {"port": 80}], [("TCP", ["http", "80:81"])]),
    ],
)
def test_ports(ports, groups):
    assert rules_of({"ports": ports}) == [
        {"action": "Allow", "protocol": protocol} | ({"destination": {"ports": listed}} if listed else {})
        for protocol, listed in groups
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("1,2", "1:2"),
        ("2,1", "1:2"),
        ("1,2,4", "1:2,4"),
        ("1,1", "1"),
        ("1,2,3,4,80:81,81:90,9090", "1:4,80:90,9090"),
        ("81:90,4,2,foo,80:81,3,1,9090,http", "foo,http,1:4,80:90,9090"),
        ("10:20,12:13,21", "10:21"),
        ("0:65535", "0:65535"),
        ("foo", "foo"),
        ("80,foo", "80,foo"),
        ("", ""),
    ],
)
def test_ports_are_simplified_as_calico_does(given, expected):
    ports = [int(one) if one.isdigit() else one for one in given.split(",") if one]
    assert ",".join(map(str, kubernetes_ports.simplified(ports))) == expected


@pytest.mark.parametrize(
    ("given", "types"),
    [
        (None, ["Ingress"]),
        ([], ["Ingress"]),
        (["Ingress"], ["Ingress"]),
        (["Egress"], ["Egress"]),
        (["Egress", "Ingress", "Egress"], ["Ingress", "Egress"]),
    ],
)
def test_types(given, types):
    spec = spec_of({"policyTypes": given, "egress": [{}]})
    assert spec["types"] == types
    assert spec["egress"] == [{"action": "Allow"}]


@pytest.mark.parametrize("empty", [{}, {"ingress": None}, {"ingress": []}])
def test_no_rules_deny_everything(empty):
    spec = spec_of({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} | empty)
    assert spec == {"tier": "default", "order": 1000, "selector": PODS, "types": ["Ingress", "Egress"]}


def test_a_policy_without_a_spec_denies_ingress_to_all():
    documents, found = convert(None)
    assert found == ()
    assert documents[0]["spec"]["types"] == ["Ingress"]


GOOD = {"podSelector": {"matchLabels": {"a": "b"}}}
KEPT = [{"action": "Allow", "source": {"selector": f"{PODS} && a == 'b'"}}]
BAD_PEERS = [
    ({}, "", "needs podSelector, namespaceSelector or ipBlock"),
    (None, "", "expected a mapping, not null"),
    ({"podSelektor": {}}, ".podSelektor", "unknown field; did you mean 'podSelector'?"),
    (GOOD | {"ipBlock": {"cidr": "10.0.0.0/8"}}, ".ipBlock", "can't stand beside podSelector"),
    (GOOD | {"laterAddition": 1}, ".laterAddition", "unknown field"),
    ({"ipBlock": {}}, ".ipBlock.cidr", "missing"),
    ({"ipBlock": {"cidr": "10.0.0.1"}}, ".ipBlock.cidr", "'10.0.0.1' is no network"),
    ({"ipBlock": {"cidr": "10.0.0.0/33"}}, ".ipBlock.cidr", "is no network"),
    ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/40"]}}, ".ipBlock.except[0]", "is no network"),
    ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}, ".ipBlock.except[0]", "is not a part of 10.0.0.0/8"),
    ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}, ".ipBlock.except[0]", "is not a part of"),
    ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["::/0"]}}, ".ipBlock.except[0]", "is not a part of"),
    ({"ipBlock": {"cidr": "10.0.0.0/8", "except": [f"10.0.{n}.0/24" for n in range(257)]}}, ".ipBlock.except", "257 items"),
    ({"podSelector": {"matchLabels": {"a": "x' || all() || a == 'x"}}}, ".podSelector.matchLabels.a", "a label's value has"),
    ({"podSelector": {"matchLabels": {"a) || has(b": "x"}}}, ".podSelector.matchLabels.a) || has(b", "a key has"),
    ({"podSelector": {"matchLabels": {"a": None}}}, ".podSelector.matchLabels.a", "expected a text, not null"),
    ({"podSelector": {"matchLabels": ["a"]}}, ".podSelector.matchLabels", "expected a mapping"),
    ({"podSelector": {"matchFields": []}}, ".podSelector.matchFields", "unknown field"),
    *(
        ({"namespaceSelector": {"matchExpressions": [expression]}}, f".namespaceSelector.matchExpressions[0]{where}", reason)
        for expression, where, reason in (
            ({"key": "a", "operator": "Gt", "values": ["1"]}, ".operator", "'Gt' is none of In, NotIn, Exists, DoesNotExist"),
            ({"key": "a", "operator": "in", "values": ["1"]}, ".operator", "did you mean 'In'?"),
            ({"key": "a", "operator": "NotIn", "values": []}, ".values", "NotIn needs at least one value"),
            ({"key": "a", "operator": "In"}, ".values", "In needs at least one value"),
            ({"key": "a", "operator": "Exists", "values": ["b"]}, ".values", "Exists takes no values"),
            ({"key": "a", "operator": "In", "values": ["it's"]}, ".values[0]", "a label's value has"),
            ({"key": "a' ", "operator": "Exists"}, ".key", "is no label's key"),
            ({"operator": "Exists"}, ".key", "missing"),
            ({"key": "a"}, ".operator", "missing"),
        )
    ),
]


@pytest.mark.parametrize(("peer", "where", "reason"), BAD_PEERS)
def test_a_peer_that_isnt_understood_is_nobody(peer, where, reason):
    found, rules = wrong({"ingress": [{"from": [peer]}]})
    assert any(one.startswith(f"spec.ingress[0].from[0]{where}: ") and reason in one for one in found), found
    assert all(one.endswith("; this peer is left out") for one in found)
    assert rules == []
    assert wrong({"ingress": [{"from": [GOOD, peer]}]})[1] == KEPT
    assert wrong({"ingress": [{"from": [peer]}, {"from": [GOOD]}]})[1] == KEPT


@pytest.mark.parametrize(
    ("rule", "where", "reason"),
    [
        ({"ports": [{"port": 0}]}, ".ports[0].port", "expected 1 to 65535"),
        ({"ports": [{"port": 65536}]}, ".ports[0].port", "expected 1 to 65535"),
        ({"ports": [{"port": "70000"}]}, ".ports[0].port", "expected 1 to 65535"),
        ({"ports": [{"port": "80:90"}]}, ".ports[0].port", "is no port's name"),
        ({"ports": [{"port": "HTTP"}]}, ".ports[0].port", "is no port's name"),
        ({"ports": [{"port": True}]}, ".ports[0].port", "expected a whole number"),
        ({"ports": [{"port": 80, "endPort": 79}]}, ".ports[0].endPort", "the range 80 to 79 ends before it begins"),
        ({"ports": [{"port": "http", "endPort": 79}]}, ".ports[0].endPort", "needs a numeric port"),
        ({"ports": [{"endPort": 79}]}, ".ports[0].endPort", "needs a numeric port"),
        ({"ports": [{"protocol": "tcp"}]}, ".ports[0].protocol", "did you mean 'TCP'?"),
        ({"ports": [{"port": 80, "sourcePort": 1}]}, ".ports[0].sourcePort", "unknown field"),
        ({"ports": [None]}, ".ports[0]", "expected a mapping"),
        ({"ports": {}}, ".ports", "expected a list"),
        ({"from": {"podSelector": {}}}, ".from", "expected a list"),
        ({"to": [{}]}, ".to", "unknown field"),
        ("all", "", "expected a mapping"),
        (None, "", "expected a mapping"),
    ],
)
def test_a_rule_that_isnt_understood_is_left_out(rule, where, reason):
    found, rules = wrong({"ingress": [rule, {"from": [GOOD]}]})
    assert len(found) == 1
    assert found[0].startswith(f"spec.ingress[0]{where}: ")
    assert reason in found[0]
    assert found[0].endswith("; this rule is left out")
    assert rules == KEPT


@pytest.mark.parametrize(
    ("spec", "message", "rules"),
    [
        ({"ingress": {}}, "spec.ingress: expected a list, not an object; this policy allows nothing in that direction", []),
        (
            {"ingress": [{}], "policyTypes": ["Ingress", "ingress"]},
            "spec.policyTypes[1]: 'ingress' is neither Ingress nor Egress; it is ignored",
            [{"action": "Allow"}],
        ),
        ({"ingress": [{}], "policyTypes": "Egress"}, "spec.policyTypes: expected a list, not 'Egress'", [{"action": "Allow"}]),
        (
            {"ingress": [{}], "onlyAtNight": True},
            "spec.onlyAtNight: unknown field; while it isn't understood, this policy allows nothing",
            [],
        ),
        (
            {"podSelector": {"matchLabels": {"a": 1}}},
            "spec.podSelector.matchLabels.a: expected a text, not 1; quote it; it can't be known which pods this policy is for",
            None,
        ),
    ],
)
def test_what_is_wrong_with_a_policy_as_a_whole(spec, message, rules):
    assert wrong(spec) == ([message], rules)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "metadata.name: missing"),
        ({"name": "P"}, "metadata.name: a name is made of"),
        ({"name": "p", "namespace": "a.b"}, "metadata.namespace: 'a.b' is no namespace"),
        ({"name": "p" * 250}, "metadata.name: "),
        ("p", "metadata: expected a mapping"),
    ],
)
def test_a_policy_without_a_usable_name_isnt_converted(metadata, message):
    documents, found = convert({}, metadata)
    assert documents == ()
    assert str(found[0]).startswith(message)


def test_selectors_longer_than_v3_holds():
    long = {"matchExpressions": [{"key": "k", "operator": "In", "values": [f"{n:060}" for n in range(20)]}]}
    found, rules = wrong({"ingress": [{"from": [{"podSelector": long}, GOOD]}]})
    assert rules == KEPT
    assert found[0].endswith("a selector has at most 1024; this peer is left out")
    found, rules = wrong({"podSelector": long, "ingress": [{}]})
    assert rules is None
    assert found[0].endswith("it can't be known which pods this policy is for")


def test_more_rules_than_v3_holds():
    peers = [{"podSelector": {"matchLabels": {"n": str(number)}}} for number in range(600)]
    found, rules = wrong({"ingress": [{"from": peers, "ports": [{"port": 1}, {"port": 1, "protocol": "UDP"}]}]})
    assert len(rules) == 1024
    assert found == ["spec.ingress: makes 1200 rules, of which a policy holds 1024; the rest allows nothing"]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"apiVersion": "v1", "kind": "Service"},
        {"apiVersion": "v1", "kind": "policy"},
        {"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy"},
        {"apiVersion": ["v1"], "kind": {}},
        {"apiVersion": "extensions/v1beta1", "kind": "NetworkPolicy"},
    ],
)
def test_other_kinds(document):
    assert not kubernetes.is_kubernetes(document)
    assert kubernetes.to_v3(document).documents == ()
    assert "is no kind of Kubernetes that is converted" in str(kubernetes.to_v3(document).problems[0])


@pytest.mark.parametrize(("version", "kind"), sorted(kubernetes.KINDS))
def test_nothing_is_ever_raised(version, kind):
    for junk in (None, 7, "x", [], {}, [{}], {"spec": {}}, {"a": [None]}):
        for field in ("metadata", "spec", "status"):
            one = {"apiVersion": version, "kind": kind, "metadata": {"name": "n"}, "spec": {}, field: junk}
            assert kubernetes.is_kubernetes(one)
            for document in kubernetes.to_v3(one).documents:
                assert problems(document) == []
