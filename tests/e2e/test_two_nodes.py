"""Two nodes, pods and host endpoints on both, one etcd and an agent each: what crosses is judged on either side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from tests.e2e import cluster as c
from tests.lab import kubeproxy

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]

ALLOW, DENY = {"action": "Allow"}, {"action": "Deny"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[c.Cluster]:
    """Namespaces red and blue with a web server and a client each: red's server and blue's client on one, the others on two."""
    with ExitStack() as stack:
        cluster = c.Cluster(stack)
        cluster.pod("red", "web", "one", 5, {"http": 8080}, app="web")
        cluster.pod("blue", "client", "one", 6, role="client")
        cluster.pod("blue", "web", "two", 5, {"http": 9090}, app="web")
        cluster.pod("red", "client", "two", 6, role="client")
        cluster.settle()
        pods = ("red/web", "blue/client", "blue/web", "red/client")
        senders = (*pods, "outside", "one", "two")
        everything = {f"{sender} > {target} {port}": True for sender in senders for target in pods for port in c.PORTS}
        everything |= {f"{sender} > {node} 80": True for sender in senders for node in ("one", "two") if node != sender}
        cluster.judge(
            {cell: True for cell in everything if cell.split()[0] != cell.split()[2]}
        )  # else nothing below says anything
        cluster.start()
        yield cluster


def base(cluster: c.Cluster) -> dict[str, c.Document]:
    """What every test has: the namespaces and the pods."""
    return {**c.namespace("red", team="red"), **c.namespace("blue", team="blue"), **cluster.endpoints()}


def to(*ports: int | str, **source: Any) -> c.Document:
    """Allows TCP to ports."""
    rule = {"action": "Allow", "protocol": "TCP", "destination": {"ports": list(ports)}}
    return rule | ({"source": source} if source else {})


WEB = ("red/client > blue/web 9090", "blue/client > blue/web 9090", "outside > blue/web 9090", "one > blue/web 9090")


def test_pods_without_policies_reach_each_other(cluster: c.Cluster) -> None:
    """And their host only as far as the setting says (Drop)."""
    cluster.bring(base(cluster))
    cells = dict.fromkeys((*WEB, "red/web > outside 80", "red/web > blue/web 80", "red/web > two 80"), True)
    cluster.judge({**cells, "red/web > one 80": False, "red/client > two 80": False})
    cluster.judge(dict.fromkeys((*WEB, "red/web > outside 80"), True), "udp")


def test_policies_by_label_and_namespace(cluster: c.Cluster) -> None:
    """The peer is on another node, known by its label, its namespace, and what its namespace is labelled with."""
    state, web = base(cluster), "app == 'web'"
    by_team = c.policy("blue", "web", web, ingress=[to(9090, namespaceSelector="team == 'red'")])
    cluster.bring(state, by_team)
    cluster.judge({**c.only(WEB, WEB[0]), "red/client > blue/web 80": False, "blue/client > red/web 9090": True})
    # A namespace that is relabelled takes its pods with it.
    cluster.bring(state, by_team, c.namespace("red", team="pink"))
    cluster.judge(c.only(WEB))
    cluster.bring(state, by_team)
    cluster.judge(c.only(WEB, WEB[0]))
    # Without a namespaceSelector only pods of the policy's own namespace are meant; with all() those of every one.
    by_role = c.policy("blue", "web", web, ingress=[to(9090, selector="role == 'client'")])
    cluster.bring(state, by_role)
    cluster.judge(c.only(WEB, WEB[1]))
    by_role = c.policy("blue", "web", web, ingress=[to(9090, selector="role == 'client'", namespaceSelector="all()")])
    cluster.bring(state, by_role)
    cluster.judge(c.only(WEB, *WEB[:2]))
    # The same from the sender's side.
    out = c.policy("red", "out", "role == 'client'", egress=[{**ALLOW, "destination": {"namespaceSelector": "team == 'red'"}}])
    cluster.bring(state, out)
    cluster.judge({"red/client > red/web 80": True, "red/client > blue/web 80": False, "red/client > outside 80": False})


def test_both_ends_are_asked(cluster: c.Cluster) -> None:
    state = base(cluster)
    out = c.policy("red", "out", "role == 'client'", egress=[to(9090, 8080)])
    served = c.policy("blue", "in", "app == 'web'", ingress=[to(9090, 80)])
    cluster.bring(state, out, served)
    ways = {f"red/client > blue/web {port}": port == 9090 for port in (80, 8080, 9090)}
    cluster.judge(
        {**ways, "blue/client > blue/web 80": True, "red/client > red/web 8080": True, "red/client > red/web 80": False}
    )


def test_a_port_by_name_is_each_pods_own(cluster: c.Cluster) -> None:
    state = base(cluster)
    ways = [
        f"{sender} > {web} {port}"
        for sender in ("red/client", "blue/client")
        for web in ("red/web", "blue/web")
        for port in (8080, 9090)
    ]
    served = [way for way in ways if way.endswith(("red/web 8080", "blue/web 9090"))]
    cluster.bring(state, c.global_policy("web", "app == 'web'", ingress=[to("http")]))
    cluster.judge(c.only(ways, *served))
    by_name = {"action": "Allow", "protocol": "TCP", "destination": {"ports": ["http"], "selector": "app == 'web'"}}
    cluster.bring(state, c.global_policy("out", "role == 'client'", egress=[by_name]))
    cluster.judge(c.only(ways, *served))


def network_set(where: str, name: str, nets: list[str], **labels: str) -> dict[str, c.Document]:
    key = c.ResourceKey("NetworkSet" if where else "GlobalNetworkSet", where, name)
    metadata = {"name": name, "labels": labels, **({"namespace": where} if where else {})}
    document = {"kind": key.kind, "apiVersion": c.keys.API_VERSION, "metadata": metadata, "spec": {"nets": nets}}
    return {c.keys.path(key): document}


def test_a_network_set_of_a_namespace(cluster: c.Cluster) -> None:
    """M-7, R-21: a policy of the same namespace finds it, and a set of another namespace or of none it doesn't."""
    state, nets = base(cluster), [f"{c.OUTSIDE[0]}/32", f"{c.OUTSIDE[1]}/128"]
    served = c.policy("blue", "web", "app == 'web'", ingress=[to(9090, selector="kind == 'friend'")])
    for where, passes in (("blue", True), ("red", False), ("", False)):
        cluster.bring(state, served, network_set(where, "friends", nets, kind="friend"))
        cluster.judge(c.only(WEB, *([WEB[2]] if passes else [])))
    by_team = c.policy(
        "blue", "web", "app == 'web'", ingress=[to(9090, selector="kind == 'friend'", namespaceSelector="team == 'red'")]
    )
    cluster.bring(state, by_team, network_set("red", "friends", nets, kind="friend"))
    cluster.judge(c.only(WEB, WEB[2]))


