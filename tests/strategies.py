"""Hypothesis strategies: small worlds of resources, links and packets in which things meet often."""

from __future__ import annotations

from typing import TypeVar

from hypothesis import strategies as st
from msgspec.structs import replace

from hostward.model.failsafe import FailsafePort
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resources import (
    EndpointSlice,
    HostEndpoint,
    NamedPort,
    NetworkSet,
    Policy,
    Profile,
    Resource,
    Tier,
    WorkloadEndpoint,
)
from hostward.model.rules import Action, Entity, Icmp, PortRange, Ports, Rule, Service
from hostward.model.selectors import canonical
from hostward.render.evaluate import Packet

T = TypeVar("T")
NODE = "w1"
V4 = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "192.0.2.1", "192.0.2.9"]
V6 = ["fd00::1", "fd00::2", "2001:db8::1", "2001:db8::9"]
NETS4 = ["10.0.0.0/24", "10.0.0.0/8", "10.0.0.1/32", "192.0.2.0/24", "0.0.0.0/0"]
NETS6 = ["fd00::/64", "fd00::1/128", "2001:db8::/32", "::/0"]
POD4, POD6 = ["10.0.2.5", "10.0.2.6"], ["fd00:2::5", "fd00:2::6"]
HOST_INTERFACES = ["eth0", "eth1"]
WORKLOAD_INTERFACES = ["cali1", "cali2"]
NAMESPACES = ["ns1", "ns2"]
NAMESPACE = "projectcalico.org/namespace"
VXLAN_PORT = 4789
FAILSAFE_IN = (FailsafePort(6, 22), FailsafePort(17, 68, "10.0.0.0/8"))
FAILSAFE_OUT = (FailsafePort(17, 53), FailsafePort(6, 2379, "10.0.0.2/32"))
PORTS = [22, 53, 68, 80, 81, 90, 2379, 30000]

selectors = st.sampled_from(
    [
        *("all()", "all()", "role == 'a'", "role != 'b'", "role in {'a', 'b'}", "has(zone)", "!has(zone)"),
        *(
            "zone=='x' && role=='b'",
            f"has({NAMESPACE})",
            f"!has({NAMESPACE})",
            f"!has({NAMESPACE})",
            f"{NAMESPACE} == 'ns1'",
            "pcns.team == 'x'",
        ),
    ]
).map(canonical)
own_labels = st.dictionaries(st.sampled_from(["role", "zone"]), st.sampled_from(["a", "b", "x"]), max_size=2)
namespaces = st.sampled_from(NAMESPACES)
# What isn't a workload may still say that it is in a namespace (M-17).
labels = st.one_of(own_labels, own_labels, own_labels, own_labels, own_labels.map(lambda found: found | {NAMESPACE: "ns1"}))
port_ranges = st.tuples(st.sampled_from(PORTS), st.sampled_from([0, 0, 1, 10, 30000])).map(
    lambda t: PortRange(t[0], min(65535, t[0] + t[1]))
)
many_ports = st.just(tuple(PortRange(p, p) for p in range(60, 100, 2)))
ports = st.builds(
    Ports,
    st.one_of(st.just(()), st.lists(port_ranges, max_size=3).map(tuple), many_ports),
    st.lists(st.sampled_from(["web", "dns"]), max_size=2, unique=True).map(tuple),
)
catch_alls = ("0.0.0.0/0", "::/0")
nets = st.lists(st.sampled_from(NETS4 + NETS6), max_size=3, unique=True).map(tuple)
not_nets = st.lists(st.sampled_from([n for n in NETS4 + NETS6 if n not in catch_alls]), max_size=2, unique=True).map(tuple)
maybe = lambda s: st.one_of(st.none(), st.none(), s)  # noqa: E731 # shorter than a def where strategies are listed


