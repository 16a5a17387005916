"""AdminNetworkPolicies and ClusterNetworkPolicies to their tiers (kubernetes 1.7), and how what isn't understood of them
fails closed (decision D4)."""

from __future__ import annotations

from copy import deepcopy

import pytest

from hostward.convert import kubernetes
from hostward.convert.defaults import filled
from hostward.convert.validate import problems
from tests.lab.pod_model import Packet, World

PODS = "projectcalico.org/orchestrator == 'k8s'"
V1, V2 = "policy.networking.k8s.io/v1alpha1", "policy.networking.k8s.io/v1alpha2"
SHOP = {"namespaces": {"matchLabels": {"team": "shop"}}}
BANK = {"namespaces": {"matchLabels": {"team": "bank"}}}


def convert(kind, spec, version=V2, name="n.1.x"):
    one = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    copy = deepcopy(one)
    found = kubernetes.to_v3(one)
    assert one == copy
    assert [problems(document) for document in found.documents] == [[] for _ in found.documents]
    return found


def cluster(tier="Admin", **rest):
    return convert("ClusterNetworkPolicy", {"tier": tier, "priority": 7, "subject": SHOP} | rest)


def only(found):
    assert found.problems == ()
    return found.documents[-1]


def ingress(*rules):
    """The converted rules of a ClusterNetworkPolicy, and what is reported."""
    documents, found = cluster(ingress=list(rules))
    return documents[0]["spec"].get("ingress", []), [str(one) for one in found]


@pytest.mark.parametrize(("tier", "stored"), [("Admin", "kube-admin"), ("Baseline", "kube-baseline")])
def test_a_cluster_policy(tier, stored):
    tcp = {"tcp": {"destinationPort": {"number": 80}}}
    document = only(cluster(tier, ingress=[{"name": "web in", "action": "Accept", "from": [SHOP], "protocols": [tcp]}]))
    assert (document["kind"], document["metadata"]) == ("GlobalNetworkPolicy", {"name": "kcnp.n.1.x"})
    assert document["spec"] == {
        "tier": stored,
        "order": 7,
        "selector": PODS,
        "namespaceSelector": "team == 'shop'",
        "types": ["Ingress"],
        "ingress": [
            {
                "action": "Allow",
                "protocol": "TCP",
                "source": {"namespaceSelector": "team == 'shop'"},
                "destination": {"ports": [80]},
                "metadata": {"annotations": {"name": "web in"}},
            }
        ],
    }


@pytest.mark.parametrize(
    ("kind", "spec", "prefix", "tier", "order"),
    [
        ("AdminNetworkPolicy", {"priority": 9}, "kanp.adminnetworkpolicy.", ("adminnetworkpolicy", 1000), 9),
        (
            "BaselineAdminNetworkPolicy",
            {},
            "kbanp.baselineadminnetworkpolicy.",
            ("baselineadminnetworkpolicy", 10_000_000),
            1000,
        ),
    ],
)
def test_an_admin_policy_brings_its_tier(kind, spec, prefix, tier, order):
    rule = {"action": "Deny", "to": [{"pods": {"podSelector": {"matchLabels": {"a": "b"}}, "namespaceSelector": {}}}]}
    subject = {"pods": {"namespaceSelector": {"matchLabels": {"x": "y"}}, "podSelector": {"matchLabels": {"z": "w"}}}}
    (stored, policy), found = convert(kind, spec | {"subject": subject, "egress": [rule]}, V1)
    assert found == ()
    assert stored["kind"] == "Tier"
    assert stored["metadata"] == {"name": tier[0]}
    assert stored["spec"] == {"order": tier[1], "defaultAction": "Pass"}
    assert policy["metadata"] == {"name": f"{prefix}n.1.x"}
    assert policy["spec"] == {
        "tier": tier[0],
        "order": order,
        "selector": f"{PODS} && z == 'w'",
        "namespaceSelector": "x == 'y'",
        "types": ["Egress"],
        "egress": [{"action": "Deny", "destination": {"selector": f"{PODS} && a == 'b'", "namespaceSelector": "all()"}}],
    }


def test_a_policy_without_rules_is_of_no_direction():
    assert "types" not in only(cluster(ingress=[], egress=None))["spec"]


@pytest.mark.parametrize(
    ("protocols", "groups"),
    [
        (None, [(None, None)]),
        ([], [(None, None)]),
        ([{"tcp": {}}], [("TCP", None)]),
        ([{"udp": {"destinationPort": {"range": {"start": 5, "end": 9}}}}], [("UDP", ["5:9"])]),
        (
            [{"sctp": {"destinationPort": {"number": 1}}}, {"tcp": {"destinationPort": {"number": 2}}}],
            [("SCTP", [1]), ("TCP", [2])],
        ),
        ([{"destinationNamedPort": "web"}], [(None, ["web"])]),
        ([{"destinationNamedPort": "web"}, {"tcp": {"destinationPort": {"number": 2}}}], [(None, ["web"]), ("TCP", [2])]),
    ],
)
def test_protocols(protocols, groups):
    rules, found = ingress({"action": "Deny", "from": [SHOP], "protocols": protocols})
    assert found == []
    assert [(rule.get("protocol"), rule.get("destination", {}).get("ports")) for rule in rules] == groups


