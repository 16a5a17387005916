"""The whole way with real programs: kubectl, API server, controller, etcd, agent, packets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kube.cluster import EVERYTHING, NOTHING, Cluster, until

FROM_TEAM_X = [{"from": [{"namespaceSelector": {"matchLabels": {"team": "x"}}}]}]
TCP_80 = frozenset([("tcp", 80)])
HTTP = frozenset([("tcp", 8080)])


def test_without_a_policy_everybody_reaches_a_pod(cluster: Cluster) -> None:
    assert cluster.reached() == dict.fromkeys(("front", "guest", "internet", "office"), EVERYTHING)


def test_default_deny_closes_one_namespace_and_only_it(cluster: Cluster) -> None:
    cluster.apply_policy("closed", policyTypes=["Ingress"])
    assert cluster.reached() == dict.fromkeys(("front", "guest", "internet", "office"), NOTHING)
    assert cluster.reached("guest", ["web", "internet"]) == dict.fromkeys(("web", "internet"), EVERYTHING)
    assert cluster.reached_outside(["web"]) == {"web": EVERYTHING}


def test_allow_from_a_namespace_by_its_label_and_follow_the_label(cluster: Cluster) -> None:
    cluster.apply_policy("team", podSelector={"matchLabels": {"app": "web"}}, ingress=FROM_TEAM_X)
    assert cluster.reached() == {"front": EVERYTHING, "guest": NOTHING, "internet": NOTHING, "office": NOTHING}
    assert cluster.reached("front", ["guest"]) == {"guest": EVERYTHING}  # not selected

    cluster.label_namespace("guests", team="x")
    assert cluster.reached(sources=["front", "guest"]) == {"front": EVERYTHING, "guest": EVERYTHING}
    cluster.label_namespace("shop", team="z")
    assert cluster.reached(sources=["front", "guest"]) == {"front": NOTHING, "guest": EVERYTHING}

    cluster.label_namespace("shop", team="x")
    cluster.label_namespace("guests", team="y")
    assert cluster.reached(sources=["front", "guest"]) == {"front": EVERYTHING, "guest": NOTHING}


@pytest.mark.parametrize(
    ("ports", "open_"),
    [
        ([{"port": 80}], TCP_80),
        ([{"port": "http"}], HTTP),
        ([{"port": "dns", "protocol": "UDP"}], frozenset([("udp", 53)])),
        ([{"port": "dns"}], NOTHING),  # a name is of one protocol
        ([{"protocol": "UDP"}, {"port": "http"}], HTTP | {("udp", 53)}),
    ],
    ids=["number", "name", "udp-name", "name-of-the-other-protocol", "two-protocols"],
)
def test_ports(cluster: Cluster, ports: list[dict[str, Any]], open_: frozenset[tuple[str, int]]) -> None:
    cluster.apply_policy("ports", podSelector={"matchLabels": {"app": "web"}}, ingress=[{"ports": ports}])
    assert cluster.reached() == dict.fromkeys(("front", "guest", "internet", "office"), open_)


def test_ip_block_with_an_exception(cluster: Cluster) -> None:
    block = {"cidr": "203.0.113.0/24", "except": ["203.0.113.128/25"]}
    cluster.apply_policy("block", ingress=[{"from": [{"ipBlock": block}]}])
    assert cluster.reached() == {"front": NOTHING, "guest": NOTHING, "internet": EVERYTHING, "office": NOTHING}


def test_egress(cluster: Cluster) -> None:
    rules = [
        {"to": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": "http"}]},
        {"to": [{"ipBlock": {"cidr": "203.0.113.5/32"}}], "ports": [{"port": 80}]},
    ]
    selector = {"matchLabels": {"app": "front"}}
    cluster.apply_policy("out", podSelector=selector, policyTypes=["Egress"], egress=rules)
    assert cluster.reached(sources=["front", "guest"]) == {"front": HTTP, "guest": EVERYTHING}
    assert cluster.reached_outside(["front", "web"]) == {"front": TCP_80, "web": EVERYTHING}
    assert cluster.reached("guest", ["front", "web"]) == {"front": NOTHING, "web": EVERYTHING}
    assert cluster.reached("front", ["web"]) == {"web": EVERYTHING}  # the other direction


def test_a_policy_that_is_deleted_is_gone(cluster: Cluster) -> None:
    cluster.apply_policy("closed")
    cluster.apply_policy("open", ingress=[{"ports": [{"port": 80}]}])
    assert cluster.reached(sources=["front"]) == {"front": TCP_80}
    cluster.delete_policy("open")
    assert cluster.reached(sources=["front"]) == {"front": NOTHING}
    cluster.delete_policy("closed")
    assert cluster.reached(sources=["front"]) == {"front": EVERYTHING}


def test_nothing_changes_while_the_api_server_is_away_and_all_goes_on_when_it_is_back(cluster: Cluster) -> None:
    cluster.apply_policy("team", ingress=FROM_TEAM_X)
    before = cluster.everything_stored()
    expected = {"front": EVERYTHING, "guest": NOTHING, "internet": NOTHING, "office": NOTHING}
    assert cluster.reached() == expected

    cluster.api.end()
    until("the controller has noticed", lambda: cluster.health("readiness") == 503)
    assert cluster.reached() == expected
    cluster.agent.restart()
    cluster.agent.wait_applied(cluster.last_change())
    assert cluster.reached() == expected
    cluster.controller.end()
    cluster.start_controller()
    until("the new controller has noticed, too", lambda: cluster.health("readiness") == 503)
    assert cluster.everything_stored() == before
    assert cluster.reached() == expected

    cluster.api.start()
    until("the controller has the API server back", lambda: cluster.health("readiness") == 200)
    assert cluster.everything_stored() == before
    cluster.apply_policy("team", ingress=[{"ports": [{"port": 80}]}])
    assert cluster.reached() == dict.fromkeys(expected, TCP_80)


def test_what_was_deleted_while_the_controller_was_away_goes_when_it_is_back(cluster: Cluster) -> None:
    cluster.apply_policy("closed")
    cluster.apply_policy("open", ingress=[{"ports": [{"port": 80}]}])
    cluster.controller.end()
    cluster.api.kubectl("delete", "networkpolicy", "open", "-n", "shop")
    assert cluster.reached(sources=["front"]) == {"front": TCP_80}
    cluster.start_controller()
    cluster.enforced("the policy is gone", lambda: cluster.stored("networkpolicies/shop/knp.default.open") is None)
    assert cluster.reached(sources=["front"]) == {"front": NOTHING}
