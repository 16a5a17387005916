"""v1 documents to v3: the recipe against NodePorts as it was published, every field of B.3, B.2's refusals."""

import pytest

from hostward.convert import v1
from hostward.convert.defaults import filled
from hostward.convert.validate import problems
from hostward.datastore.documents import parse

PAGE = """\
apiVersion: v1
kind: policy
metadata:
  name: deny-kube-node-port-services
spec:
  preDNAT: true
  selector: ibm.role in { 'worker_public', 'master_public' }
  ingress:
  - action: deny
    protocol: tcp
    destination:
      ports:
      - 30000:32767
  - action: deny
    protocol: udp
    destination:
      ports:
      - 30000:32767
"""


def convert(text):
    (parsed,) = parse(text, "test.yaml")
    converted = v1.to_v3(parsed.document)
    assert problems(converted.document) == []
    return converted


def policy(spec, name="p"):
    return v1.to_v3({"apiVersion": "v1", "kind": "policy", "metadata": {"name": name}, "spec": spec}).document["spec"]


def refused(document):
    with pytest.raises(v1.V1Error) as error:
        v1.to_v3(document)
    return [(problem.path, problem.reason) for problem in error.value.problems]


def refused_rule(rule):
    document = {
        "apiVersion": "v1",
        "kind": "policy",
        "metadata": {"name": "p"},
        "spec": {"ingress": [{"action": "deny"} | rule]},
    }
    return [(path.removeprefix("spec.ingress[0]."), reason) for path, reason in refused(document)]


def test_the_pages_recipe():
    converted = convert(PAGE)
    assert converted.document == {
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "deny-kube-node-port-services"},
        "spec": {
            "preDNAT": True,
            "applyOnForward": True,
            "types": ["Ingress"],
            "selector": "ibm.role in { 'worker_public', 'master_public' }",
            "ingress": [
                {"action": "Deny", "protocol": "TCP", "destination": {"ports": ["30000:32767"]}},
                {"action": "Deny", "protocol": "UDP", "destination": {"ports": ["30000:32767"]}},
            ],
        },
    }
    assert not converted.renamed
    assert filled(converted.document)["metadata"]["labels"] == {"projectcalico.org/tier": "default"}


def test_every_policy_judges_forwarded_traffic():
    assert policy({"ingress": [{"action": "allow"}]})["applyOnForward"] is True
    assert policy({"doNotTrack": True})["applyOnForward"] is True


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, ["Ingress"]),
        ({"ingress": [{"action": "allow"}]}, ["Ingress"]),
        ({"egress": [{"action": "allow"}]}, ["Egress"]),
        ({"ingress": [{"action": "allow"}], "egress": [{"action": "deny"}]}, ["Ingress", "Egress"]),
        ({"types": ["egress", "ingress"]}, ["Egress", "Ingress"]),
    ],
)
def test_types(spec, types):
    assert policy(spec)["types"] == types


def test_rules():
    (rule,) = policy(
        {
            "ingress": [
                {
                    "action": "pass",
                    "protocol": "icmpv6",
                    "notProtocol": 17,
                    "ipVersion": 6,
                    "icmp": {"type": 128, "code": 0},
                    "source": {"nets": ["2001:db8::1", "2001:DB8:1::9/48"], "notNet": "2001:db8::/127"},
                    "destination": {"net": "2001:db8::5", "selector": "calico/k8s_ns == 'a'"},
                }
            ]
        }
    )["ingress"]
    assert rule == {
        "action": "Pass",
        "protocol": "ICMPv6",
        "notProtocol": 17,
        "ipVersion": 6,
        "icmp": {"type": 128, "code": 0},
        "source": {"nets": ["2001:db8::1/128", "2001:db8:1::/48"], "notNets": ["2001:db8::/127"]},
        "destination": {"nets": ["2001:db8::5/128"], "selector": "projectcalico.org/namespace == 'a'"},
    }


def test_tags_become_selectors_and_never_let_more_through():
    source = {"tag": "web", "notTag": "bad"}
    (alone,) = policy({"ingress": [{"action": "allow", "source": source}]})["ingress"]
    assert alone["source"] == {"selector": "web == ''", "notSelector": "bad == ''"}
    source |= {"selector": "a == 'b'", "notSelector": "c == 'd'"}
    (both,) = policy({"ingress": [{"action": "allow", "source": source}]})["ingress"]
    assert both["source"] == {"selector": "(a == 'b') && web == ''", "notSelector": "(c == 'd') || bad == ''"}


