"""Warnings before a change takes a failsafe or the way to etcd away; and none where nothing is lost."""

import pytest

from hostward.cli import lockout
from hostward.convert.defaults import filled
from hostward.datastore.store import StoreError
from hostward.model.keys import ResourceKey
from tests.lab.memory_store import MemoryStore
from tests.unit.test_convert_validate import doc

ETCD = ("192.0.2.1", 30001)
ENDPOINT = doc("HostEndpoint", {"node": "m", "interfaceName": "eth1", "expectedIPs": ["192.0.2.1"]}, "m", labels={"role": "m"})
ALLOW_ETCD = {"action": "Allow", "protocol": "TCP", "destination": {"ports": [30001]}}

DENY_NODE_PORTS = {"action": "Deny", "protocol": "TCP", "destination": {"ports": ["30000:32767"]}}


def key_of(document):
    return ResourceKey(document["kind"], document["metadata"].get("namespace", ""), document["metadata"]["name"])


def gnp(name, *ingress, **spec):
    return doc("GlobalNetworkPolicy", {"ingress": list(ingress), "types": ["Ingress"]} | spec, name)


@pytest.fixture
def store():
    made = MemoryStore()
    made.served = (ETCD,)
    return made


def put(store, *documents):
    for document in documents:
        store.put(key_of(document), filled(document))


def said(store, *documents, deleted=()):
    told = []
    after = {key_of(one): filled(one) for one in documents} | dict.fromkeys(map(key_of, deleted))
    lockout.warn(store, after, told.append)
    return told


def test_an_endpoint_around_etcd_without_a_policy(store):
    assert said(store, ENDPOINT) == [
        "warning: etcd at 192.0.2.1 port 30001 is behind HostEndpoint(m), where no policy would allow TCP 30001 any more "
        "and it is no inbound failsafe: agents and this command may lose etcd"
    ]
    assert said(store, ENDPOINT, gnp("a", ALLOW_ETCD)) == []
    assert said(store, ENDPOINT, gnp("a", ALLOW_ETCD, selector="role == 'other'"))
    assert said(store, ENDPOINT | {"spec": ENDPOINT["spec"] | {"expectedIPs": ["192.0.2.2"]}}) == []


@pytest.mark.parametrize(
    ("rules", "lost"),
    [
        ([ALLOW_ETCD], False),
        ([{"action": "Allow"}], False),
        ([ALLOW_ETCD | {"source": {"nets": ["10.0.0.0/8"]}}], False),  # somebody can
        ([{"action": "Deny", "source": {"nets": ["10.0.0.0/8"]}}, ALLOW_ETCD], False),
        ([{"action": "Deny"}, ALLOW_ETCD], True),
        ([{"action": "Deny", "protocol": "UDP"}, ALLOW_ETCD], False),
        ([{"action": "Log"}, DENY_NODE_PORTS, ALLOW_ETCD], True),
        ([{"action": "Deny", "source": {"nets": ["0.0.0.0/0"]}}, ALLOW_ETCD], True),
        ([{"action": "Allow", "protocol": "TCP", "destination": {"ports": [443]}}], True),
        ([{"action": "Allow", "destination": {"nets": ["192.0.2.0/24"]}}], False),
        ([{"action": "Allow", "destination": {"nets": ["10.0.0.0/8"]}}], True),
        ([{"action": "Allow", "destination": {"notNets": ["192.0.2.0/24"]}}], True),
        ([{"action": "Allow", "protocol": "TCP", "destination": {"notPorts": [30001]}}], True),
        ([{"action": "Allow", "ipVersion": 6}], True),
        ([{"action": "Allow", "notProtocol": "TCP"}], True),
        ([{"action": "Allow", "protocol": "ICMP"}], True),
        ([], True),
    ],
)  # fmt: skip
def test_rules(store, rules, lost):
    put(store, ENDPOINT, gnp("a", ALLOW_ETCD))
    assert bool(said(store, gnp("a", *rules))) is lost


