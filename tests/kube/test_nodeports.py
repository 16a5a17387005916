"""NodePorts of the real kube-proxy under preDNAT policy (`statements.md` kubernetes 6): the edge-node case with real rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kube.cluster import NODE, PODS, Cluster, until
from tests.lab.host import document, endpoint, policy, rule
from tests.lab.kubernetes import KubeProxy
from tests.lab.probes import Probe

NODE_PORT, POD_PORT, SERVICE_PORT = 30080, 8080, 80
EDGE = f"edge == '{NODE}'"
SHUT = policy("shut", selector=EDGE, order=20, preDNAT=True, ingress=[rule("Deny", "TCP", ["30000:32767"])])


def let_in(*ports: int) -> Any:
    """What lets the load balancer (the office's address) in to ports."""
    balancer = {"nets": [f"{Cluster.OFFICE[0]}/32"]}
    return policy("balancer", selector=EDGE, order=10, preDNAT=True, ingress=[rule("Allow", "TCP", ports, source=balancer)])


def expose(cluster: Cluster, name: str, node_port: int) -> None:
    """Applies a NodePort service in front of the pod `web` and waits until kube-proxy has written it."""
    web, meta = cluster.pods["web"].address, {"name": name, "namespace": "shop"}
    ready = {"addresses": [web], "conditions": {"ready": True}, "topology": {"kubernetes.io/hostname": NODE}}
    port = {"port": SERVICE_PORT, "targetPort": POD_PORT, "nodePort": node_port}
    cluster.api.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"type": "NodePort", "ports": [port]}},
        {
            "apiVersion": "discovery.k8s.io/v1beta1",
            "kind": "EndpointSlice",
            "metadata": meta | {"labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [ready],
            "ports": [{"name": "", "port": POD_PORT, "protocol": "TCP"}],
        },
    )
    written = f'"shop/{name}" -m tcp --dport {node_port} -j KUBE-SVC-'
    until(f"kube-proxy has written {written}", lambda: written in cluster.agent.iptables("-t", "nat", "-S"))


@pytest.fixture(scope="module")
def proxied(whole_cluster: Cluster) -> Iterator[tuple[Cluster, KubeProxy]]:
    """The cluster with kube-proxy and a NodePort service in front of the pod `web`."""
    cluster = whole_cluster
    with KubeProxy(cluster.worker, cluster.api, NODE, PODS, cluster.agent.lock_file) as proxy:
        expose(cluster, "web", NODE_PORT)
        yield cluster, proxy
        cluster.api.kubectl("delete", "service,endpointslice", "--all", "-n", "shop")


@pytest.fixture
def site(proxied: tuple[Cluster, KubeProxy]) -> Iterator[tuple[Cluster, KubeProxy]]:
    """The same, with a host endpoint on `eth1` whose only policies are the test's."""
    cluster, proxy = proxied
    edge = endpoint("eth1", "edge", node=NODE, labels={"edge": NODE})
    everything = document("Profile", "all", ingress=[rule()], egress=[rule()])
    cluster.write(everything, {**edge, "spec": {**edge["spec"], "profiles": ["all"]}})
    yield cluster, proxy
    cluster.remove("globalnetworkpolicies/default.shut", "globalnetworkpolicies/default.balancer", "hostendpoints/edge")
    cluster.delete_policies()


def through(cluster: Cluster, port: int = NODE_PORT, address: str = Cluster.PUBLIC[0]) -> dict[str, bool]:
    """Who gets an answer from the node's port, of the internet and the balancer."""
    return {name: prober.can_connect(address, port, timeout=1) for name, prober in cluster.outside.items()}


def test_a_predna_policy_shuts_node_ports_but_lets_the_balancer_in(site: tuple[Cluster, KubeProxy]) -> None:
    cluster, _ = site
    assert through(cluster) == {"internet": True, "office": True}
    cluster.write(SHUT)
    assert through(cluster) == {"internet": False, "office": False}
    web = cluster.pods["web"].address
    assert through(cluster, POD_PORT, web) == {"internet": True, "office": True}  # the pod itself isn't what was shut
    cluster.write(let_in(POD_PORT))  # the port behind the NodePort isn't what preDNAT policy sees
    assert through(cluster) == {"internet": False, "office": False}
    cluster.write(let_in(NODE_PORT))
    assert through(cluster) == {"internet": False, "office": True}


