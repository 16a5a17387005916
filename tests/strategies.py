"""Hypothesis strategies: small worlds of resources, links and packets in which things meet often."""

from __future__ import annotations

from typing import TypeVar

from hypothesis import strategies as st

from hostward.model.failsafe import FailsafePort
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resources import HostEndpoint, NamedPort, NetworkSet, Policy, Profile, Resource, Tier
from hostward.model.rules import Action, Entity, Icmp, PortRange, Ports, Rule
from hostward.model.selectors import canonical
from hostward.render.evaluate import Packet

T = TypeVar("T")
NODE = "w1"
V4 = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "192.0.2.1", "192.0.2.9"]
V6 = ["fd00::1", "fd00::2", "2001:db8::1", "2001:db8::9"]
NETS4 = ["10.0.0.0/24", "10.0.0.0/8", "10.0.0.1/32", "192.0.2.0/24", "0.0.0.0/0"]
NETS6 = ["fd00::/64", "fd00::1/128", "2001:db8::/32", "::/0"]
HOST_INTERFACES = ["eth0", "eth1"]
FAILSAFE_IN = (FailsafePort(6, 22), FailsafePort(17, 68, "10.0.0.0/8"))
FAILSAFE_OUT = (FailsafePort(17, 53), FailsafePort(6, 2379, "10.0.0.2/32"))
PORTS = [22, 53, 68, 80, 81, 90, 2379, 30000]

selectors = st.sampled_from(
    ["all()", "all()", "role == 'a'", "role != 'b'", "role in {'a', 'b'}", "has(zone)", "!has(zone)", "zone=='x' && role=='b'"]
).map(canonical)
labels = st.dictionaries(st.sampled_from(["role", "zone"]), st.sampled_from(["a", "b", "x"]), max_size=2)
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
    protocol = draw(st.sampled_from([None, None, None, 6, 6, 6, 17, 1, 58, 112]))
    sides = []
    for listed_in in (6, 2):
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
            )
        )
    icmp = rarely(draw, st.builds(Icmp, st.sampled_from([8, 128, 135]), maybe(st.sampled_from([0, 1]))), None, 2)
    return Rule(
        action=draw(st.sampled_from(list(Action))),
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
    kind = draw(st.sampled_from(["normal", "normal", "forward", "preDNAT", "untracked"]))
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


named_ports = st.builds(NamedPort, st.sampled_from(["web", "dns"]), st.sampled_from([6, 17, 132]), st.sampled_from(PORTS))


@st.composite
def host_endpoints(draw: st.DrawFn) -> HostEndpoint:
    interface = draw(st.sampled_from(["", "eth0", "eth1", "*"]))
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


resources: st.SearchStrategy[Resource] = st.one_of(
    policies(),
    host_endpoints(),
    st.builds(
        NetworkSet,
        st.sampled_from(["s1", "s2"]),
        st.lists(st.sampled_from(NETS4 + NETS6), max_size=3, unique=True).map(tuple),
        labels,
    ),
    st.builds(Profile, st.sampled_from(["open", "none"]), rule_lists, rule_lists, labels),
    st.builds(Tier, st.sampled_from(["t1", "t2"]), orders, st.sampled_from([Action.DENY, Action.PASS])),
)


def key_of(resource: Resource) -> ResourceKey:
    """Where a resource of these strategies is stored."""
    match resource:
        case Policy():
            return resource.key
        case NetworkSet():
            return ResourceKey("GlobalNetworkSet", "", resource.name)
        case HostEndpoint() | Profile() | Tier():
            return ResourceKey(type(resource).__name__, "", resource.name)
    raise AssertionError(resource)


# Every world has an endpoint on each interface, by name and by address, for others to take the place of.
BASE: tuple[Resource, ...] = (
    HostEndpoint("h1", NODE, "eth0", ("10.0.0.1", "fd00::1"), (), (NamedPort("web", 6, 80),), {"role": "a"}),
    HostEndpoint("h2", NODE, "", ("192.0.2.1", "2001:db8::1"), ("open",), (NamedPort("dns", 17, 53),), {"zone": "x"}),
    NetworkSet("s1", ("10.0.0.0/24", "2001:db8::/32"), {"role": "b"}),
    Profile("open", (Rule(Action.ALLOW, protocol=6),), (Rule(Action.ALLOW),), {"role": "a"}),
)
worlds = st.lists(st.one_of(policies(), policies(), resources), min_size=1, max_size=8).map(
    lambda found: {key_of(r): r for r in (*BASE, *found)}
)
addresses = st.sets(st.sampled_from(V4 + V6), max_size=3).map(frozenset)
link_tables = st.fixed_dictionaries(
    {"lo": st.just(Link("lo", 1, True, frozenset({"127.0.0.1"}))), "cali1": st.just(Link("cali1", 9, True))},
    optional={
        "eth0": st.builds(Link, st.just("eth0"), st.just(2), st.booleans(), addresses),
        "eth1": st.builds(Link, st.just("eth1"), st.just(3), st.booleans(), addresses.map(lambda a: a | {"192.0.2.1"})),
    },
)


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    family = draw(st.sampled_from([4, 6]))
    here = V4 if family == 4 else V6
    path = draw(st.sampled_from(["input", "forward", "output"]))
    names = [*HOST_INTERFACES, *HOST_INTERFACES, "eth9", "cali1", *(["lo"] if path != "forward" else [])]
    protocol = draw(st.sampled_from([6, 6, 6, 17, 132, 1, 58, 112]))
    has_ports = protocol in (6, 17, 132)
    return Packet(
        family=family,
        path=path,
        source=draw(st.sampled_from(here)),
        destination=draw(st.sampled_from(here)),
        protocol=protocol,
        source_port=draw(st.sampled_from(PORTS)) if has_ports else 0,
        destination_port=draw(st.sampled_from(PORTS)) if has_ports else 0,
        in_interface="" if path == "output" else draw(st.sampled_from(names)),
        out_interface="" if path == "input" else draw(st.sampled_from(names)),
        icmp_type=draw(st.sampled_from([8, 128, 135])) if protocol in (1, 58) else 0,
        icmp_code=draw(st.sampled_from([0, 1])) if protocol in (1, 58) else 0,
        state=draw(st.sampled_from(["NEW"] * 7 + ["ESTABLISHED", "RELATED", "INVALID"])),
        dnat=draw(st.tuples(st.sampled_from(here), st.sampled_from(PORTS)))
        if has_ports and draw(st.integers(0, 3)) == 0
        else None,
        mark=draw(st.sampled_from([0, 0xFFFFFFFF])),
    )