def test_deleting_the_policy_that_allows_etcd(store):
    put(store, ENDPOINT, gnp("a", ALLOW_ETCD), gnp("b", {"action": "Log"}))
    assert said(store, deleted=[gnp("a")])
    assert said(store, deleted=[gnp("b")]) == []
    assert said(store, deleted=[gnp("a"), ENDPOINT]) == []


def test_the_pages_recipe_on_an_etcd_at_a_node_port(store):
    put(store, ENDPOINT, gnp("a", ALLOW_ETCD))
    recipe = gnp(
        "deny-kube-node-port-services",
        {"action": "Deny", "protocol": "TCP", "destination": {"ports": ["30000:32767"]}},
        preDNAT=True,
        applyOnForward=True,
    )
    assert len(said(store, recipe)) == 1
    store.served = (("192.0.2.1", 2379),)
    assert said(store, recipe) == []


def test_policies_in_namespaces_neither_open_nor_close_a_host(store):
    label = {"role": "m", "projectcalico.org/namespace": "shop"}
    endpoint = ENDPOINT | {"metadata": {"name": "m", "labels": label}}
    here = {"ingress": [{"action": "Allow"}], "order": 1}, {"ingress": [{"action": "Deny"}], "order": 1}
    allow, deny = (doc("NetworkPolicy", spec, name, namespace="shop") for spec, name in zip(here, "xy", strict=True))
    put(store, allow, deny)
    assert said(store, allow, deny) == []
    assert said(store, endpoint)
    assert said(store, endpoint, gnp("a", ALLOW_ETCD, order=2)) == []
    put(store, endpoint, gnp("a", ALLOW_ETCD, order=2))
    assert said(store, deleted=[allow, deny]) == []


def test_tiers_profiles_and_old_names(store):
    put(store, ENDPOINT, doc("Tier", {"order": 1}, "early"), gnp("a", ALLOW_ETCD))
    assert said(store, gnp("b", tier="early"))  # its end denies
    assert said(store, gnp("b", {"action": "Pass"}, tier="early")) == []
    put(store, doc("Profile", {"ingress": [{"action": "Allow"}]}, "open"))
    profiled = ENDPOINT | {"spec": ENDPOINT["spec"] | {"profiles": ["open"]}}
    assert said(store, profiled, deleted=[gnp("a")]) == []
    assert said(store, profiled, doc("Profile", {}, "open"), deleted=[gnp("a")])
    # stored by an older release under another name
    store.objects[ResourceKey("GlobalNetworkPolicy", "", "default.a")] = store.objects.pop(key_of(gnp("a")))
    assert said(store, deleted=[gnp("a")])


def test_what_was_lost_before_is_not_said_again(store):
    put(store, ENDPOINT)
    assert said(store, gnp("b", {"action": "Deny"})) == []


def node(spec, name="m"):
    return doc("Node", spec, name)


def on_interface(interface, name="m", **spec):
    return doc("HostEndpoint", {"node": "m", "interfaceName": interface} | spec, name)


@pytest.mark.parametrize("interface", ["eth1", "*"])
@pytest.mark.parametrize(
    "spec",
    [
        {"bgp": {"ipv4Address": "192.0.2.1/24"}},
        {"bgp": {"ipv4Address": "192.0.2.1"}},
        {"addresses": [{"address": "10.0.0.1", "type": "InternalIP"}, {"address": "192.0.2.1/24"}]},
    ],
)
def test_an_endpoint_by_interface_on_a_node_with_etcds_address(store, interface, spec):
    warning = [
        "warning: etcd at 192.0.2.1 port 30001 (an address of node m) may be behind HostEndpoint(m), where no policy would "
        "allow TCP 30001 any more and it is no inbound failsafe: agents and this command may lose etcd"
    ]
    endpoint = on_interface(interface)
    assert said(store, endpoint) == []  # nobody knows the node
    assert said(store, endpoint, node(spec)) == warning
    put(store, node(spec))
    assert said(store, endpoint) == warning
    assert said(store, endpoint, gnp("a", ALLOW_ETCD)) == []
    assert said(store, on_interface(interface, node="other")) == []
    put(store, endpoint, gnp("a", ALLOW_ETCD))
    assert said(store, deleted=[gnp("a")]) == warning
    assert said(store, deleted=[gnp("a"), endpoint]) == []
    put(store, felix(failsafeInboundHostPorts=["tcp:22", "tcp:30001"]))
    assert said(store, deleted=[gnp("a")]) == []