def rarely(draw: st.DrawFn, value: st.SearchStrategy[T], otherwise: T, one_in: int = 4) -> T:
    """A criterion in one of so many rules: rules with few criteria match packets, so that what they do is seen."""
    return draw(value) if draw(st.integers(1, one_in)) == 1 else otherwise


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    action = draw(st.sampled_from(list(Action)))
    if draw(st.integers(0, 7)) == 0:
        return Rule(action)  # for everything, so that what comes after this policy is seen
    protocol = draw(st.sampled_from([None, None, None, 6, 6, 6, 17, 1, 58, 112]))
    sides = []
    for listed_in, with_ports in ((6, False), (2, True)):
        listed = rarely(draw, ports, Ports(), listed_in)
        unlisted = rarely(draw, ports, Ports(), 8)
        if protocol is None:
            listed, unlisted = Ports((), listed.names), Ports((), unlisted.names)
        elif protocol not in (6, 17, 132):
            listed = unlisted = Ports()
        sides.append(
            Entity(
                rarely(draw, nets, ()),
                rarely(draw, not_nets, (), 8),
                listed,
                unlisted,
                rarely(draw, selectors, None),
                rarely(draw, selectors, None, 8),
                rarely(draw, st.builds(Service, namespaces, st.just("svc"), st.just(with_ports)), None, 8),
            )
        )
    icmp = rarely(draw, st.builds(Icmp, st.sampled_from([8, 128, 135]), maybe(st.sampled_from([0, 1]))), None, 2)
    return Rule(
        action=action,
        ip_version=rarely(draw, st.sampled_from([4, 6]), None, 8),
        protocol=protocol,
        not_protocol=rarely(draw, st.sampled_from([6, 17]), None, 8),
        icmp=icmp if protocol in (1, 58) else None,
        not_icmp=rarely(draw, st.builds(Icmp, st.just(8)), None) if protocol in (1, 58) else None,
        source=sides[0],
        destination=sides[1],
        never=draw(st.integers(0, 15)) == 15,
    )


rule_lists = st.lists(rules(), min_size=1, max_size=4).map(tuple)
orders = st.sampled_from([None, 1.0, 2.0, 2.0, 1000.0])


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    name = draw(st.sampled_from(["p1", "p2", "p3", "p4", "a-policy-with-a-name-too-long-for-a-chain"]))
    kind = draw(st.sampled_from(["normal", "normal", "forward", "forward", "preDNAT", "untracked"]))
    return Policy(
        key=ResourceKey("GlobalNetworkPolicy", "", name),
        name=name,
        tier=draw(st.sampled_from(["default", "default", "t1", "t2", "absent", "kube-baseline"])),
        order=draw(orders),
        selector=draw(selectors),
        ingress=draw(st.integers(0, 3)) > 0,
        egress=draw(st.integers(0, 3)) > 0 and kind != "preDNAT",
        ingress_rules=draw(rule_lists),
        egress_rules=() if kind == "preDNAT" else draw(rule_lists),
        do_not_track=kind == "untracked",
        pre_dnat=kind == "preDNAT",
        apply_on_forward=kind != "normal",
    )


@st.composite
def network_policies(draw: st.DrawFn) -> Policy:
    """A policy in a namespace: none of what is said to hosts alone, and a selector that keeps to the namespace (M-2, M-14)."""
    namespace, found = draw(namespaces), draw(policies())
    return replace(
        found,
        key=ResourceKey("NetworkPolicy", namespace, found.name),
        selector=canonical(f"({found.selector}) && {NAMESPACE} == '{namespace}'"),
        do_not_track=False,
        pre_dnat=False,
        apply_on_forward=False,
    )


named_ports = st.builds(NamedPort, st.sampled_from(["web", "dns"]), st.sampled_from([6, 17, 132]), st.sampled_from(PORTS))


@st.composite
def host_endpoints(draw: st.DrawFn) -> HostEndpoint:
    interface = draw(st.sampled_from(["", "eth0", "eth1", "*"] * 2 + ["cali1"]))
    addresses = draw(st.lists(st.sampled_from(V4 + V6), min_size=0 if interface else 1, max_size=3, unique=True))
    return HostEndpoint(
        name=draw(st.sampled_from(["h1", "h2", "h3"])),
        node=draw(st.sampled_from([NODE, NODE, NODE, "w2"])),
        interface=interface,
        expected_ips=tuple(addresses),
        profiles=tuple(draw(st.lists(st.sampled_from(["open", "none", "absent"]), max_size=2, unique=True))),
        ports=tuple(draw(st.lists(named_ports, max_size=2))),
        labels=draw(labels),
        isolated=draw(st.integers(0, 9)) == 0,
    )