def test_a_rule_for_what_is_in_no_namespace(cluster: c.Cluster) -> None:
    """`global()`: sets of no namespace and hosts, and nothing that is in one."""
    state, nets = base(cluster), [f"{c.OUTSIDE[0]}/32", f"{c.OUTSIDE[1]}/128"]
    served = c.policy(
        "blue", "web", "app == 'web'", ingress=[to(9090, selector="kind == 'friend'", namespaceSelector="global()")]
    )
    for where, passes in (("", True), ("blue", False)):
        cluster.bring(state, served, network_set(where, "friends", nets, kind="friend"))
        cluster.judge(c.only(WEB, *([WEB[2]] if passes else [])))
    one = c.host_endpoint("one", "eth0", kind="friend")
    (document,) = one.values()
    document["spec"] |= {"expectedIPs": [*c.node_addresses("one")], "profiles": ["projectcalico-default-allow"]}
    friend = cluster.pods["blue/client"].relabelled(kind="friend")
    cluster.bring(state, served, one, cluster.endpoints(friend))
    cluster.judge(c.only(WEB, WEB[3]))


def test_service_accounts(cluster: c.Cluster) -> None:
    """By name and by label, for whom a policy is and in its rules; an account of that name elsewhere is another one."""
    accounts = {
        **c.service_account("red", "bot", trusted="yes"),
        **c.service_account("blue", "bot"),
        **c.service_account("blue", "server", role="served"),
    }
    with_account = {"red/client": "bot", "blue/client": "bot", "blue/web": "server"}
    pods = [replace(cluster.pods[label], account=account) for label, account in with_account.items()]
    state = {**base(cluster), **cluster.endpoints(*pods), **accounts}
    cluster.bring(state)
    cluster.judge(c.only(WEB, *WEB))

    def served(**accounts: Any) -> dict[str, c.Document]:
        rules = [to(9090, namespaceSelector="has(team)", serviceAccounts=accounts)]
        return c.policy("blue", "web", "", serviceAccountSelector="role == 'served'", ingress=rules)

    cluster.bring(state, served(names=["bot"]))
    cluster.judge({**c.only(WEB, *WEB[:2]), "outside > blue/client 80": True})  # whose account isn't selected
    cluster.bring(state, served(selector="trusted == 'yes'"))
    cluster.judge(c.only(WEB, WEB[0]))
    cluster.bring(state, served(selector="trusted == 'yes'"), c.service_account("red", "bot", trusted="no"))
    cluster.judge(c.only(WEB))
    cluster.bring(state, served(names=["nobody"]))
    cluster.judge(c.only(WEB))