@pytest.mark.parametrize(
    ("ports", "groups"),
    [
        ([{"portNumber": {"port": 80}}], [("TCP", [80])]),
        (
            [{"portNumber": {"protocol": "UDP", "port": 80}}, {"portRange": {"start": 1, "end": 2}}],
            [("TCP", ["1:2"]), ("UDP", [80])],
        ),
        ([{"namedPort": "web"}], [(None, ["web"])]),
    ],
)
def test_ports_of_the_older_version(ports, groups):
    spec = {"priority": 1, "subject": SHOP, "ingress": [{"action": "Pass", "from": [SHOP], "ports": ports}]}
    rules = only(convert("AdminNetworkPolicy", spec, V1))["spec"]["ingress"]
    assert [(rule.get("protocol"), rule["destination"]["ports"]) for rule in rules] == groups


def test_networks_of_both_families_are_rules_of_their_own():
    networks = ["2001:db8::1/32", "10.0.0.1/8", "192.0.2.0/24"]
    document = only(cluster(egress=[{"action": "Deny", "to": [{"networks": networks}]}]))
    assert [rule["destination"] for rule in document["spec"]["egress"]] == [
        {"nets": ["10.0.0.0/8", "192.0.2.0/24"]},
        {"nets": ["2001:db8::/32"]},
    ]


BAD = {"bogus": 1}
TCP80 = {"tcp": {"destinationPort": {"number": 80}}}
DEST80 = {"protocol": "TCP", "destination": {"ports": [80]}}
FROM_SHOP, FROM_BANK = ({"source": {"namespaceSelector": f"team == '{team}'"}} for team in ("shop", "bank"))


@pytest.mark.parametrize(
    ("rule", "rules", "where"),
    [
        # An Accept lets through only what is understood.
        ({"action": "Accept", "from": [BAD]}, [], ".from[0].bogus"),
        ({"action": "Accept", "from": [BAD, SHOP]}, [{"action": "Allow"} | FROM_SHOP], ".from[0].bogus"),
        ({"action": "Accept", "from": [SHOP], "protocols": [TCP80, BAD]}, [], ".protocols[1].bogus"),
        ({"action": "Accept", "from": [SHOP], "onlyAtNight": 1}, [], ".onlyAtNight"),
        ({"action": "Accept", "from": "all"}, [], ".from"),
        # A Deny denies on what is understood of it.
        (
            {"action": "Deny", "from": [SHOP, BAD], "protocols": [TCP80]},
            [{"action": "Deny"} | FROM_SHOP | DEST80, {"action": "Deny"} | DEST80],
            ".from[1].bogus",
        ),
        (
            {"action": "Deny", "from": [SHOP], "protocols": [TCP80, BAD]},
            [{"action": "Deny"} | FROM_SHOP | DEST80, {"action": "Deny"} | FROM_SHOP],
            ".protocols[1].bogus",
        ),
        ({"action": "Deny", "from": [BAD], "protocols": BAD}, [{"action": "Deny"}], ".from[0].bogus"),
        ({"action": "Deny", "from": [SHOP], "onlyAtNight": 1}, [{"action": "Deny"} | FROM_SHOP], ".onlyAtNight"),
        # What a Pass isn't understood to pass on is denied, what it is stays passed on.
        (
            {"action": "Pass", "from": [BAD, SHOP], "protocols": [TCP80]},
            [{"action": "Pass"} | FROM_SHOP | DEST80, {"action": "Deny"} | DEST80],
            ".from[0].bogus",
        ),
        ({"action": "Pass", "from": [SHOP], "onlyAtNight": 1}, [{"action": "Deny"} | FROM_SHOP], ".onlyAtNight"),
        # An action that isn't known denies.
        ({"action": "Allow", "from": [SHOP]}, [{"action": "Deny"} | FROM_SHOP], ".action"),
        ({"action": None, "from": [SHOP]}, [{"action": "Deny"} | FROM_SHOP], ".action"),
        ({"from": [SHOP], "action": ["Deny"]}, [{"action": "Deny"} | FROM_SHOP], ".action"),
        (7, [{"action": "Deny"}], ""),
        # No peer is nobody.
        ({"action": "Deny", "from": []}, [], ".from"),
        ({"action": "Deny"}, [], ".from"),
        # A name is no criterion.
        ({"action": "Accept", "from": [SHOP], "name": 7}, [{"action": "Allow"} | FROM_SHOP], ".name"),
        # Both kinds of peer in one, unsupported ports, ranges the wrong way round.
        ({"action": "Accept", "from": [SHOP | {"pods": {}}]}, [], ".from[0]"),
        ({"action": "Accept", "from": [SHOP], "protocols": [{"tcp": {}, "udp": {}}]}, [], ".protocols[0]"),
        (
            {
                "action": "Accept",
                "from": [SHOP],
                "protocols": [{"tcp": {"destinationPort": {"range": {"start": 2, "end": 1}}}}],
            },
            [],
            ".protocols[0].tcp.destinationPort.range.end",
        ),
    ],
)
def test_what_isnt_understood_fails_closed_and_hides_nothing(rule, rules, where):
    made, found = ingress(rule, {"action": "Pass", "from": [BANK]})
    assert made == [*rules, {"action": "Pass"} | FROM_BANK]
    assert any(one.startswith(f"spec.ingress[0]{where}: ") for one in found), found