def test_a_renamed_policy_keeps_its_old_name_and_its_annotations():
    converted = v1.to_v3(
        {"apiVersion": "v1", "kind": "policy", "metadata": {"name": "Block_NodePorts", "annotations": {"a": "b"}}, "spec": {}}
    )
    assert converted.renamed
    assert converted.v1_name == "Block_NodePorts"
    assert converted.document["metadata"] == {
        "name": "block-nodeports-6df207f1",
        "annotations": {"a": "b", "hostward/v1-name": "Block_NodePorts"},
    }
    assert v1.v3_names("GlobalNetworkPolicy", "Block_NodePorts") == ("block-nodeports-6df207f1",)


def test_host_endpoint():
    converted = convert(
        """\
- apiVersion: v1
  kind: hostEndpoint
  metadata: {name: N.x_worker_public, node: N.x, labels: {ibm.role: worker_public}}
  spec: {interfaceName: eth1, expectedIPs: ['2001:db8::1', 192.0.2.1], profiles: [k8s_ns.a]}
"""
    )
    document = converted.document
    assert document["kind"] == "HostEndpoint"
    assert document["metadata"]["name"].startswith("n.x.n.x-worker-public-")
    assert document["metadata"]["labels"] == {"ibm.role": "worker_public"}
    assert document["spec"] == {
        "node": "n.x",
        "interfaceName": "eth1",
        "expectedIPs": ["192.0.2.1", "2001:db8::1"],
        "profiles": ["kns.a"],
    }


def test_profile():
    document = convert(
        """\
apiVersion: v1
kind: profile
metadata: {name: web, tags: [t1], labels: {a: b}}
spec:
  ingress: [{action: allow, source: {tag: t1}}]
"""
    ).document
    assert document["spec"] == {
        "ingress": [{"action": "Allow", "source": {"selector": "t1 == ''"}}],
        "labelsToApply": {"a": "b", "t1": ""},
    }
    clash = {"apiVersion": "v1", "kind": "profile", "metadata": {"name": "web", "tags": ["a"], "labels": {"a": "b"}}}
    assert refused(clash) == [("metadata.tags", "'a' is a tag and a label; v3 has labels only")]


def test_node_and_pool():
    node = convert(
        "{apiVersion: v1, kind: node, metadata: {name: W1}, spec: {bgp: {ipv4Address: 10.0.0.5, asNumber: 64512}}}"
    ).document
    assert node["metadata"]["name"] == "w1"
    assert node["spec"] == {"bgp": {"ipv4Address": "10.0.0.5/32", "asNumber": 64512}}
    pool = convert(
        "{apiVersion: v1, kind: ipPool, metadata: {cidr: 10.1.2.3/16},"
        " spec: {ipip: {enabled: true, mode: cross-subnet}, nat-outgoing: true}}"
    ).document
    assert pool["metadata"]["name"] == "10-1-0-0-16"
    assert pool["spec"] == {
        "cidr": "10.1.0.0/16",
        "ipipMode": "CrossSubnet",
        "vxlanMode": "Never",
        "blockSize": 26,
        "nodeSelector": "all()",
        "natOutgoing": True,
    }


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("bgpPeer", "bgpPeer is about routing, and Hostward has no BGP; keep it with calicoctl"),
        ("Policy", "unknown resource type (Policy) and/or version (v1); did you mean 'policy'?"),
    ],
)
def test_kinds_that_are_refused(kind, reason):
    document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}, "spec": {}}
    assert v1.is_v1(document)
    assert refused(document) == [("kind", reason)]


V1_WORKLOAD = {
    "apiVersion": "v1",
    "kind": "workloadEndpoint",
    "metadata": {
        "name": "eth0",
        "workload": "shop.web-0",
        "orchestrator": "k8s",
        "node": "W1",
        "activeInstanceID": "c0ffee",
        "labels": {"calico/k8s_ns": "shop", "app": "web"},
    },
    "spec": {"interfaceName": "cali1", "ipNetworks": ["10.0.0.1"], "profiles": ["k8s_ns.shop"], "mac": "ee:ee:ee:ee:ee:ee"},
}


