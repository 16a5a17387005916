"""What the controller would write, decided over values: each kind, ownership, templates; then random worlds and the oracle."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostward.controller.host_endpoints import endpoint_name
from hostward.convert import validate
from hostward.model.decode import decode
from hostward.model.keys import ResourceKey
from tests.controller import world
from tests.controller.world import CLUSTER, CONFIGURATION, World

WEB = ResourceKey("NetworkPolicy", "shop", "knp.default.web")
SHOP = ResourceKey("Profile", "", "kns.shop")
BOT = ResourceKey("Profile", "", "ksa.shop.bot")
W1 = ResourceKey("Node", "", "w1")
POD = ResourceKey("WorkloadEndpoint", "shop", "w1-k8s-web--0-eth0")
SLICE = ResourceKey("KubernetesEndpointSlice", "shop", "web-abc")
USERS = ResourceKey("GlobalNetworkPolicy", "", "mine")
AUTO = ResourceKey("HostEndpoint", "", "w1-auto-hep")
MEMORY = "projectcalico.org/kube-labels"


@pytest.fixture
def here() -> World:
    made = World()
    made.list_all()
    return made


def written(here: World) -> list[str]:
    return [str(write) for write in here.settle()]


def admin(name: str, **spec: Any) -> dict[str, Any]:
    whole = {"priority": 7, "subject": {"namespaces": {}}, "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]} | spec
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha1",
        "kind": "AdminNetworkPolicy",
        "metadata": {"name": name},
        "spec": whole,
    }


def workload(**labels: str) -> dict[str, Any]:
    spec = {
        "orchestrator": "k8s",
        "node": "w1",
        "pod": "web-0",
        "endpoint": "eth0",
        "interfaceName": "cali1",
        "mac": "ee:ee:ee:ee:ee:ee",
    }
    return {
        "metadata": {"uid": "w", "labels": labels, "annotations": {"a": "b"}},
        "spec": spec | {"ipNetworks": ["10.0.0.1/32"]},
    }


# --- copies
@pytest.mark.parametrize(
    ("value", "changed", "key"),
    [
        (world.policy("web"), world.policy("web", policyTypes=["Egress"]), WEB),
        (world.namespace("shop", team="a"), world.namespace("shop", team="b"), SHOP),
        (world.account("bot", a="b"), world.account("bot"), BOT),
        (admin("a.b"), admin("a.b", priority=8), ResourceKey("GlobalNetworkPolicy", "", "kanp.adminnetworkpolicy.a.b")),
    ],
)
def test_a_copy_comes_follows_and_goes(here: World, value: dict[str, Any], changed: dict[str, Any], key: ResourceKey) -> None:
    here.put(value)
    assert str(here.settle()[-1]) == f"create {key}"
    assert validate.problems(here.read(key)) == []
    assert written(here) == []
    before = here.read(key)
    here.put(changed)
    assert written(here) == [f"update {key}"]
    assert here.read(key) != before
    here.remove(changed)
    assert written(here) == [f"delete {key}"]
    assert here.left() == {}


def test_an_admin_policy_brings_its_tier_and_leaves_it(here: World) -> None:
    here.put(admin("a"))
    assert written(here) == ["create Tier(adminnetworkpolicy)", "create GlobalNetworkPolicy(kanp.adminnetworkpolicy.a)"]
    tier = ResourceKey("Tier", "", "adminnetworkpolicy")
    here.write(tier, {"metadata": {"name": tier.name}, "spec": {"order": 5, "defaultAction": "Pass"}})
    assert written(here) == [], "somebody's own order of it"
    here.write(tier, None)
    assert written(here) == ["create Tier(adminnetworkpolicy)"]
    here.remove(admin("a"))
    assert written(here) == ["delete GlobalNetworkPolicy(kanp.adminnetworkpolicy.a)"]


def test_only_the_spec_is_overwritten(here: World) -> None:
    here.put(world.policy("web"))
    here.settle()
    stored = here.read(WEB)
    stored["metadata"] |= {"labels": {"theirs": "1"}, "annotations": {"n": "2"}, "uid": "u"}
    here.write(WEB, stored | {"spec": {"order": 1}})
    assert written(here) == [f"update {WEB}"]
    assert here.read(WEB)["metadata"] == stored["metadata"]
    assert here.read(WEB)["spec"]["order"] == 1000


def test_what_others_removed_or_broke_comes_back(here: World) -> None:
    here.put(world.policy("web"))
    here.settle()
    here.write(WEB, None)
    assert written(here) == [f"create {WEB}"]
    for broken in (b"{", b"[]", b'{"metadata": 7}', b'{"metadata": {"labels": {"a": 1}}}'):
        here.write(WEB, broken)
        assert written(here) == [f"update {WEB}"]
        assert here.read(WEB)["spec"]["order"] == 1000


def test_an_account_with_dots_in_its_name(here: World) -> None:
    here.put(world.account("a.b"))
    here.settle()
    key = ResourceKey("Profile", "", "ksa.shop.a.b")
    here.write(key, {"spec": {"labelsToApply": {}}})
    assert written(here) == [f"update {key}"]


def test_before_the_first_list_nothing_is_decided() -> None:
    here = World()
    for key in (WEB, SHOP, BOT, SLICE):
        here.write(key, {"metadata": {"name": key.name}})
    assert written(here) == []
    here.list("Namespace")
    assert written(here) == [f"delete {SHOP}"], "of this kind all are known"
    here.list("NetworkPolicy", world.policy("web"))
    assert written(here) == [f"update {WEB}"]


def test_a_second_list_only_costs_what_differs(here: World) -> None:
    policies = [world.policy(f"p{number}") for number in range(5)]
    here.list("NetworkPolicy", *policies)
    here.settle()
    here.list("NetworkPolicy", *policies[1:], world.policy("new"))
    assert len(here.dirty) == 2
    assert written(here) == ["create NetworkPolicy(shop/knp.default.new)", "delete NetworkPolicy(shop/knp.default.p0)"]


def test_one_bad_rule_neither_freezes_nor_keeps_a_policy(here: World) -> None:
    """The first trap of `statements.md` kubernetes 1.1."""
    bad = {"ingress": [{"from": [{"ipBlock": {"cidr": "nonsense"}}]}, {"ports": [{"port": 80}]}]}
    here.put(world.policy("web"))
    here.settle()
    here.put(world.policy("web", **bad))
    assert written(here) == [f"update {WEB}"]
    (rule,) = here.read(WEB)["spec"]["ingress"]
    assert rule["destination"] == {"ports": [80]}
    (problem,) = here.problems()
    assert problem.startswith("NetworkPolicy(shop/web): spec.ingress[0].from[0].ipBlock.cidr: ")
    here.remove(world.policy("web"))
    assert written(here) == [f"delete {WEB}"]
    assert here.problems() == []


def test_an_object_that_isnt_understood_keeps_what_was_stored(here: World) -> None:
    here.put(world.policy("web"))
    here.put(world.policy("good"))
    here.settle()
    here.put(world.policy("web", podSelector={"matchLabels": 7}))
    here.put(world.policy("good", policyTypes=["Egress"]))
    assert written(here) == ["update NetworkPolicy(shop/knp.default.good)"]
    assert len(here.problems()) == 1
    here.remove(world.policy("web"))
    assert written(here) == [f"delete {WEB}"]


def test_users_objects_are_left_alone(here: World) -> None:
    users = [
        USERS,
        ResourceKey("NetworkPolicy", "shop", "web"),
        ResourceKey("Profile", "", "mine"),
        ResourceKey("Profile", "", "ksa.nodot"),
        ResourceKey("Tier", "", "mine"),
        ResourceKey("HostEndpoint", "", "w9-auto-hep"),
        ResourceKey("GlobalNetworkSet", "", "kns.shop"),
        ResourceKey("Node", "", "metal"),
        ResourceKey("WorkloadEndpoint", "shop", "w1-cni-c0ffee-eth0"),
    ]
    for key in users:
        here.write(key, {"metadata": {"name": key.name}, "spec": {"node": "w9"} if key.kind == "HostEndpoint" else {}})
    for kind in here.facts.kinds:
        here.list(kind)
    here.snapshot()
    assert written(here) == []
    assert here.left() == {}


# --- slices of services
@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_slice_is_stored_while_a_rule_names_its_service(here: World, version: str) -> None:
    here.put(world.slice_("web-abc", "web", "10.0.0.1", version=version))
    here.put(world.slice_("other-abc", "other", "10.0.0.2"))
    here.put(world.slice_("web-abc", "web", "10.0.0.3", space="elsewhere"))
    assert written(here) == []
    here.write(USERS, world.naming("web", "shop"))
    assert written(here) == [f"create {SLICE}"]
    document = here.read(SLICE)
    assert document["endpoints"] == [{"addresses": ["10.0.0.1"]}]
    assert document["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]
    assert document["metadata"]["labels"] == {"kubernetes.io/service-name": "web"}
    decoded = decode(SLICE, here.store[SLICE][0])
    assert decoded.problems == ()
    assert decoded.value.addresses == ("10.0.0.1",)
    also = ResourceKey("NetworkPolicy", "shop", "users")
    here.write(also, world.naming("web"))
    here.write(USERS, None)
    assert written(here) == [], "another rule still names it"
    here.put(world.slice_("web-abc", "web", "10.0.0.1", "10.0.0.9", version=version))
    assert written(here) == [f"update {SLICE}"]
    here.write(also, world.naming("other"))
    assert written(here) == ["create KubernetesEndpointSlice(shop/other-abc)", f"delete {SLICE}"]


def test_a_policy_that_isnt_understood_any_more_keeps_its_services(here: World) -> None:
    """Agents keep the version that they understood in force: a Deny in it must not lose its addresses."""
    here.write(USERS, world.naming("web", "shop"))
    here.put(world.slice_("web-abc", "web", "10.0.0.1"))
    here.settle()
    for broken in (b"{", {"spec": {"types": ["Egress"], "news": 1}}, {"spec": {"egress": [{"action": "Perhaps"}]}}):
        here.write(USERS, broken)
        assert written(here) == []
    here.write(USERS, {"spec": {"types": ["Egress"]}})
    assert written(here) == [f"delete {SLICE}"]


def test_a_slice_that_goes_or_changes_its_service(here: World) -> None:
    here.write(USERS, world.naming("web", "shop"))
    here.put(world.slice_("web-abc", "web", "10.0.0.1"))
    assert written(here) == [f"create {SLICE}"]
    here.put(world.slice_("web-abc", "other", "10.0.0.1"))
    assert written(here) == [f"delete {SLICE}"]
    here.put(world.slice_("web-abc", "web", "10.0.0.1"))
    assert written(here) == [f"create {SLICE}"]
    here.list("EndpointSlice")
    assert written(here) == [f"delete {SLICE}"]


def test_what_isnt_understood_of_a_slice_is_left_out(here: World) -> None:
    here.write(USERS, world.naming("web", "shop"))
    odd = {"endpoints": [7, {"addresses": None}, {"addresses": ["name.example", "10.0.0.1", 5]}]}
    ports = [{"port": 0}, {"protocol": "ICMP", "port": 1}, {"name": "any"}, {"port": 80}, 3]
    here.put(world.slice_("web-abc", "web", **odd, ports=ports))
    assert written(here) == [f"create {SLICE}"]
    assert here.read(SLICE)["endpoints"] == [{"addresses": ["10.0.0.1"]}]
    assert here.read(SLICE)["ports"] == [{"protocol": "TCP", "port": 80}]
    assert len(here.problems()) == 7
    here.put(world.slice_("web-abc", "web", "x.example", addressType="FQDN"))
    assert written(here) == [f"delete {SLICE}"]


# --- pods
def test_a_pods_labels_and_account_go_onto_its_endpoint(here: World) -> None:
    here.put(world.pod("web-0", labels={"app": "web"}))
    assert written(here) == [], "endpoints are made by the network plugin"
    here.write(POD, workload(app="old", gone="1"))
    assert written(here) == [f"update {POD}"]
    document = here.read(POD)
    assert document["metadata"]["labels"] == {
        "app": "web",
        "projectcalico.org/namespace": "shop",
        "projectcalico.org/orchestrator": "k8s",
        "projectcalico.org/serviceaccount": "bot",
    }
    assert document["metadata"]["annotations"] == {"a": "b"}
    assert document["spec"] == workload()["spec"] | {"serviceAccountName": "bot"}
    here.put(world.pod("web-0", labels={"app": "new"}))
    assert written(here) == [f"update {POD}"]
    here.remove(world.pod("web-0"))
    assert written(here) == [], "nor are they removed"


@pytest.mark.parametrize("why", [{"hostNetwork": True}, {"nodeName": "w2"}, {"address": ""}])
def test_pods_whose_endpoint_it_isnt(here: World, why: dict[str, Any]) -> None:
    here.write(POD, workload(app="old"))
    node = why.pop("nodeName", "w1")
    here.put(world.pod("web-0", node=node, labels={"app": "new"}, **why))
    assert written(here) == []


# --- nodes
def test_labels_of_a_node_go_onto_its_calico_node(here: World) -> None:
    here.write(W1, world.calico_node("w1", labels={"mine": "1"}, bgp={"ipv4Address": "10.0.0.5/24"}))
    here.put(world.node("w1", {"role": "edge"}))
    assert written(here) == [f"update {W1}"]
    here.put(world.node("w1", {"zone": "a"}))
    assert written(here) == [f"update {W1}"]
    document = here.read(W1)
    assert document["metadata"]["labels"] == {"mine": "1", "zone": "a"}
    assert json.loads(document["metadata"]["annotations"][MEMORY]) == {"zone": "a"}
    assert document["spec"]["bgp"] == {"ipv4Address": "10.0.0.5/24"}
    here.remove(world.node("w1"))
    assert written(here) == [f"delete {W1}"]


def test_nodes_that_arent_of_kubernetes_stay(here: World) -> None:
    here.write(W1, world.calico_node("w1", None))
    here.put(world.node("w1", {"role": "edge"}))
    assert written(here) == []
    here.remove(world.node("w1"))
    assert written(here) == []
    assert here.left() == {}


def test_a_calico_node_of_another_name(here: World) -> None:
    here.write(ResourceKey("Node", "", "calico-1"), world.calico_node("calico-1", "w1"))
    here.put(world.node("w1", {"a": "b"}, "10.0.0.1"))
    here.write(CONFIGURATION, world.configuration())
    assert written(here) == ["update Node(calico-1)", "create HostEndpoint(calico-1-auto-hep)"]
    here.remove(world.node("w1"))
    assert written(here) == ["delete Node(calico-1)", "delete HostEndpoint(calico-1-auto-hep)"]


def test_labels_can_be_left_alone(here: World) -> None:
    here.write(W1, world.calico_node("w1"))
    off = world.configuration(create="Disabled")
    off["spec"]["controllers"]["node"]["syncLabels"] = "Disabled"
    here.write(CONFIGURATION, off)
    here.put(world.node("w1", {"a": "b"}))
    assert written(here) == []


# --- automatic host endpoints
def test_host_endpoints_are_switched_on_and_off(here: World) -> None:
    calico = world.calico_node(
        "w1",
        bgp={"ipv6Address": "2001:db8::5/64", "ipv4Address": "10.0.0.5/24", "ipv4IPIPTunnelAddr": "172.30.1.1"},
        ipv6VXLANTunnelAddr="2001:DB8::9",
        ipv4VXLANTunnelAddr="172.30.1.2",
        wireguard={"interfaceIPv6Address": "2001:db8::a", "interfaceIPv4Address": "172.30.1.3"},
        addresses=[
            {"address": "192.0.2.1", "type": "ExternalIP"},
            {"address": "10.0.0.5", "type": "InternalIP"},
            {"address": "10.0.0.6", "type": "InternalIP"},
            {"address": "nonsense", "type": "InternalIP"},
        ],
    )
    here.write(W1, calico)
    here.put(world.node("w1", {"role": "edge"}))
    assert written(here) == [f"update {W1}"]
    here.write(CONFIGURATION, world.configuration())
    assert written(here) == [f"create {AUTO}"]
    document = here.read(AUTO)
    assert document["metadata"] == {
        "name": "w1-auto-hep",
        "labels": {"role": "edge", "projectcalico.org/created-by": "calico-kube-controllers"},
    }
    assert document["spec"] == {
        "node": "w1",
        "interfaceName": "*",
        "profiles": ["projectcalico-default-allow"],
        "expectedIPs": [
            *("10.0.0.5", "2001:db8::5", "172.30.1.1", "172.30.1.2", "2001:db8::9", "172.30.1.3", "2001:db8::a", "10.0.0.6"),
        ],
    }
    assert validate.problems(document) == []
    here.write(CONFIGURATION, world.configuration(create="Disabled"))
    assert written(here) == [f"delete {AUTO}"]
    assert here.left() == {}


def test_without_a_calico_node_the_kubernetes_node_says_it(here: World) -> None:
    here.write(CONFIGURATION, world.configuration())
    here.put(world.node("w1", {"role": "edge"}, "10.0.0.7"))
    assert written(here) == [f"create {AUTO}"]
    assert here.read(AUTO)["spec"]["expectedIPs"] == ["10.0.0.7"]
    assert here.read(AUTO)["metadata"]["labels"]["role"] == "edge"
    here.write(W1, world.calico_node("w1", bgp={"ipv4Address": "10.0.0.8/24"}))
    assert written(here) == [f"update {W1}", f"update {AUTO}"]
    assert here.read(AUTO)["spec"]["expectedIPs"] == ["10.0.0.8"]
    here.remove(world.node("w1"))
    assert written(here) == [f"delete {W1}", f"delete {AUTO}"]


def test_profiles_that_somebody_chose_survive(here: World) -> None:
    here.write(CONFIGURATION, world.configuration())
    here.put(world.node("w1", {}, "10.0.0.7"))
    here.settle()
    chosen = here.read(AUTO)
    chosen["spec"] |= {"profiles": ["strict"], "ports": [{"name": "x", "protocol": "TCP", "port": 1}]}
    here.write(AUTO, chosen)
    assert written(here) == []
    here.put(world.node("w1", {"new": "label"}, "10.0.0.7"))
    assert written(here) == [f"update {AUTO}"]
    assert here.read(AUTO)["spec"] == chosen["spec"]
    chosen["spec"]["expectedIPs"] = ["10.9.9.9"]
    here.write(AUTO, chosen)
    assert written(here) == [f"update {AUTO}"]
    assert here.read(AUTO)["spec"]["expectedIPs"] == ["10.0.0.7"]


def test_a_users_endpoint_of_that_name_stays(here: World) -> None:
    here.write(AUTO, {"metadata": {"name": "w1-auto-hep"}, "spec": {"node": "w1", "interfaceName": "eth0"}})
    here.write(CONFIGURATION, world.configuration())
    here.put(world.node("w1"))
    assert written(here) == []
    assert here.problems() == ["Node(w1): HostEndpoint(w1-auto-hep) isn't made: somebody else's endpoint has this name"]
    here.write(AUTO, None)
    assert written(here) == [f"create {AUTO}"]


def test_configuration_that_isnt_understood_changes_nothing(here: World) -> None:
    here.put(world.node("w1"))
    bad = world.configuration({"generateName": "x", "interfacePattern": "("})
    here.write(CONFIGURATION, bad)
    assert written(here) == []
    assert [one.path for one in here.facts.node_settings.problems] == [
        "spec.controllers.node.hostEndpoint.templates[0].interfacePattern"
    ]
    here.write(CONFIGURATION, world.configuration())
    assert written(here) == [f"create {AUTO}"]
    for worse in (bad, b"{", world.configuration({"nodeSelector": "(("}), world.configuration(create="Perhaps")):
        here.write(CONFIGURATION, worse)
        assert written(here) == [], "what was understood last stays in force"
    later = world.configuration()
    later["spec"]["controllers"]["newest"] = {"x": 1}
    here.write(CONFIGURATION, later)
    assert here.facts.node_settings.problems == (), "only what is about nodes is judged"
    here.write(CONFIGURATION, None)
    assert written(here) == [f"delete {AUTO}"], "Calico's default is off"


def test_a_first_configuration_that_isnt_understood_removes_no_endpoint() -> None:
    automatic = b'{"metadata":{"labels":{"projectcalico.org/created-by":"calico-kube-controllers"}},"spec":{"node":"w1"}}'
    here = World(store={CONFIGURATION: (b"{", 1), AUTO: (automatic, 1)})
    here.list_all()
    assert written(here) == []
    here.write(CONFIGURATION, world.configuration())
    assert written(here) == [f"delete {AUTO}"]


FORTY = (
    {
        "generateName": "worker-public",
        "nodeSelector": "has(ibm.role)",
        "interfaceName": "eth1",
        "labels": {"ibm.role": "worker_public"},
        "profiles": [],
    },
    {
        "generateName": "worker-private",
        "nodeSelector": "has(ibm.role)",
        "interfaceName": "eth0",
        "interfaceCIDRs": ["10.0.0.0/8"],
        "labels": {"ibm.role": "worker_private"},
        "ports": [{"name": "ssh", "protocol": "TCP", "port": 22}],
    },
)


def test_forty_endpoints_by_one_document(here: World) -> None:
    document = world.configuration(*FORTY, createDefaultHostEndpoint="Disabled")
    assert validate.problems(document | {"apiVersion": world.API, "kind": "KubeControllersConfiguration"}) == []
    for number in range(20):
        here.put(world.node(f"w{number}", {"ibm.role": "worker"}, f"10.0.0.{number}"))
    here.put(world.node("master", {}, "10.0.1.1"))
    assert written(here) == []
    here.write(CONFIGURATION, document)
    assert len(here.settle()) == 40
    public = here.read(ResourceKey("HostEndpoint", "", "w7-worker-public-auto-hep"))
    assert public["spec"] == {"node": "w7", "interfaceName": "eth1", "profiles": []}
    assert public["metadata"]["labels"]["ibm.role"] == "worker_public"
    private = here.read(ResourceKey("HostEndpoint", "", "w7-worker-private-auto-hep"))
    assert private["spec"] == {
        "node": "w7",
        "interfaceName": "eth0",
        "expectedIPs": ["10.0.0.7"],
        "profiles": ["projectcalico-default-allow"],
        "ports": [{"name": "ssh", "protocol": "TCP", "port": 22}],
    }
    assert validate.problems(public) == validate.problems(private) == []
    here.put(world.node("w7", {}, "10.0.0.7"))
    assert sorted(written(here)) == [
        "delete HostEndpoint(w7-worker-private-auto-hep)",
        "delete HostEndpoint(w7-worker-public-auto-hep)",
    ]


def test_a_template_that_names_profiles_decides_on_them(here: World) -> None:
    here.put(world.node("w1", {"ibm.role": "worker"}))
    here.write(CONFIGURATION, world.configuration(FORTY[0], createDefaultHostEndpoint="Disabled"))
    here.settle()
    key = ResourceKey("HostEndpoint", "", "w1-worker-public-auto-hep")
    opened = here.read(key)
    opened["spec"]["profiles"] = ["projectcalico-default-allow"]
    here.write(key, opened)
    assert written(here) == [f"update {key}"]
    assert here.read(key)["spec"]["profiles"] == []


INTERFACES = [{"name": "eth0", "addresses": ["10.0.0.5/24"]}, {"name": "eth1", "addresses": ["192.0.2.5"]}, {"name": "lo"}, 7]


def test_templates_by_pattern_and_by_address(here: World) -> None:
    here.write(
        W1, world.calico_node("w1", bgp={"ipv4Address": "10.0.0.5/24", "ipv6Address": "2001:db8::5/64"}, interfaces=INTERFACES)
    )
    here.put(world.node("w1", {"a": "node", "b": "node"}))
    by_pattern = {"generateName": "p", "interfacePattern": "^eth", "labels": {"b": "template"}, "annotations": {"why": "test"}}
    by_address = {"generateName": "c", "interfaceCIDRs": ["2001:db8::/32"]}
    elsewhere = {"generateName": "n", "interfaceCIDRs": ["203.0.113.0/24"]}
    unselected = {"generateName": "u", "nodeSelector": "a == 'x'", "interfaceName": "eth0"}
    here.write(CONFIGURATION, world.configuration(by_pattern, by_address, elsewhere, unselected))
    assert [one for one in written(here) if "Node" not in one] == [
        f"create {AUTO}",
        "create HostEndpoint(w1-p-eth0-auto-hep)",
        "create HostEndpoint(w1-p-eth1-auto-hep)",
        "create HostEndpoint(w1-c-auto-hep)",
    ]
    first = here.read(ResourceKey("HostEndpoint", "", "w1-p-eth1-auto-hep"))
    assert first["spec"]["interfaceName"] == "eth1"
    assert first["spec"]["expectedIPs"] == ["192.0.2.5"]
    assert first["metadata"]["labels"] == {
        "a": "node",
        "b": "template",
        "projectcalico.org/created-by": "calico-kube-controllers",
    }
    assert first["metadata"]["annotations"] == {"why": "test"}
    second = here.read(ResourceKey("HostEndpoint", "", "w1-c-auto-hep"))
    assert "interfaceName" not in second["spec"]
    assert second["spec"]["expectedIPs"] == ["2001:db8::5"]


def test_a_pattern_without_known_interfaces_says_so(here: World) -> None:
    here.put(world.node("w1", {}, "10.0.0.1"))
    here.write(CONFIGURATION, world.configuration({"generateName": "p", "interfacePattern": "eth"}))
    assert written(here) == [f"create {AUTO}"]
    assert "template p: interfacePattern finds nothing" in here.problems()[0]


def test_two_templates_of_one_name(here: World) -> None:
    here.put(world.node("w1"))
    first, second = ({"generateName": "x", "interfaceName": name} for name in ("eth0", "eth1"))
    here.write(CONFIGURATION, world.configuration(first, second, createDefaultHostEndpoint="Disabled"))
    assert written(here) == ["create HostEndpoint(w1-x-auto-hep)"]
    assert here.read(ResourceKey("HostEndpoint", "", "w1-x-auto-hep"))["spec"]["interfaceName"] == "eth0"
    assert "made by two templates" in here.problems()[0]


def test_two_nodes_dont_fight_over_one_name(here: World) -> None:
    here.put(world.node("a", {"t": "1"}))
    here.put(world.node("a-b", {"t": "2"}))
    first = {"generateName": "b-c", "nodeSelector": "t == '1'", "interfaceName": "eth0"}
    second = {"generateName": "c", "nodeSelector": "t == '2'", "interfaceName": "eth0"}
    here.write(CONFIGURATION, world.configuration(first, second, createDefaultHostEndpoint="Disabled"))
    assert written(here) == ["create HostEndpoint(a-b-c-auto-hep)"]
    assert len(here.problems()) == 1
    here.remove(world.node("a"))
    assert written(here) == ["delete HostEndpoint(a-b-c-auto-hep)", "create HostEndpoint(a-b-c-auto-hep)"]


def test_long_names_become_digests() -> None:
    assert endpoint_name("w1", "x") == "w1-x-auto-hep"
    name = endpoint_name("n" * 250)
    assert len(name) < 60
    assert name.endswith("-auto-hep")
    assert name.removesuffix("-auto-hep").isalnum()
    assert name == name.lower() == endpoint_name("n" * 250)


def test_controllers_that_are_off_touch_nothing() -> None:
    here = World({"Namespace"})
    for key in (WEB, SHOP, W1, SLICE):
        here.write(key, {"metadata": {"name": key.name}})
    here.list("Namespace")
    assert written(here) == [f"delete {SHOP}"]


# --- random worlds
NAMES = st.sampled_from(["a", "b", "a-b"])
SPACES = st.sampled_from(["shop", "other"])
LABELS = st.dictionaries(st.sampled_from(["app", "role", "x/y"]), st.sampled_from(["1", "2"]), max_size=2)
ODD = st.sampled_from([None, 7, "x", [], {}, [7], [None], {"a": 7}, {"matchLabels": 7}])


@st.composite
def values(draw: st.DrawFn) -> dict[str, Any]:
    """Objects of Kubernetes, one in five with something in it that makes no sense."""
    name, space, labels = draw(NAMES), draw(SPACES), draw(LABELS)
    value: dict[str, Any] = dict(
        draw(
            st.sampled_from(
                [
                    world.policy(name, space, ingress=[{"ports": [{"port": 80}]}]),
                    world.policy(name, space, podSelector={"matchLabels": labels}),
                    world.namespace(space, **{"l": name}),
                    world.account(name, space),
                    world.pod(name, space, "w1", labels=labels),
                    world.node(name, labels, "10.0.0.1"),
                    world.slice_(f"{name}-1", name, "10.0.0.1", space=space),
                    world.slice_(f"{name}-1", "a", "10.0.0.2", space=space),
                    admin(name),
                ]
            )
        )
    )
    if draw(st.integers(0, 4)) == 0:
        part = draw(st.sampled_from(["spec", "status", "endpoints", "ports", "labels", "podSelector"]))
        odd = draw(ODD)
        match part:
            case "labels":
                value["metadata"] = value["metadata"] | {"labels": odd}
            case "podSelector":
                value["spec"] = {"podSelector": odd}
            case _:
                value[part] = odd
    return value


def of_pod(value: dict[str, Any]) -> ResourceKey:
    name, space = value["metadata"]["name"], value["metadata"]["namespace"]
    return ResourceKey("WorkloadEndpoint", space, f"w1-k8s-{name.replace('-', '--')}-eth0")


TEMPLATES = [
    {"generateName": "t", "interfaceName": "eth0", "nodeSelector": "role == '1'"},
    {"generateName": "b-t", "interfaceName": "eth1", "profiles": []},
    {"generateName": "p", "interfacePattern": "eth", "labels": {"role": "2"}},
    {"generateName": "c", "interfaceCIDRs": ["10.0.0.0/8"]},
]
CONFIGURATIONS = st.builds(
    lambda templates, create, default: world.configuration(*templates, create=create, createDefaultHostEndpoint=default),
    st.lists(st.sampled_from(TEMPLATES), max_size=3),
    st.sampled_from(["Enabled", "Disabled", "Perhaps"]),
    st.sampled_from(["Enabled", "Disabled"]),
)


@st.composite
def theirs(draw: st.DrawFn) -> tuple[ResourceKey, Any]:
    """What somebody else does to the store: to keys that are the controller's, users' and Calico's."""
    name, space, labels = draw(NAMES), draw(SPACES), draw(LABELS)
    auto = {"projectcalico.org/created-by": "calico-kube-controllers"} if draw(st.booleans()) else {}
    key, value = draw(
        st.sampled_from(
            [
                (ResourceKey("Node", "", name), world.calico_node(name, draw(st.sampled_from(["a", "b", "", None])), labels)),
                (ResourceKey("Node", "", "calico"), world.calico_node("calico", name, interfaces=INTERFACES)),
                (of_pod(world.pod(name, space)), {"metadata": {"labels": labels}, "spec": {"node": "w1"}}),
                (ResourceKey("GlobalNetworkPolicy", "", name), world.naming(name, space)),
                (ResourceKey("NetworkPolicy", space, f"knp.default.{name}"), world.naming(name)),
                (ResourceKey("NetworkPolicy", space, name), world.naming(name)),
                (ResourceKey("Profile", "", f"kns.{space}"), {"metadata": {"labels": labels}, "spec": {}}),
                (ResourceKey("HostEndpoint", "", f"{name}-auto-hep"), {"metadata": {"labels": auto}, "spec": {"node": name}}),
                (ResourceKey("HostEndpoint", "", f"{name}-t-auto-hep"), {"metadata": {"labels": auto}, "spec": {"node": "a"}}),
                (ResourceKey("KubernetesEndpointSlice", space, f"{name}-1"), {"metadata": {"labels": labels}}),
                (ResourceKey("Tier", "", "adminnetworkpolicy"), {"spec": {"order": 3}}),
                (CONFIGURATION, draw(CONFIGURATIONS)),
                (CLUSTER, {"spec": {"datastoreReady": True}}),
                (ResourceKey("Node", "", name), b'{"spec": {"orchRefs": [{"orchestrator": "k8s"}, 7]}}'),
            ]
        )
    )
    return key, draw(st.sampled_from([value, value, value, None, b"{", b'{"metadata": {"labels": []}}']))


