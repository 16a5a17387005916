"""Kubernetes policies by the traffic that they let through once converted: random ones, damaged ones, and the corners that the
public conformance data leaves out (`statements.md` kubernetes 2.4)."""

from __future__ import annotations

from copy import deepcopy
from random import Random

import pytest

from hostward.convert import kubernetes
from hostward.convert.defaults import filled
from hostward.convert.validate import problems
from tests.lab import kubernetes_worlds as worlds
from tests.lab.kubernetes_model import Cluster
from tests.lab.pod_model import Packet, World

WEB, API, DB = "10.0.0.1", "10.0.0.2", "10.0.0.3"
WEB6, API6, DB6 = "2001:db8::1", "2001:db8::2", "2001:db8::3"
OUTSIDE, OUTSIDE6 = "192.0.2.9", "2001:db8:9::9"


def converted(objects, *, faults=False):
    """The stored documents; every one of them valid."""
    found = []
    for one in objects:
        documents, wrong = kubernetes.to_v3(one)
        assert faults or wrong == (), wrong
        assert [problems(document) for document in documents] == [[] for _ in documents], documents
        found += [filled(document) for document in documents]
    return found


def pod(name, *addresses, namespace="shop", labels=None, ports=()):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name} | (labels or {})},
        "spec": {"nodeName": "w1", "containers": [{"ports": list(ports)}]},
        "status": {"podIPs": [{"ip": address} for address in addresses]},
    }


def port(name, protocol, number):
    return {"name": name, "protocol": protocol, "containerPort": number}


CLUSTER = (
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "x"}}},
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bank", "labels": {"corp.example.com/tier.name": "b_1.x"}}},
    pod("web", WEB, WEB6, ports=[port("http", "TCP", 80), port("dns", "UDP", 53)]),
    pod("api", API, API6, ports=[port("http", "TCP", 8080), port("dns", "TCP", 53)]),
    pod("db", DB, DB6, namespace="bank", labels={"app.kubernetes.io/part-of": "ledger.v2_x"}),
)


def policy(rules, way="ingress", selector=None, name="p", namespace="shop"):
    spec = {"podSelector": selector or {}, "policyTypes": [way.capitalize()], way: rules}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def allows(packet, *policies, more=()):
    """Whether a packet gets through, both ways asked; the converted policies say the same as Kubernetes' own."""
    verdict = World([*converted([*CLUSTER, *policies]), *more]).verdict(packet)
    if not more:
        assert verdict == Cluster([*CLUSTER, *policies]).verdict(packet)
    return all(verdict)


@pytest.mark.parametrize("seed", range(60))
def test_random_policies_say_the_same_before_and_after(seed):
    random = Random(seed)
    objects = worlds.cluster(random, random.randint(1, 4))
    before, after = Cluster(objects), World(converted(objects))
    for packet in worlds.packets(random, objects, 150):
        assert after.verdict(packet) == before.verdict(packet), packet


def test_the_random_policies_are_worth_asking():
    answers = [
        answer
        for seed in range(15)
        for random in [Random(seed)]
        for objects in [worlds.cluster(random, random.randint(1, 4))]
        for packet in worlds.packets(random, objects, 150)
        for answer in Cluster(objects).verdict(packet)
    ]
    assert 0.2 < sum(answers) / len(answers) < 0.9


def places(value, path=()):
    """All places inside a value, by the steps that lead to them."""
    yield path
    for step, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, step))


def damaged(random, one):
    """A policy with something that is nowhere valid in the place of a rule, or of a part of one; or beside its parts."""
    copy = deepcopy(one)
    inside = [path for path in places(copy["spec"]) if path and path[0] in ("ingress", "egress")]
    if not inside:
        return None
    path = random.choice(inside)
    holder = copy["spec"]
    for step in path[:-1]:
        holder = holder[step]
    value = holder[path[-1]]
    if isinstance(value, dict) and random.random() < 0.5:
        value["notKnownYet"] = random.choice(({}, 7, "text"))
    else:
        holder[path[-1]] = random.choice(({"bogus": 1}, "no' such || thing", [[]], 10**9, [{"a": None}], True, 1.5, ["§"]))
    return copy


@pytest.mark.parametrize("seed", range(150))
def test_a_damaged_policy_is_reported_and_allows_no_more(seed):
    random = Random(1000 + seed)
    objects = worlds.cluster(random, 1)
    broken = damaged(random, objects[-1])
    if broken is None:
        return
    assert kubernetes.to_v3(broken).problems
    whole, rest = World(converted(objects)), World(converted([*objects[:-1], broken], faults=True))
    assert len(rest.of_kind("NetworkPolicy")) == 1
    for packet in worlds.packets(random, objects, 80):
        for before, after in zip(whole.verdict(packet), rest.verdict(packet), strict=True):
            assert before or not after, packet