def test_workload_endpoints():
    document, old = v1.to_v3(V1_WORKLOAD)
    assert old == "eth0"
    assert document["metadata"] == {
        "name": "w1-k8s-web--0-eth0",
        "namespace": "shop",
        "labels": {"projectcalico.org/namespace": "shop", "app": "web"},
        "annotations": {"hostward/v1-name": "eth0"},
    }
    assert document["spec"] == {
        "orchestrator": "k8s",
        "node": "w1",
        "endpoint": "eth0",
        "pod": "web-0",
        "containerID": "c0ffee",
        "ipNetworks": ["10.0.0.1/32"],
        "profiles": ["kns.shop"],
        "interfaceName": "cali1",
        "mac": "ee:ee:ee:ee:ee:ee",
    }
    assert problems(document) == []


@pytest.mark.parametrize(
    ("orchestrator", "workload", "where", "name"),
    [
        ("cni", "abc", {"containerID": "abc"}, "w1-cni-abc-eth0"),
        ("libnetwork", "libnetwork", {"containerID": "libnetwork"}, "w1-libnetwork-libnetwork-eth0"),
        ("openstack", "vm-1", {"workload": "vm-1"}, "w1-openstack-vm--1-eth0"),
    ],
)
def test_workloads_of_other_orchestrators(orchestrator, workload, where, name):
    meta = {"name": "eth0", "workload": workload, "orchestrator": orchestrator, "node": "w1"}
    document, _ = v1.to_v3(V1_WORKLOAD | {"metadata": meta})
    assert document["metadata"]["name"] == name
    assert document["metadata"]["namespace"] == "default"
    assert where.items() <= document["spec"].items()
    assert problems(document) == []


def test_a_workload_of_kubernetes_without_namespace_is_refused():
    meta = V1_WORKLOAD["metadata"] | {"workload": "web-0"}
    assert refused(V1_WORKLOAD | {"metadata": meta}) == [
        ("metadata.workload", "'web-0' is no workload of Kubernetes: expected namespace.pod")
    ]


def test_kubernetes_kinds_are_no_v1():
    assert not v1.is_v1({"apiVersion": "v1", "kind": "Node"})
    assert not v1.is_v1({"apiVersion": "v1", "kind": "Pod"})
    assert not v1.is_v1({"apiVersion": "projectcalico.org/v3", "kind": "policy"})


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ({"action": "Deny"}, "action"),
        ({"action": None}, "action"),
        ({"protocol": "TCP"}, "protocol"),
        ({"protocol": 0}, "protocol"),
        ({"destination": {"ports": [80]}}, "destination.ports"),
        ({"protocol": "sctp", "destination": {"ports": [80]}}, "destination.ports"),
        ({"protocol": "tcp", "destination": {"ports": ["http"]}}, "destination.ports[0]"),
        ({"protocol": "tcp", "destination": {"ports": [3234, 70000]}}, "destination.ports[1]"),
        ({"source": {"net": "10.0.0.0/8", "nets": ["10.0.0.0/8"]}}, "source.net"),
        ({"source": {"nets": ["10.0.0.0/33"]}}, "source.nets[0]"),
        ({"icmp": {"type": 8}}, "icmp"),
        ({"protocol": "icmp", "icmp": {"code": 8}}, "icmp.code"),
        ({"protocol": "icmp", "ipVersion": 6}, "ipVersion"),
        ({"ipVersion": 5}, "ipVersion"),
        ({"source": {"serviceAccounts": {}}}, "source.serviceAccounts"),
        ({"source": {"tag": "a/b"}}, "source.tag"),
    ],
)
def test_rules_that_are_refused(rule, path):
    assert [found for found, _ in refused_rule(rule)] == [path]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"preDNAT": True, "doNotTrack": True}, "spec.preDNAT"),
        ({"preDNAT": True, "egress": [{"action": "deny"}]}, "spec.egress"),
        ({"preDNAT": True, "types": ["egress"]}, "spec.types"),
        ({"types": ["ingress", "ingress"]}, "spec.types"),
        ({"applyOnForward": True}, "spec.applyOnForward"),
        ({"selector": "a ="}, "spec.selector"),
        ({"order": "10"}, "spec.order"),
    ],
)
def test_policies_that_are_refused(spec, path):
    document = {"apiVersion": "v1", "kind": "policy", "metadata": {"name": "p"}, "spec": spec}
    assert [found for found, _ in refused(document)] == [path]