@given(st.data())
def test_whatever_happens_the_store_becomes_what_both_sides_say(data: st.DataObject) -> None:
    """Incremental decisions leave nothing that deciding from scratch would do; nobody else's object is ever written."""
    here = World()
    if data.draw(st.booleans()):
        here.list_all()
    for _ in range(data.draw(st.integers(1, 12))):
        match data.draw(st.integers(0, 4)):
            case 0:
                some = data.draw(st.lists(values(), max_size=4))
                kind = data.draw(st.sampled_from(sorted(here.facts.kinds)))
                here.list(kind, *(one for one in some if one["kind"] == kind))
            case 1:
                value = data.draw(values())
                if here.facts.listed(value["kind"]):
                    (here.put if data.draw(st.booleans()) else here.remove)(value)
            case 2 | 3:
                key, document = data.draw(theirs())
                if document is not None or key in here.store:
                    here.write(key, document)
            case _:
                here.settle()
    here.settle()
    assert here.left() == {}
    fresh = World(store=here.store)
    for kind in here.facts.kinds:
        if here.facts.listed(kind):
            fresh.dirty |= fresh.facts.replace(kind, here.facts._objects[kind])
    same_settings = fresh.facts.node_settings._replace(problems=()) == here.facts.node_settings._replace(problems=())
    if same_settings and fresh.facts._named == here.facts._named:  # what isn't understood any more, only the older one knows
        assert written(fresh) == [], "a process that starts now agrees"