def test_the_other_rules_of_a_policy_with_a_bad_one_work():
    good = {"from": [{"podSelector": {"matchLabels": {"app": "api"}}}]}
    bad = {"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "Like", "values": ["db"]}]}}]}
    world = World(converted([*CLUSTER, policy([bad, good])], faults=True))
    assert world.verdict(Packet(API, WEB, "TCP", 80)) == (True, True)
    assert world.verdict(Packet(DB, WEB, "TCP", 80)) == (False, True)


# --- what the conformance data leaves out -----------------------------------------------------------------------------------
def test_pods_of_both_families_are_peers_by_both_addresses():
    one = policy([{"from": [{"podSelector": {"matchLabels": {"app": "api"}}}]}])
    assert allows(Packet(API, WEB, "TCP", 80), one)
    assert allows(Packet(API6, WEB6, "TCP", 80), one)
    assert not allows(Packet(DB, WEB, "TCP", 80), one)
    assert not allows(Packet(DB6, WEB6, "TCP", 80), one)


@pytest.mark.parametrize(
    ("block", "let_in"),
    [
        ({"cidr": "0.0.0.0/0"}, [OUTSIDE, API]),
        ({"cidr": "::/0"}, [OUTSIDE6, API6]),
        ({"cidr": "2001:db8:9::/48"}, [OUTSIDE6]),
        ({"cidr": "2001:db8:9::1/48"}, [OUTSIDE6]),
        ({"cidr": "2001:db8::/32", "except": ["2001:db8:9::/64"]}, [API6]),
        ({"cidr": "192.0.2.9/32"}, [OUTSIDE]),
    ],
)
def test_blocks_of_one_family_say_nothing_of_the_other(block, let_in):
    one = policy([{"from": [{"ipBlock": block}]}])
    sources = {OUTSIDE: WEB, API: WEB, OUTSIDE6: WEB6, API6: WEB6}
    assert [source for source, to in sources.items() if allows(Packet(source, to, "TCP", 80), one)] == let_in


@pytest.mark.parametrize("way", ["ingress", "egress"])
def test_exceptions_that_overlap_each_other_all_count(way):
    block = {"cidr": "192.0.2.0/24", "except": ["192.0.2.0/26", "192.0.2.32/27", "192.0.2.60/30", "192.0.2.128/25"]}
    one = policy([{("from" if way == "ingress" else "to"): [{"ipBlock": block}]}], way)
    let_through = [
        number
        for number in (0, 31, 32, 60, 63, 64, 127, 128, 255)
        for other in [f"192.0.2.{number}"]
        if allows(Packet(*((other, WEB) if way == "ingress" else (WEB, other)), "TCP", 80), one)
    ]
    assert let_through == [64, 127]


def test_a_block_is_not_taken_out_of_another_ones_exception():
    """Peers are alternatives: what one of them excludes another may allow."""
    blocks = [{"cidr": "192.0.2.0/24", "except": ["192.0.2.0/28"]}, {"cidr": "192.0.2.8/29"}]
    one = policy([{"from": [{"ipBlock": block} for block in blocks]}])
    assert [last for last in (7, 8, 15, 16) if allows(Packet(f"192.0.2.{last}", WEB, "TCP", 80), one)] == [8, 15, 16]


def test_a_port_name_means_each_pods_own_number():
    one = policy([{"ports": [{"port": "http"}]}])
    assert [n for n in (80, 8080) if allows(Packet(DB, WEB, "TCP", n), one)] == [80]
    assert [n for n in (80, 8080) if allows(Packet(DB, API, "TCP", n), one)] == [8080]
    out = policy([{"ports": [{"port": "http"}]}], "egress")
    assert [n for n in (80, 8080) if allows(Packet(WEB, API, "TCP", n), out)] == [8080]
    assert not allows(Packet(WEB, OUTSIDE, "TCP", 80), out)


def test_a_port_name_means_the_rules_protocol_only():
    """`dns` is UDP on one pod and TCP on the other."""
    udp, tcp = (policy([{"ports": [{"port": "dns", "protocol": protocol}]}]) for protocol in ("UDP", "TCP"))
    assert allows(Packet(DB, WEB, "UDP", 53), udp)
    assert not allows(Packet(DB, WEB, "TCP", 53), udp)
    assert not allows(Packet(DB, API, "TCP", 53), udp)
    assert allows(Packet(DB, API, "TCP", 53), tcp)
    assert not allows(Packet(DB, WEB, "TCP", 53), tcp)


def test_names_and_numbers_in_one_rule_are_alternatives():
    one = policy([{"ports": [{"port": "http"}, {"port": 9000, "endPort": 9001}, {"port": "nowhere"}]}])
    assert [n for n in (80, 8080, 8999, 9000, 9001, 9002) if allows(Packet(DB, API, "TCP", n), one)] == [8080, 9000, 9001]


def test_a_port_name_is_only_sought_among_the_peers_of_an_egress_rule():
    one = policy([{"to": [{"podSelector": {"matchLabels": {"app": "api"}}}], "ports": [{"port": "http"}]}], "egress")
    assert allows(Packet(WEB, API, "TCP", 8080), one)
    assert not allows(Packet(API, WEB, "TCP", 80), one)


def test_icmp_is_let_through_only_where_no_port_is_named():
    """A policy of Kubernetes can't name ICMP: a rule without ports allows it, one with ports doesn't, default deny stops it."""
    ping = Packet(DB, WEB, "ICMP")
    assert allows(ping, policy([{}]))
    assert allows(ping, policy([{"from": [{"namespaceSelector": {}}]}]))
    assert not allows(ping, policy([{"ports": [{}]}]))
    assert not allows(ping, policy([{"ports": [{"port": 1, "endPort": 65535}]}]))
    assert not allows(ping, policy([]))
    named, wrong = kubernetes.to_v3(policy([{"ports": [{"protocol": "ICMP"}]}]))
    assert named[0]["spec"].get("ingress") is None
    assert [str(one) for one in wrong] == [
        "spec.ingress[0].ports[0].protocol: 'ICMP' is none of TCP, UDP, SCTP; this rule is left out"
    ]


@pytest.mark.parametrize("count", [16, 50, 51, 130])
def test_many_ports_in_one_rule(count):
    """More than iptables' 15, and more than the 50 that one v3 rule holds."""
    odd = [2 * number + 1 for number in range(count)]
    one = policy([{"ports": [{"port": number} for number in reversed(odd)]}])
    asked = [0, 1, 2, 29, 31, 32, 33, 99, 100, 101, 102, odd[-1], odd[-1] + 1, odd[-1] + 2]
    assert [n for n in asked if allows(Packet(DB, WEB, "TCP", n), one)] == [n for n in asked if n in odd]
    documents, _ = kubernetes.to_v3(one)
    assert max(len(rule["destination"]["ports"]) for rule in documents[0]["spec"]["ingress"]) <= 50


def test_labels_with_prefixes_and_dots_in_keys_and_values():
    of_pod = {"podSelector": {"matchLabels": {"app.kubernetes.io/part-of": "ledger.v2_x"}}}
    of_namespace = {
        "namespaceSelector": {
            "matchExpressions": [{"key": "corp.example.com/tier.name", "operator": "In", "values": ["b_1.x"]}]
        }
    }
    both = policy([{"from": [of_pod | of_namespace]}])
    assert allows(Packet(DB, WEB, "TCP", 80), both)
    assert not allows(Packet(API, WEB, "TCP", 80), both)
    assert not allows(Packet(DB, WEB, "TCP", 80), policy([{"from": [of_pod]}]))  # of the policy's own namespace only
    without = {"namespaceSelector": {"matchExpressions": [{"key": "corp.example.com/tier.name", "operator": "DoesNotExist"}]}}
    assert allows(Packet(API, WEB, "TCP", 80), policy([{"from": [without]}]))
    assert not allows(Packet(DB, WEB, "TCP", 80), policy([{"from": [without]}]))


def test_a_pod_cant_claim_another_namespace_by_its_labels():
    forged = {
        "projectcalico.org/namespace": "bank",
        "pcns.projectcalico.org/name": "bank",
        "pcns.team": "z",
        "projectcalico.org/serviceaccount": "admin",
    }
    world = World(converted([*CLUSTER[:2], pod("web", WEB, labels=forged)]))
    (endpoint,) = world.endpoints
    assert endpoint.labels["projectcalico.org/namespace"] == "shop"
    assert endpoint.labels["pcns.projectcalico.org/name"] == "shop"
    assert endpoint.labels["pcns.team"] == "x"
    assert "projectcalico.org/serviceaccount" not in endpoint.labels


def calico(order, action, name="mine"):
    return {
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"order": order, "selector": "app == 'web'", "types": ["Ingress"], "ingress": [{"action": action}]},
    }


@pytest.mark.parametrize(
    ("order", "action", "through"),
    [
        (999, "Deny", False),
        (1001, "Deny", True),
        (None, "Deny", True),
        (999, "Allow", True),
        (1001, "Allow", True),
        (1000, "Deny", True),  # knp.default.p before mine, by name
    ],
)
def test_kubernetes_policies_stand_at_order_1000_among_calicos(order, action, through):
    one = policy([{"from": [{"podSelector": {"matchLabels": {"app": "api"}}}]}])
    assert allows(Packet(API, WEB, "TCP", 80), one, more=[calico(order, action)]) is through


def test_what_a_kubernetes_policy_doesnt_allow_a_later_calico_policy_may():
    one = policy([{"from": [{"podSelector": {"matchLabels": {"app": "api"}}}]}])
    assert not allows(Packet(DB, WEB, "TCP", 80), one)
    assert allows(Packet(DB, WEB, "TCP", 80), one, more=[calico(2000, "Allow")])
    # Past the tier, the profile of the namespace decides: it allows.
    assert allows(Packet(DB, WEB, "TCP", 80), one, more=[calico(2000, "Pass")])