@st.composite
def workload_endpoints(draw: st.DrawFn) -> WorkloadEndpoint:
    """Two to an interface happen, and one on an interface that only another prefix makes a workload's."""
    namespace = draw(namespaces)
    names = st.sampled_from([f"kns.{namespace}", f"kns.{namespace}", "kns.ns2", "open", "none", "absent"])
    return WorkloadEndpoint(
        namespace=namespace,
        name=draw(st.sampled_from(["w1", "w2"])),
        node=draw(st.sampled_from([NODE, NODE, NODE, "w2"])),
        interface=draw(st.sampled_from([*WORKLOAD_INTERFACES * 4, "tap1"])),
        addresses=tuple(draw(st.lists(st.sampled_from((POD4 + POD6) * 3 + V4 + V6), min_size=1, max_size=3, unique=True))),
        profiles=tuple(draw(st.lists(names, max_size=2, unique=True))),
        ports=tuple(draw(st.lists(named_ports, max_size=2))),
        labels=draw(own_labels) | {NAMESPACE: namespace},
        spoofable=draw(nets),
        isolated=draw(st.integers(0, 9)) == 0,
    )


network_set_nets = st.lists(st.sampled_from(NETS4 + NETS6), max_size=3, unique=True).map(tuple)
resources: st.SearchStrategy[Resource] = st.one_of(
    policies(),
    network_policies(),
    host_endpoints(),
    workload_endpoints(),
    workload_endpoints(),
    st.builds(NetworkSet, st.sampled_from(["s1", "s2"]), network_set_nets, labels),
    st.builds(
        lambda name, found, own, namespace: NetworkSet(name, found, own | {NAMESPACE: namespace}, (f"kns.{namespace}",)),
        st.sampled_from(["s1", "s2"]),
        network_set_nets,
        own_labels,
        namespaces,
    ),
    st.builds(
        EndpointSlice,
        namespaces,
        st.sampled_from(["svc", "svc", "other"]),
        st.lists(st.sampled_from(V4 + V6 + POD4 + POD6), max_size=4, unique=True).map(tuple),
        st.lists(st.tuples(st.sampled_from([6, 17, 132]), st.sampled_from(PORTS)), max_size=3, unique=True).map(tuple),
    ),
    st.builds(Profile, st.sampled_from(["open", "none"]), rule_lists, rule_lists, labels),
    st.builds(
        Profile,
        st.sampled_from(["kns.ns1", "kns.ns2"]),
        rule_lists,
        rule_lists,
        st.dictionaries(st.sampled_from(["pcns.team", "role"]), st.sampled_from(["a", "x"]), max_size=2),
    ),
    st.builds(Tier, st.sampled_from(["t1", "t2"]), orders, st.sampled_from([Action.DENY, Action.PASS])),
)


def key_of(resource: Resource) -> ResourceKey:
    """Where a resource of these strategies is stored."""
    match resource:
        case Policy():
            return resource.key
        case NetworkSet():  # one in a namespace has that namespace's profile
            namespace = resource.labels[NAMESPACE] if resource.profiles else ""
            return ResourceKey("NetworkSet" if namespace else "GlobalNetworkSet", namespace, resource.name)
        case WorkloadEndpoint():
            return ResourceKey("WorkloadEndpoint", resource.namespace, resource.name)
        case EndpointSlice():  # two slices of a service are told apart by how many addresses they have
            name = f"{resource.service}-{len(resource.addresses) % 2}"
            return ResourceKey("KubernetesEndpointSlice", resource.namespace, name)
        case HostEndpoint() | Profile() | Tier():
            return ResourceKey(type(resource).__name__, "", resource.name)
    raise AssertionError(resource)