def test_staged_policies_are_never_enforced(cluster: c.Cluster) -> None:
    state = {**base(cluster), **stars(), **c.global_policy("open", "host == 'yes'", ingress=[ALLOW], egress=[ALLOW])}
    denies = {"tier": "default", "selector": "all()", "order": 1, "types": ["Ingress", "Egress"], "ingress": [DENY]}
    forward = {**denies, "applyOnForward": True, "egress": [DENY]}
    staged = {
        c.ResourceKey("StagedGlobalNetworkPolicy", "", "default.deny"): forward,
        c.ResourceKey("StagedGlobalNetworkPolicy", "", "default.early"): {**denies, "preDNAT": True, "applyOnForward": True},
        c.ResourceKey("StagedNetworkPolicy", "blue", "default.deny"): denies,
        c.ResourceKey("StagedKubernetesNetworkPolicy", "blue", "deny"): {"podSelector": {}, "policyTypes": ["Ingress"]},
    }
    documents = {
        c.keys.path(key): {
            "apiVersion": c.keys.API_VERSION,
            "kind": key.kind,
            "metadata": {"name": key.name, **({"namespace": key.namespace} if key.namespace else {})},
            "spec": spec,
        }
        for key, spec in staged.items()
    }
    cells = dict.fromkeys((*WEB, "outside > one 80", "outside > two 80"), True)
    cluster.bring(state)
    cluster.judge(cells)
    cluster.bring(state, documents)
    cluster.judge(cells)
    for agent in cluster.agents.values():
        kinds = ("StagedGlobalNetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy")
        assert [agent.metric("hostward_objects", kind=kind) for kind in kinds] == [2, 1, 1]
        assert agent.status()["setAsideCount"] == 0


# --- host endpoints ------------------------------------------------------------------------------------------------------
def stars() -> dict[str, c.Document]:
    return {**c.host_endpoint("one", "*"), **c.host_endpoint("two", "*")}


CROSSING = "red/client > blue/client 8080"  # from node two to node one


@pytest.mark.parametrize("node", ["one", "two"])
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_forward_policy_of_every_interface_judges_between_pods(cluster: c.Cluster, node: str, direction: str) -> None:
    """H-18: on the sending and on the receiving node, both directions, each can deny; what else a node forwards, too."""
    state, on = base(cluster), f"node == '{node}'"
    rules = {"action": "Deny", "protocol": "TCP", "destination": {"ports": [8080]}}
    denies = c.global_policy("p", on, applyOnForward=True, **{direction: [rules, ALLOW]})
    cluster.bring(state, stars(), denies)
    same = {"red/client > blue/web 8080": node != "two", "blue/client > red/web 8080": node != "one"}  # within a node
    cluster.judge({CROSSING: False, "red/client > blue/client 9090": True, **same})
    # Its normal policy isn't asked about pods.
    normal = c.global_policy("p", on, **{direction: [DENY]})
    cluster.bring(state, stars(), normal)
    cluster.judge({CROSSING: True, "outside > blue/web 80": True, "outside > red/web 80": True, f"outside > {node} 80": False})