@pytest.mark.parametrize(
    "peer", [{"nodes": {}}, {"domainNames": ["example.com"]}, {"networks": []}, {"networks": ["10.0.0.1"]}]
)
def test_egress_peers_that_a_packet_filter_cant_match(peer):
    for action, rules in (("Accept", None), ("Deny", [{"action": "Deny"}])):
        documents, found = cluster(egress=[{"action": action, "to": [peer]}])
        assert documents[0]["spec"].get("egress") == rules
        assert found[0].path.startswith("spec.egress[0].to[0].")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"tier": "Default"}, "spec.tier"),
        ({"tier": None}, "spec.tier"),
        ({"priority": None}, "spec.priority"),
        ({"priority": "1"}, "spec.priority"),
        ({"priority": 1001}, "spec.priority"),
        ({"subject": None}, "spec.subject"),
        ({"subject": {}}, "spec.subject"),
        ({"subject": {"namespaces": {"matchLabels": {"a": "it's"}}}}, "spec.subject.namespaces.matchLabels.a"),
    ],
)
def test_a_policy_of_which_subject_or_place_isnt_known_isnt_converted(change, where):
    documents, found = cluster(**change)
    assert documents == ()
    assert found[0].path == where


def test_while_a_field_of_the_policy_isnt_known_it_only_denies():
    rules = [{"action": action, "from": [SHOP]} for action in ("Accept", "Pass", "Deny")]
    (document,), found = cluster(ingress=rules, onlyAtNight=True)
    assert document["spec"]["ingress"] == [{"action": "Deny"} | FROM_SHOP]
    assert "this policy only denies" in str(found[0])


def test_more_rules_than_v3_holds_end_in_a_deny():
    networks = [{"networks": ["10.0.0.0/8", "::/0"]} for _ in range(600)]
    (document,), found = cluster(egress=[{"action": "Accept", "to": networks}])
    rules = document["spec"]["egress"]
    assert (len(rules), rules[-1]) == (1024, {"action": "Deny"})
    assert str(found[0]) == "spec.egress: makes 1200 rules, of which a policy holds 1023; the rest is denied"


def pod(name, namespace, address):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": "w", "containers": [{"ports": [{"name": "web", "containerPort": 80, "protocol": "UDP"}]}]},
        "status": {"podIP": address},
    }


ONE, OTHER = "10.0.0.1", "10.0.0.2"
DENY_SHOP = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "closed", "namespace": "shop"},
    "spec": {"podSelector": {}},
}


@pytest.mark.parametrize(
    ("tier", "action", "closed", "through"),
    [
        ("Admin", "Accept", True, True),
        ("Admin", "Deny", False, False),
        ("Admin", "Pass", True, False),
        ("Admin", "Pass", False, True),
        ("Baseline", "Deny", False, False),
        ("Baseline", "Accept", True, False),
        ("Baseline", "Pass", False, True),
    ],
)
def test_tiers_among_kubernetes_policies(tier, action, closed, through):
    objects = [
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n, "labels": {"team": n}}} for n in ("shop", "bank")),
        pod("a", "shop", ONE),
        pod("b", "bank", OTHER),
        *([DENY_SHOP] if closed else []),
    ]
    rule = {"action": action, "from": [BANK], "protocols": [{"destinationNamedPort": "web"}]}
    documents = [filled(one) for each in objects for one in kubernetes.to_v3(each).documents]
    world = World([*documents, *map(filled, cluster(tier, ingress=[rule]).documents)])
    assert world.verdict(Packet(OTHER, ONE, "UDP", 80)) == (through, True)
    assert world.verdict(Packet(OTHER, ONE, "TCP", 80)) == (not closed, True)
    assert world.verdict(Packet(ONE, OTHER, "UDP", 80)) == (True, True)