def test_addresses_of_ipv6(store):
    store.served = (("2001:db8::1", 30001),)
    put(store, node({"bgp": {"ipv6Address": "2001:DB8:0::1/64"}}))
    (told,) = said(store, on_interface("eth1"))
    assert "etcd at 2001:db8::1 port 30001 (an address of node m) may be" in told


def test_who_is_known_to_hold_the_address_alone_guards_it(store):
    put(store, node({"bgp": {"ipv4Address": "192.0.2.1/24"}}))
    assert said(store, on_interface("eth0", expectedIPs=["10.0.0.1"])) == []  # that interface has another one
    put(store, ENDPOINT, gnp("a", ALLOW_ETCD, selector="role == 'm'"))
    assert said(store, on_interface("eth0", "private")) == []
    assert said(store, on_interface("*", "any")) == []
    assert len(said(store, deleted=[gnp("a")])) == 1


def test_every_endpoint_that_begins_to_block_is_told(store):
    put(store, node({"bgp": {"ipv4Address": "192.0.2.1/24"}}), on_interface("eth1", "public"))
    (told,) = said(store, on_interface("eth0", "private"))
    assert "HostEndpoint(private)" in told


def test_an_endpoint_for_all_interfaces_leaves_loopback_alone(store):
    store.served = (("127.0.0.1", 30001), ("::1", 30001))
    put(store, node({"addresses": [{"address": "127.0.0.1"}, {"address": "::1"}]}))
    assert said(store, on_interface("*")) == []
    assert len(said(store, on_interface("lo"))) == 2


@pytest.mark.parametrize(
    "spec", [5, {"bgp": 5}, {"bgp": {"ipv4Address": 5}}, {"addresses": {"a": 1}}, {"addresses": [5, {"address": None}, {}]}]
)
def test_nodes_that_nobody_can_read(store, spec):
    store.put(ResourceKey("Node", "", "m"), {"metadata": {"name": "m"}, "spec": spec})
    assert said(store, on_interface("eth1")) == []


def felix(name="default", **spec):
    return doc("FelixConfiguration", spec, name)


def test_failsafes(store):
    (told,) = said(store, felix(failsafeInboundHostPorts=[{"protocol": "tcp", "port": 2379}]))
    assert told.startswith("warning: FelixConfiguration(default) takes failsafe ports away (inbound tcp:22, inbound udp:68, ")
    assert said(store, felix(logSeverityScreen="Info")) == []
    extra = felix(failsafeInboundHostPorts=["tcp:22", "tcp:30001", "udp:68"])
    put(store, extra, ENDPOINT)
    (told,) = said(store, deleted=[extra])
    assert "(inbound tcp:30001)" in told
    assert said(store, felix("node.m", failsafeInboundHostPorts=["tcp:22", "tcp:30001", "udp:68"])) == []
    (told,) = said(store, felix("node.m", failsafeInboundHostPorts="none"))
    assert "inbound tcp:22" in told


def test_a_failsafe_keeps_etcd_reachable(store):
    put(store, felix(failsafeInboundHostPorts=["tcp:22", "tcp:30001"]))
    assert said(store, ENDPOINT) == []
    put(store, felix("node.m", failsafeInboundHostPorts=["tcp:22"]))
    assert len(said(store, ENDPOINT)) == 1


def test_no_server_and_trouble(store):
    store.served = ()
    assert said(store, ENDPOINT) == []
    store.down = "refused"
    assert said(store, ENDPOINT) == []
    with pytest.raises(StoreError):
        store.list("Tier")