def test_pods_answer_to_their_own_policy_beside_the_hosts(cluster: c.Cluster) -> None:
    """H-10: the node's own traffic to a pod of another node, and a pod's to another node, with all host endpoints closed."""
    state = {**base(cluster), **c.host_endpoint("one", "eth0"), **c.host_endpoint("two", "eth0")}
    cluster.bring(state)
    ways = (
        "one > blue/web 9090",
        "red/web > two 80",
        "red/web > blue/web 9090",
        "outside > blue/web 9090",
        "two > blue/web 80",
    )
    cluster.judge(c.only(ways, *ways[2:]))
    # Node one may send it, node two forwards what no forward policy denies, and the pod allows it.
    opens_one = c.global_policy("one", "node == 'one'", egress=[to(9090)])
    cluster.bring(state, opens_one)
    cluster.judge(c.only(ways, ways[0], *ways[2:]))
    cluster.bring(state, opens_one, c.policy("blue", "p", "app == 'web'", ingress=[to(80)]))
    cluster.judge(c.only(ways, ways[4]))
    opens_two = c.global_policy("two", "node == 'two'", ingress=[to(80)])
    cluster.bring(state, opens_two)
    cluster.judge(c.only(ways, ways[1], *ways[2:]))


@pytest.fixture
def node_port(cluster: c.Cluster) -> Iterator[None]:
    """kube-proxy's rules for blue/web on both nodes: node port 30080."""
    pod = cluster.pods["blue/web"]
    ranges = ("10.244.0.0/16", "fd00:244::/32")
    for node in cluster.nodes.values():
        services = [
            kubeproxy.Service(f"WEB{v}", "tcp", address, 9090, 30080) for v, address in zip((4, 6), pod.addresses, strict=True)
        ]
        kubeproxy.install(node, services, ranges)
    yield
    for node in cluster.nodes.values():
        for tool in ("iptables-legacy", "ip6tables-legacy"):
            node.run(tool, "-w", "-t", "nat", "-F")


@pytest.mark.usefixtures("node_port")
@pytest.mark.parametrize("interface", ["eth0", "*"])
def test_a_node_port_of_one_node_to_a_pod_of_another(cluster: c.Cluster, interface: str) -> None:
    """preDNAT policy on the node that is asked, by the node port; the pod's policy on the pod's node, by the pod's port."""
    state = {**base(cluster), **c.host_endpoint("one", interface), **c.host_endpoint("two", interface)}
    state |= c.global_policy("open", "host == 'yes'", order=10, ingress=[ALLOW], egress=[ALLOW], applyOnForward=True)
    via_one, via_two = "outside > one 30080", "outside > two 30080"
    cluster.bring(state)
    cluster.judge({via_one: True, via_two: True})
    assert cluster.probers["outside"].hold(f"open-{interface}", c.node_addresses("one")[0], 30080, 3) == "ok"
    node_ports = {"action": "Deny", "protocol": "TCP", "destination": {"ports": ["30000:32767"]}}
    early = {"preDNAT": True, "applyOnForward": True, "order": 5}
    shut = c.global_policy("shut", "node == 'one'", ingress=[node_ports], **early)
    cluster.bring(state, shut)
    cluster.judge({via_one: False, via_two: True, "outside > one 80": True, "outside > blue/web 9090": True})
    assert cluster.probers["outside"].still(f"open-{interface}", 3) == "ok"
    hole = c.global_policy(
        "hole",
        "node == 'one'",
        ingress=[to(30080, nets=[f"{c.OUTSIDE[0]}/32", f"{c.OUTSIDE[1]}/128"])],
        **{**early, "order": 1},
    )
    cluster.bring(state, shut, hole)
    cluster.judge({via_one: True, via_two: True})
    # kube-proxy hides the client behind the node that was asked: the pod's policy sees that node.
    for port, passes in ((9090, True), (30080, False)):
        nets = [f"{address}/{length}" for address, length in zip(c.node_addresses("one"), (32, 128), strict=True)]
        served = c.policy("blue", "web", "app == 'web'", ingress=[to(port, nets=nets)])
        cluster.bring(state, shut, hole, served)
        cluster.judge({via_one: passes, "outside > blue/web 9090": False})
    # What preDNAT policy accepts still has to leave the node that was asked.
    leaves = c.global_policy(
        "leaves",
        "node == 'one'",
        order=2,
        egress=[{**DENY, "protocol": "TCP", "destination": {"ports": [9090]}}],
        applyOnForward=True,
    )
    cluster.bring(state, hole, leaves)
    cluster.judge({via_one: False, via_two: True})
