"""v3 validation: A.10 sentence by sentence; and whatever passes is understood by the agent without reserve."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostward.convert.defaults import filled
from hostward.convert.validate import WRITABLE, problems
from hostward.model.decode import decode
from hostward.model.keys import KINDS, ResourceKey


def doc(kind, spec, name="a", **metadata):
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name} | metadata, "spec": spec}


def found(document):
    return [(problem.path, problem.reason) for problem in problems(document)]


def paths(document):
    return [problem.path for problem in problems(document)]


def gnp(spec=None, name="a", **metadata):
    return doc("GlobalNetworkPolicy", spec or {}, name, **metadata)


def rule_paths(rule):
    prefix = "spec.ingress[0]."
    return [path.removeprefix(prefix) for path in paths(gnp({"ingress": [{"action": "Deny"} | rule]}))]


RULES = [
    {"protocol": "TCP", "destination": {"ports": [80, "80", "80:90", "http"], "notPorts": [1]}},
    {"protocol": 132, "source": {"ports": [80]}},
    {"destination": {"ports": ["http"]}},
    {"protocol": "112"},
    {"notProtocol": "UDPLite"},
    {"protocol": "ICMP", "icmp": {"type": 8, "code": 0}, "notICMP": {"type": 3}, "ipVersion": 4},
    {"protocol": 58, "ipVersion": 6, "icmp": {"type": 128}},
    {"source": {"nets": ["10.0.0.0/8", "192.0.2.1/32"], "notNets": ["10.1.0.0/16"]}},
    {"source": {"nets": ["2001:db8::/32"]}, "destination": {"nets": ["::/0"]}, "ipVersion": 6},
    {"source": {"selector": "has(a)", "notSelector": "b == 'c'", "namespaceSelector": "global()"}},
    {"source": {"serviceAccounts": {"names": ["a"], "selector": "all()"}}},
    {"source": {}, "destination": {}},
    {"metadata": {"annotations": {"a": "b"}}},
    {"source": {"nets": ["10.0.0.0/8", "10.0.0.0/8"]}},
]
WORKLOAD = doc(
    "WorkloadEndpoint",
    {
        "orchestrator": "k8s",
        "node": "w1",
        "pod": "web-0",
        "containerID": "c0ffee",
        "endpoint": "eth0",
        "serviceAccountName": "default",
        "ipNetworks": ["172.30.1.5/32", "2001:db8::5/128"],
        "ipNATs": [{"internalIP": "172.30.1.5", "externalIP": "192.0.2.9"}],
        "ipv4Gateway": "169.254.1.1",
        "profiles": ["kns.shop", "ksa.shop.default"],
        "interfaceName": "cali1234567890a",
        "mac": "ee:ee:ee:ee:ee:ee",
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080, "hostPort": 0, "hostIP": ""}],
    },
    "w1-k8s-web--0-eth0",
    namespace="shop",
)


def workload(name="w1-k8s-web--0-eth0", **spec):
    return WORKLOAD | {"metadata": {"name": name, "namespace": "shop"}, "spec": WORKLOAD["spec"] | spec}


DOCUMENTS = [
    *(gnp({"ingress": [{"action": action} | rule]}) for rule in RULES for action in ("Allow", "Deny")),
    gnp({"egress": [{"action": "Pass"}, {"action": "Log"}], "types": ["Egress"], "order": 10.5, "tier": "mine"}),
    gnp(
        {"preDNAT": True, "applyOnForward": True, "ingress": [{"action": "Deny"}]}, labels={"a": "b"}, annotations={"A/b": "c"}
    ),
    gnp({"doNotTrack": True, "applyOnForward": True, "selector": "all()", "namespaceSelector": "has(a)"}),
    gnp({"serviceAccountSelector": "has(a)", "performanceHints": ["AssumeNeededOnEveryNode"]}),
    gnp({"selector": None, "order": None, "types": None, "ingress": None}, "a.b", uid="x", resourceVersion="5"),
    doc("HostEndpoint", {"node": "w1", "interfaceName": "*"}, "w1"),
    doc(
        "HostEndpoint",
        {
            "node": "w1.x",
            "expectedIPs": ["192.0.2.1", "2001:db8::1"],
            "profiles": ["kns.a"],
            "ports": [{"name": "ssh", "protocol": "TCP", "port": 22}, {"name": "x", "protocol": "17", "port": 5}],
        },
    ),
    doc("GlobalNetworkSet", {"nets": ["10.0.0.1", "10.0.0.1/8", "2001:db8::/64", "10.0.0.1"]}, labels={"a.b/c": "d"}),
    doc("Tier", {"order": 5, "defaultAction": "Pass"}),
    doc("Tier", {}),
    doc("Tier", {"order": 1000000, "defaultAction": "Deny"}, "default"),
    doc("Tier", {"order": 1000, "defaultAction": "Pass"}, "kube-admin"),
    doc("Profile", {"ingress": [{"action": "Allow"}], "egress": [], "labelsToApply": {"a": "", "pcns.b": "c"}}),
    doc(
        "Node",
        {"bgp": {"ipv4Address": "10.0.0.1/24", "asNumber": 64512}, "orchRefs": [{"nodeName": "a", "orchestrator": "k8s"}]},
    ),
    doc("FelixConfiguration", {"hostForwardPolicy": "All", "logSeverityScreen": "Info", "bpfEnabled": False}, "default"),
    doc("FelixConfiguration", {"iptablesLockFilePath": "/x", "routeRefreshInterval": "90s", "bpfLogLevel": "Off"}, "node.w1"),
    doc("IPPool", {"cidr": "10.0.0.0/16", "ipipMode": "Always", "natOutgoing": True, "blockSize": 26}),
    doc("NetworkPolicy", {"order": 1, "ingress": [{"action": "Allow"}]}, namespace="shop"),
    doc("NetworkSet", {"nets": ["10.0.0.1"]}, namespace="shop"),
    doc(
        "NetworkPolicy",
        {
            "ingress": [{"action": "Allow", "source": {"services": {"name": "own"}}}],
            "egress": [{"action": "Allow", "destination": {"services": {"name": "dns", "namespace": "kube-system"}}}],
        },
        "services",
        namespace="shop",
    ),
    doc(
        "GlobalNetworkPolicy",
        {"egress": [{"action": "Allow", "destination": {"services": {"name": "dns", "namespace": "kube-system"}}}]},
    ),
    WORKLOAD,
    doc(
        "StagedNetworkPolicy",
        {"ingress": [{"action": "Allow", "http": {"methods": ["GET"], "paths": [{"exact": "/a"}]}}]},
        "s",
        namespace="shop",
    ),
    doc("StagedGlobalNetworkPolicy", {"selector": "all()", "types": ["Ingress"], "preDNAT": True, "applyOnForward": True}, "s"),
    doc("StagedGlobalNetworkPolicy", {"stagedAction": "Delete", "tier": "default"}, "s"),
    doc("StagedNetworkPolicy", {"stagedAction": "Set", "ingress": [{"action": "Deny"}]}, "s", namespace="shop"),
    doc(
        "StagedKubernetesNetworkPolicy",
        {
            "podSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}]},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, {"podSelector": {}}],
                    "ports": [{"protocol": "TCP", "port": 80, "endPort": 90}, {"port": "http"}],
                }
            ],
            "egress": [{"to": [{"namespaceSelector": {}}]}],
        },
        "s",
        namespace="shop",
    ),
    doc(
        "KubeControllersConfiguration",
        {"controllers": {"node": {"hostEndpoint": {"autoCreate": "Disabled"}, "reconcilerPeriod": "5m"}, "namespace": {}}},
        "default",
    ),
]


def judge(document):
    """Passes validation, and what a writer then stores is wholly understood."""
    assert problems(document) == []
    stored = filled(document)
    key = ResourceKey(document["kind"], document["metadata"].get("namespace", ""), document["metadata"]["name"])
    decoded = decode(key, json.dumps(stored).encode())
    assert decoded.problems == ()
    return decoded.value


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: f"{document['kind']}-{json.dumps(document['spec'])[:60]}")
def test_good_documents_pass_and_are_understood(document):
    before = copy.deepcopy(document)
    judge(document)
    assert document == before


def test_every_writable_kind_has_a_good_document():
    assert {document["kind"] for document in DOCUMENTS} == WRITABLE


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        ({"action": "allow"}, ["action"]),
        ({"action": None}, ["action"]),
        ({"ipVersion": 5}, ["ipVersion"]),
        ({"protocol": "tcp"}, ["protocol"]),
        ({"protocol": 0}, ["protocol"]),
        ({"protocol": 256}, ["protocol"]),
        ({"protocol": True}, ["protocol"]),
        ({"destination": {"ports": [80]}}, ["destination.ports[0]"]),
        ({"protocol": "ICMP", "destination": {"ports": ["http"]}}, ["destination.ports[0]"]),
        (
            {"protocol": "TCP", "destination": {"ports": [0, 65536, "5:4", "1:2:3", True, 1.5, "A"]}},
            [f"destination.ports[{n}]" for n in range(7)],
        ),
        ({"protocol": "TCP", "destination": {"ports": [1] * 51}}, ["destination.ports"]),
        ({"icmp": {"type": 8}}, ["icmp"]),
        ({"notICMP": {"type": 8}}, ["notICMP"]),
        ({"protocol": "ICMP", "icmp": {"code": 8}}, ["icmp.code"]),
        ({"protocol": "ICMP", "icmp": {"type": 255, "code": 256}}, ["icmp.type", "icmp.code"]),
        ({"protocol": "ICMP", "ipVersion": 6}, ["ipVersion"]),
        ({"notProtocol": "ICMPv6", "ipVersion": 4}, ["ipVersion"]),
        ({"source": {"nets": ["10.0.0.1"]}}, ["source.nets[0]"]),
        ({"source": {"nets": ["10.0.0.1/8"]}}, ["source.nets[0]"]),
        ({"source": {"nets": ["10.0.0.0/8"]}, "destination": {"nets": ["2001:db8::/32"]}}, ["destination.nets[0]"]),
        ({"ipVersion": 6, "source": {"nets": ["10.0.0.0/8"]}}, ["source.nets[0]"]),
        ({"source": {"notNets": ["0.0.0.0/0"]}}, ["source.notNets[0]"]),
        ({"source": {"nets": ["10.0.0.0/8"] * 257}}, ["source.nets"]),
        ({"source": {"selector": "global()"}}, ["source.selector"]),
        ({"source": {"namespaceSelector": "global() && has(a)"}}, ["source.namespaceSelector"]),
        ({"source": {"selector": f"a == '{'x' * 1024}'"}}, ["source.selector"]),
        ({"http": {"methods": ["GET"]}}, ["http"]),
        ({"source": {"services": {"name": "a"}}}, ["source.services.namespace"]),
        ({"destination": {"services": {"name": "a"}}}, ["destination.services"]),
        ({"source": []}, ["source"]),
        ({"sources": {}}, ["sources"]),
    ],
)  # fmt: skip
def test_bad_rules(rule, bad):
    assert rule_paths(rule) == bad


@pytest.mark.parametrize(
    ("document", "bad"),
    [
        (gnp({"preDNAT": True, "doNotTrack": True, "applyOnForward": True}), ["spec.preDNAT"]),
        (gnp({"preDNAT": True, "applyOnForward": True, "egress": [{"action": "Deny"}]}), ["spec.egress"]),
        (gnp({"preDNAT": True, "applyOnForward": True, "types": ["Egress"]}), ["spec.types"]),
        (gnp({"preDNAT": True}), ["spec.applyOnForward"]),
        (gnp({"doNotTrack": True, "applyOnForward": False}), ["spec.applyOnForward"]),
        (gnp({"types": ["Ingress", "Ingress", "ingress"]}), ["spec.types[2]", "spec.types[1]"]),
        (gnp({"selector": "a"}), ["spec.selector"]),
        (gnp({"tier": "a.b"}), ["spec.tier"]),
        (gnp({"order": "10"}), ["spec.order"]),
        (gnp({"order": float("nan")}), ["spec.order"]),
        (gnp({"order": 10**400}), ["spec.order"]),
        (gnp(name="A_b"), ["metadata.name"]),
        (gnp(name="a.b.c"), ["metadata.name"]),
        (gnp(name=""), ["metadata.name", "metadata.name"]),
        (gnp(namespace="x"), ["metadata.namespace"]),
        (gnp(labels={"a b": "c", "d": "-"}), ["metadata.labels.a b", "metadata.labels.d"]),
        (gnp(labels={"a": 1}), ["metadata.labels.a"]),
        (gnp(annotations={"a": "x" * 2**18}), ["metadata.annotations"]),
        (gnp(resourceVersion="abc"), ["metadata.resourceVersion"]),
        (doc("GlobalNetworkPolicy", None), ["spec"]),
        (doc("NetworkPolicy", {"preDNAT": True, "namespaceSelector": "all()"}), ["spec.preDNAT", "spec.namespaceSelector"]),
        (doc("HostEndpoint", {"interfaceName": "eth0"}), ["spec.node"]),
        (doc("HostEndpoint", {"node": "a"}), ["spec.interfaceName"]),
        (doc("HostEndpoint", {"node": "a", "interfaceName": "sixteen-letters-"}), ["spec.interfaceName"]),
        (doc("HostEndpoint", {"node": "a", "expectedIPs": ["10.0.0.1/32"]}), ["spec.expectedIPs[0]"]),
        (
            doc("HostEndpoint", {"node": "a", "interfaceName": "*", "ports": [{"name": "X", "protocol": "ICMP", "port": 0}]}),
            ["spec.ports[0].name", "spec.ports[0].protocol", "spec.ports[0].port"],
        ),
        (
            doc("GlobalNetworkSet", {"nets": ["a"]}, labels={"projectcalico.org/namespace": "x"}),
            ["metadata.labels.projectcalico.org/namespace", "spec.nets[0]"],
        ),
        (doc("Tier", {}, "a.b"), ["metadata.name"]),
        (doc("Tier", {"defaultAction": "Allow"}), ["spec.defaultAction"]),
        (doc("Tier", {"order": 5}, "default"), ["spec.order"]),
        (doc("Tier", {"defaultAction": "Pass"}, "default"), ["spec.defaultAction"]),
        (doc("Tier", {}, "kube-admin"), ["spec.defaultAction"]),
        (doc("Profile", {"labelsToApply": {"a": "b c"}}), ["spec.labelsToApply.a"]),
        (doc("FelixConfiguration", {"failsafeInboundHostPort": []}, "default"), ["spec.failsafeInboundHostPort"]),
        (doc("FelixConfiguration", {"failsafeInboundHostPorts": [{"port": 0}]}, "default"), ["spec.failsafeInboundHostPorts"]),
        (doc("FelixConfiguration", {"nodeName": "a", "stateDir": "/a"}, "default"), ["spec.nodeName", "spec.stateDir"]),
        (doc("FelixConfiguration", {}, "w1"), ["metadata.name"]),
        (doc("IPPool", {"cidr": "x"}), ["spec.cidr"]),
        (
            doc("IPPool", {"cidr": "10.0.0.0/16", "blockSize": 16, "ipipMode": "Always", "vxlanMode": "Always"}),
            ["spec.blockSize", "spec.vxlanMode"],
        ),
        (doc("Node", {"bgp": {"ipv4Address": "x"}}), ["spec.bgp.ipv4Address"]),
        (gnp() | {"specs": {}}, ["specs"]),
        ({"kind": "GlobalNetworkPolicy"}, ["apiVersion"]),
        (doc("GlobalNetworkPolice", {}), ["kind"]),
        (doc("ClusterInformation", {}), ["kind"]),
        (workload("w1-k8s-web-0-eth0"), ["metadata.name"]),
        (workload(orchestrator=""), ["spec.orchestrator", "spec.workload"]),
        (workload(endpoint="-eth0"), ["spec.endpoint"]),
        (workload(ipNetworks=["172.30.1.0/24"], ipNATs=None), ["spec.ipNetworks[0]"]),
        (workload(ipNATs=[{"internalIP": "10.0.0.9", "externalIP": "::1"}]),
         ["spec.ipNATs[0].internalIP", "spec.ipNATs[0].externalIP"]),
        (workload(ipv4Gateway="fe80::1"), ["spec.ipv4Gateway"]),
        (workload(mac="ee"), ["spec.mac"]),
        (workload(ports=[{"port": 80, "protocol": "TCP"}]), ["spec.ports[0].name"]),
        (workload(ports=[{"port": 80, "protocol": "ICMP", "hostPort": 80}]), ["spec.ports[0].protocol"]),
        (workload(ports=[{"port": 80, "name": "http"}]), ["spec.ports[0].protocol"]),
        (doc("StagedGlobalNetworkPolicy", {"stagedAction": "Delete", "selector": "all()"}), ["spec.selector"]),
        (doc("StagedGlobalNetworkPolicy", {"stagedAction": "set"}), ["spec.stagedAction"]),
        (doc("StagedKubernetesNetworkPolicy", {"selector": "all()"}, namespace="x"), ["spec.selector"]),
        (
            doc("StagedKubernetesNetworkPolicy",
                {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}}]}]}),
            ["spec.ingress[0].from[0].ipBlock.except[0]"],
        ),
        (doc("KubeControllersConfiguration", {"controllers": {"nodes": {}}}, "x"), ["spec.controllers.nodes", "metadata.name"]),
        (doc("NetworkPolicy", {"ingress": [{"action": "Deny", "http": {"methods": ["GET"]}}]}), ["spec.ingress[0].http"]),
        (
            doc("NetworkPolicy",
                {"ingress": [{"action": "Allow", "source": {"services": {"name": "a"}, "nets": ["10.0.0.0/8"]}}]}),
            ["spec.ingress[0].source.nets"],
        ),
        (doc("NetworkPolicy",
             {"egress": [{"action": "Allow", "protocol": "TCP", "destination": {"services": {"name": "a"}, "ports": [80]}}]}),
         ["spec.egress[0].destination.ports"]),
        (doc("NetworkPolicy", {"ingress": [{"action": "Allow", "source": {"services": {"name": "a"}, "serviceAccounts": {}}}]}),
         ["spec.ingress[0].source.serviceAccounts"]),
        (doc("Profile", {"ingress": [{"action": "Allow", "source": {"services": {"name": "a", "namespace": "b"}}}]}),
         ["spec.ingress[0].source.services"]),
        (gnp({"egress": [{"action": "Allow", "destination": {"services": {"name": "a"}}}]}),
         ["spec.egress[0].destination.services.namespace"]),
        (doc("NetworkPolicy", {"egress": [{"action": "Allow", "source": {"services": {"name": "a"}}}]}),
         ["spec.egress[0].source.services"]),
        (doc("Tier", {}) | {"apiVersion": "crd.projectcalico.org/v1"}, ["kind"]),
        ([], [""]),
    ],
)  # fmt: skip
def test_bad_documents(document, bad):
    assert paths(document) == bad


def test_messages_help():
    assert found(gnp({"selectr": "all()"})) == [("spec.selectr", "unknown field; did you mean 'selector'?")]
    (problem,) = found(gnp({"ingress": [{"action": "allow"}]}))
    assert problem == ("spec.ingress[0].action", "'allow' is none of Allow, Deny, Log, Pass; did you mean 'Allow'?")
    (problem,) = found(gnp({"ingress": [{"action": "Deny", "source": {"nets": ["10.0.0.1/8"]}}]}))
    assert problem[1] == "'10.0.0.1/8' has bits set after its length; the network is '10.0.0.0/8'"
    (problem,) = found(doc("Globalnetworkpolicy", {}))
    assert problem[1] == (
        "unknown resource type (Globalnetworkpolicy) and/or version (projectcalico.org/v3); did you mean 'GlobalNetworkPolicy'?"
    )
    (problem,) = found(doc("policy", {}))
    assert problem[1].endswith("; a policy of v1 has apiVersion v1, one of v3 is a GlobalNetworkPolicy or a NetworkPolicy")
    (problem,) = found(doc("NetworkPolicy", {}) | {"apiVersion": "extensions/v1beta1"})
    assert problem[1].endswith("; expected apiVersion projectcalico.org/v3, or networking.k8s.io/v1 for one of Kubernetes")


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["TCP", "10.0.0.0/8", "all()"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in items:
        yield from places(inner, (*path, step))


def replaced(value, path, new):
    copied = copy.deepcopy(value)
    if not path:
        return new
    holder = copied
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = new
    return copied


@st.composite
def mutated(draw):
    document = draw(st.sampled_from(DOCUMENTS))
    for _ in range(draw(st.integers(1, 3))):
        document = replaced(document, draw(st.sampled_from(sorted(places(document), key=repr))), draw(JUNK))
        if not isinstance(document, dict):
            break
    return document


@given(mutated())
@settings(max_examples=400, deadline=None)
def test_validation_never_raises_and_what_passes_is_understood(document):
    if not problems(document):
        judge(document)


PORT = st.sampled_from([1, 65535, "80", "1:2", "http", "a-b"])
NET4 = st.sampled_from(["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32"])
NET6 = st.sampled_from(["2001:db8::/32", "::/0", "2001:db8::1/128"])
SELECTOR = st.sampled_from(["all()", "", "a == 'b'", "!has(x) || y in {'1'}", "global()"])
ENTITY = st.fixed_dictionaries(
    {},
    optional={
        "nets": st.lists(NET4, max_size=2) | st.lists(NET6, max_size=2),
        "notNets": st.lists(NET4 | NET6, max_size=2),
        "ports": st.lists(PORT, max_size=2),
        "notPorts": st.lists(PORT, max_size=2),
        "selector": SELECTOR,
        "notSelector": SELECTOR,
        "namespaceSelector": SELECTOR,
        "serviceAccounts": st.fixed_dictionaries(
            {}, optional={"names": st.lists(st.just("sa"), max_size=1), "selector": SELECTOR}
        ),
    },
)
SERVICE = st.fixed_dictionaries(
    {"services": st.fixed_dictionaries({"name": st.just("s")}, optional={"namespace": st.just("n")})},
    optional={"ports": st.lists(PORT, max_size=1), "nets": st.lists(NET4, max_size=1), "serviceAccounts": st.just({})},
)
SIDE = ENTITY | ENTITY | SERVICE
ICMP = st.fixed_dictionaries({}, optional={"type": st.sampled_from([0, 8, 254]), "code": st.sampled_from([0, 255])})
PROTOCOL = st.sampled_from(["TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite", 6, 1, 58, "112", 255])
RULE = st.fixed_dictionaries(
    {"action": st.sampled_from(["Allow", "Deny", "Log", "Pass"])},
    optional={
        "protocol": PROTOCOL,
        "notProtocol": PROTOCOL,
        "ipVersion": st.sampled_from([4, 6]),
        "icmp": ICMP,
        "notICMP": ICMP,
        "source": SIDE,
        "destination": SIDE,
    },
)
POLICY = st.fixed_dictionaries(
    {},
    optional={
        "ingress": st.lists(RULE, max_size=2),
        "egress": st.lists(RULE, max_size=2),
        "types": st.lists(st.sampled_from(["Ingress", "Egress"]), unique=True),
        "preDNAT": st.booleans(),
        "doNotTrack": st.booleans(),
        "applyOnForward": st.booleans(),
        "order": st.floats(-1e6, 1e6) | st.integers(-5, 5),
        "selector": SELECTOR,
        "namespaceSelector": SELECTOR,
        "tier": st.sampled_from(["", "default", "mine"]),
    },
)


@given(POLICY)
@settings(max_examples=400, deadline=None)
def test_every_policy_that_passes_is_understood(spec):
    document = gnp(spec)
    if not problems(document):
        judge(document)


NETWORK_POLICY = st.fixed_dictionaries(
    {},
    optional={
        "ingress": st.lists(RULE, max_size=2),
        "egress": st.lists(RULE, max_size=2),
        "types": st.lists(st.sampled_from(["Ingress", "Egress"]), unique=True),
        "selector": SELECTOR,
        "serviceAccountSelector": SELECTOR,
        "tier": st.sampled_from(["", "default", "mine"]),
    },
)


@given(NETWORK_POLICY)
@settings(max_examples=400, deadline=None)
def test_every_policy_in_a_namespace_that_passes_is_understood(spec):
    document = doc("NetworkPolicy", spec, namespace="shop")
    if not problems(document):
        judge(document)


ADDRESS = st.sampled_from(["10.0.0.1/32", "10.0.0.1", "2001:db8::1/128", "2001:DB8:0::1/128", "10.0.0.0/24", "10.0.0.1/032"])
WORKLOAD_PORT = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["http", "", "a-b", "1", "HTTP"]),
        "protocol": st.sampled_from(["TCP", "UDP", "SCTP", "17", 6, "ICMP", "tcp"]),
        "port": st.sampled_from([1, 65535, 0, "80"]),
        "hostPort": st.sampled_from([0, 80]),
        "hostIP": st.sampled_from(["", "192.0.2.1"]),
    },
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "ipNetworks": st.lists(ADDRESS, max_size=2),
            "ports": st.lists(WORKLOAD_PORT, max_size=2),
            "interfaceName": st.sampled_from(["cali1", "*", "", "a.b-c_d", "sixteen-letters-", "cali:1"]),
            "profiles": st.lists(st.sampled_from(["kns.shop", "", "A b"]), max_size=2),
            "serviceAccountName": st.sampled_from(["", "sa"]),
            "allowSpoofedSourcePrefixes": st.lists(NET4 | NET6 | ADDRESS, max_size=2),
            "ipNATs": st.none(),
        },
    )
)
@settings(max_examples=400, deadline=None)
def test_every_workload_endpoint_that_passes_is_understood(changes):
    document = workload(**{"ipNATs": None} | changes)
    if not problems(document):
        judge(document)


@given(st.lists(RULE, max_size=2), st.lists(RULE, max_size=2))
@settings(max_examples=150, deadline=None)
def test_every_profile_that_passes_is_understood(ingress, egress):
    document = doc("Profile", {"ingress": ingress, "egress": egress})
    if not problems(document):
        judge(document)


def test_all_kinds_have_an_answer():
    for kind in KINDS:
        assert kind in WRITABLE or paths(doc(kind, {})) == ["kind"]