# Every world has an endpoint on each interface, by name and by address, for others to take the place of.
BASE: tuple[Resource, ...] = (
    HostEndpoint("h1", NODE, "eth0", ("10.0.0.1", "fd00::1"), (), (NamedPort("web", 6, 80),), {"role": "a"}),
    HostEndpoint("h2", NODE, "", ("192.0.2.1", "2001:db8::1"), ("open",), (NamedPort("dns", 17, 53),), {"zone": "x"}),
    NetworkSet("s1", ("10.0.0.0/24", "2001:db8::/32"), {"role": "b"}),
    Profile("open", (Rule(Action.ALLOW, protocol=6),), (Rule(Action.ALLOW),), {"role": "a"}),
    WorkloadEndpoint(
        *("ns1", "w1", NODE, "cali1", ("10.0.2.5", "fd00:2::5"), ("kns.ns1", "open"), (NamedPort("web", 6, 80),)),
        labels={NAMESPACE: "ns1", "role": "b"},
        spoofable=("10.0.0.0/24", "2001:db8::/32"),
    ),
    WorkloadEndpoint("ns2", "w2", NODE, "cali2", ("10.0.2.6", "fd00:2::6"), ("open",), labels={NAMESPACE: "ns2"}),
    Profile("kns.ns1", (), (), {"pcns.team": "x"}),
    EndpointSlice("ns1", "svc", ("10.0.2.5", "192.0.2.9", "2001:db8::9"), ((6, 80), (17, 53))),
)
ALL_OTHERS = HostEndpoint("h3", NODE, "*", (), ("open",), (), {"zone": "x"})
worlds = st.builds(
    lambda others, found: {key_of(r): r for r in (*BASE, *others, *found)},
    st.sampled_from([(), (ALL_OTHERS,)]),
    st.lists(st.one_of(policies(), policies(), network_policies(), resources), min_size=1, max_size=8),
)
addresses = st.sets(st.sampled_from(V4 + V6), max_size=3).map(frozenset)
link_tables = st.fixed_dictionaries(
    {
        "lo": st.just(Link("lo", 1, True, frozenset({"127.0.0.1"}))),
        "cali1": st.builds(Link, st.just("cali1"), st.just(9), st.just(True), addresses),
    },
    optional={
        "eth0": st.builds(Link, st.just("eth0"), st.just(2), st.booleans(), addresses),
        "eth1": st.builds(Link, st.just("eth1"), st.just(3), st.booleans(), addresses.map(lambda a: a | {"192.0.2.1"})),
    },
)


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    family = draw(st.sampled_from([4, 6]))
    pods = POD4 if family == 4 else POD6
    here = [*(V4 if family == 4 else V6), *pods]
    path = draw(st.sampled_from(["input", "forward", "forward", "output"]))
    hosts = [*HOST_INTERFACES * 3, "eth9", *(["lo"] if path != "forward" else [])]
    workloads = [*WORKLOAD_INTERFACES * 5, "cali9", "tap1"]
    names = st.sampled_from(hosts + hosts + workloads if path != "output" else hosts * 4 + workloads)
    enters = "" if path == "output" else draw(names)
    leaves = "" if path == "input" else draw(names)
    protocol = draw(st.sampled_from([6, 6, 6, 6, 17, 17, 132, 1, 58, 112, 4]))
    has_ports = protocol in (6, 17, 132)
    state = draw(st.sampled_from(["NEW"] * 7 + ["ESTABLISHED", "RELATED", "INVALID"]))
    spoofed = draw(st.integers(0, 7)) == 0
    return Packet(
        family=family,
        path=path,
        source=draw(st.sampled_from(here + pods * 4 * (enters in WORKLOAD_INTERFACES and not spoofed))),
        destination=draw(st.sampled_from(here + pods * 4 * (leaves in WORKLOAD_INTERFACES))),
        protocol=protocol,
        source_port=draw(st.sampled_from(PORTS)) if has_ports else 0,
        destination_port=draw(st.sampled_from([*PORTS, VXLAN_PORT])) if has_ports else 0,
        in_interface=enters,
        out_interface=leaves,
        icmp_type=draw(st.sampled_from([8, 128, 134, 135])) if protocol in (1, 58) else 0,
        icmp_code=draw(st.sampled_from([0, 1])) if protocol in (1, 58) else 0,
        state=state,
        dnat=draw(st.tuples(st.sampled_from(here), st.sampled_from([*PORTS, VXLAN_PORT])))
        if has_ports and draw(st.integers(0, 3)) == 0
        else None,
        mark=draw(st.sampled_from([0, 0xFFFFFFFF])),
        spoofed=spoofed,
    )