def test_the_rules_of_both_survive_each_other(site: tuple[Cluster, KubeProxy]) -> None:
    cluster, _ = site
    cluster.write(SHUT, let_in(NODE_PORT))
    expected = {"internet": False, "office": True}
    expose(cluster, "other", 30081)  # kube-proxy writes everything anew
    assert through(cluster) == expected
    assert not any(through(cluster, 30081).values())
    cluster.agent.restart()
    cluster.agent.wait_applied(cluster.last_change())
    assert through(cluster) == expected
    expose(cluster, "other", 30082)
    assert through(cluster) == expected
    assert not any(through(cluster, 30082).values())


def test_the_agent_takes_the_first_place_again_that_kube_proxy_took(site: tuple[Cluster, KubeProxy]) -> None:
    cluster, proxy = site
    cluster.apply_policy("closed")
    expected = {"internet": False, "office": False}
    assert through(cluster) == expected
    proxy.end()
    for chain in ("INPUT", "FORWARD", "OUTPUT"):  # as on a node whose kube-proxy starts after the agent
        jumps = cluster.agent.iptables("-S", chain).splitlines()[1:]
        for number in range(len(jumps), 0, -1):
            if "-j KUBE-" in jumps[number - 1]:
                cluster.agent.iptables("-D", chain, str(number))
    proxy.start()
    # What kube-proxy has marked, it accepts in FORWARD: first there, it would let NodePorts past the pods' policies.
    until("kube-proxy's jump is there", lambda: "-j KUBE-FORWARD" in cluster.agent.iptables("-S", "FORWARD"))
    until("the agent's jump is first", lambda: cluster.agent.iptables("-S", "FORWARD", "1").endswith("-j hw-FORWARD\n"))
    assert through(cluster) == expected


def test_kube_proxys_mark_stays_intact(site: tuple[Cluster, KubeProxy]) -> None:
    cluster, _ = site
    cluster.write(SHUT, let_in(NODE_PORT))
    (outcome,) = cluster.outside["office"].probe([Probe(cluster.PUBLIC[0], NODE_PORT, timeout=1)])
    # The masquerading of kube-proxy, which goes by its mark, makes the pod see an address of the node.
    assert (outcome.result, outcome.seen) in {("ok", address) for address in (cluster.PUBLIC[0], cluster.PRIVATE[0])}


def test_the_pods_own_policy_still_judges_what_predna_policy_let_in(site: tuple[Cluster, KubeProxy]) -> None:
    cluster, _ = site
    cluster.write(SHUT, let_in(NODE_PORT))
    assert through(cluster) == {"internet": False, "office": True}
    cluster.apply_policy("closed")
    assert through(cluster) == {"internet": False, "office": False}
    cluster.apply_policy("web", ingress=[{"ports": [{"port": POD_PORT}]}])
    assert through(cluster) == {"internet": False, "office": True}


def test_where_node_ports_keep_the_clients_address_the_pods_policy_judges_it(site: tuple[Cluster, KubeProxy]) -> None:
    cluster, _ = site

    def seen() -> dict[str, str]:
        probe = Probe(cluster.PUBLIC[0], NODE_PORT, timeout=1)
        return {name: prober.probe([probe])[0].seen for name, prober in cluster.outside.items()}

    cluster.write(SHUT, policy("balancer", selector=EDGE, order=10, preDNAT=True, ingress=[rule("Allow", "TCP", [NODE_PORT])]))
    cluster.api.kubectl("patch", "service", "web", "-n", "shop", "-p", '{"spec":{"externalTrafficPolicy":"Local"}}')
    until("kube-proxy masquerades no more", lambda: seen() == {"internet": cluster.INTERNET[0], "office": cluster.OFFICE[0]})
    cluster.apply_policy("balancer", ingress=[{"from": [{"ipBlock": {"cidr": f"{cluster.OFFICE[0]}/32"}}]}])
    assert through(cluster) == {"internet": False, "office": True}
    cluster.api.kubectl("patch", "service", "web", "-n", "shop", "-p", '{"spec":{"externalTrafficPolicy":"Cluster"}}')
