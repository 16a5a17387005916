"""What the rendered rules do to a packet is what policy says about it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hostward.calc.calculate import calculate
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resolved import Inputs, Scope
from hostward.model.resources import Resource, WorkloadEndpoint
from hostward.model.rules import PortRange
from hostward.model.settings import BUILT_IN, Settings
from hostward.render.evaluate import FilterState, Packet, evaluate, of_ruleset
from hostward.render.marks import Marks
from hostward.render.options import Options
from hostward.render.options import options as of_settings
from hostward.render.policy import Owner, log_prefix, port_groups
from hostward.render.renderer import Renderer
from hostward.render.ruleset import FAMILIES, MAX_CHAIN_NAME, MAX_SET_NAME, Interface, Jump, Rule, SetMark, State, TableId
from tests import strategies as ours
from tests.lab.host import endpoint, isolated, load, policy, rule
from tests.lab.oracle import Host

MARKS = Marks.from_mask(0xFF000000)


def options(**changes: object) -> Options:
    return Options(marks=MARKS, failsafe_in=ours.FAILSAFE_IN, failsafe_out=ours.FAILSAFE_OUT, **changes)  # type: ignore[arg-type] # fields are its own


choices = st.builds(
    replace,
    st.just(replace(BUILT_IN, failsafe_inbound_host_ports=ours.FAILSAFE_IN, failsafe_outbound_host_ports=ours.FAILSAFE_OUT)),
    host_forward_policy=st.sampled_from(["All", "ApplyOnForward"]),
    iptables_filter_allow_action=st.sampled_from(["Accept", "Accept", "Return"]),
    iptables_mangle_allow_action=st.sampled_from(["Accept", "Return"]),
    iptables_filter_deny_action=st.sampled_from(["Drop", "Reject"]),
    disable_conntrack_invalid_check=st.sampled_from([False, False, True]),
    interface_prefix=st.sampled_from([("cali",), ("cali",), ("tap", "cali")]),
    default_endpoint_to_host_action=st.sampled_from(["Drop", "Accept", "Return"]),
    workload_source_spoofing=st.sampled_from(["Disabled", "Any"]),
    vxlan_port=st.sampled_from([4789, 4789, 80]),
    allow_vxlan_packets_from_workloads=st.booleans(),
    allow_ipip_packets_from_workloads=st.booleans(),
)


def shut(state: FilterState) -> FilterState:
    """Where filter drops what nobody accepts, as Docker has it in FORWARD."""
    names = ("INPUT", "FORWARD", "OUTPUT")
    return replace(state, policies=frozenset((TableId(f, "filter"), name) for f in FAMILIES for name in names))


@settings(max_examples=200, deadline=None)
@given(ours.worlds, ours.link_tables, st.lists(ours.packets(), min_size=10, max_size=20), choices)
def test_rules_do_what_policy_says(
    world: dict[ResourceKey, Resource], links: dict[str, Link], packets: list[Packet], choice: Settings
) -> None:
    resolved = calculate(Inputs(Scope(ours.NODE, choice.interface_prefix), world, links))
    ruleset = Renderer(of_settings(choice, ())).render(resolved)
    state = of_ruleset(ruleset)
    host = Host.under(choice, ours.NODE, world.values(), links)
    for packet in packets:
        verdict = host.verdict(packet)
        assert evaluate(packet, state).accepted == (verdict != "deny"), packet
        assert evaluate(packet, shut(state)).accepted == (verdict == "accept"), packet
    for table in ruleset.tables.values():
        assert all(len(name) <= MAX_CHAIN_NAME for name in table.chains)
    assert all(len(name) <= MAX_SET_NAME for name in ruleset.sets)


@settings(max_examples=25, deadline=None)
@given(st.lists(ours.worlds, min_size=2, max_size=4), ours.link_tables)
def test_what_is_remembered_changes_nothing(worlds: list[dict[ResourceKey, Resource]], links: dict[str, Link]) -> None:
    renderer = Renderer(options())
    for world in worlds:
        resolved = calculate(Inputs(Scope(ours.NODE), world, links))
        assert renderer.render(resolved) == Renderer(options()).render(resolved)


@pytest.mark.parametrize("shut", [False, True])
def test_pre_dnat_policy_of_all_interfaces_opens_none_with_an_endpoint_of_its_own(shut: bool) -> None:
    """H-7, H-12: what `*` allows before DNAT would go past the normal policy of the interface's own endpoint."""
    own = load(endpoint("eth0"))
    pre = policy("pre", preDNAT=True, ingress=[rule("Allow", "TCP", [80])], selector="interface == 'any'")
    world = dict([own, load(endpoint("*")), load(pre)])
    world[own[0]] = isolated(own[1]) if shut else own[1]
    links = {name: Link(name, 2, True) for name in ("eth0", "eth1")}
    state = of_ruleset(Renderer(options()).render(calculate(Inputs(Scope("worker"), world, links))))
    packets = {name: Packet(4, "input", "192.0.2.9", "10.0.0.1", 6, 4000, 80, in_interface=name) for name in links}
    assert {name: evaluate(packet, state).accepted for name, packet in packets.items()} == {"eth0": False, "eth1": True}


def test_forward_policy_of_all_interfaces_is_not_that_of_one_with_an_endpoint_of_its_own() -> None:
    """H-7, H-18: an endpoint without forward policy lets workloads' traffic through, whatever `*` says."""
    own = load(endpoint("eth0"))
    closed = policy("closed", applyOnForward=True, ingress=[rule("Deny")], selector="interface == 'any'")
    pod = WorkloadEndpoint("default", "pod", "worker", "cali1", ("10.0.0.5",), ("projectcalico-default-allow",))
    world = dict([own, load(endpoint("*")), load(closed)]) | {ResourceKey("WorkloadEndpoint", "default", "pod"): pod}
    state = of_ruleset(Renderer(options()).render(calculate(Inputs(Scope("worker"), world, {}))))
    packets = {name: Packet(4, "forward", "192.0.2.9", "10.0.0.5", 6, 4000, 80, name, "cali1") for name in ("eth0", "eth1")}
    assert {name: evaluate(packet, state).accepted for name, packet in packets.items()} == {"eth0": True, "eth1": False}


@pytest.mark.parametrize("everywhere", [True, False])
def test_open_connections_are_accepted_only_where_an_interface_is_governed(everywhere: bool) -> None:
    """H-70: what nobody governs goes back to everybody else's rules; `*` never governs `lo` (D7)."""
    world = dict([load(endpoint("*" if everywhere else "eth0"))])
    state = shut(of_ruleset(Renderer(options()).render(calculate(Inputs(Scope("worker"), world, {})))))
    open_ = Packet(4, "forward", "192.0.2.9", "10.0.0.5", 6, 4000, 80, state="ESTABLISHED")
    names = ("eth0", "eth8", "eth9", "lo")
    passing = {
        (enters, leaves)
        for enters in names
        for leaves in names
        if evaluate(replace(open_, in_interface=enters, out_interface=leaves), state).accepted
    }
    governed = set(names) - {"lo"} if everywhere else {"eth0"}
    assert passing == {(enters, leaves) for enters in names for leaves in names if {enters, leaves} & governed}


def test_what_nat_output_rewrote_is_told_apart_before_its_interface_is_looked_at() -> None:
    """H-38: OUTPUT still sees the interface of the route before nat, which may be a workload's; POSTROUTING the new one."""
    world = dict([load(endpoint("eth0"))])
    chains = Renderer(options()).render(calculate(Inputs(Scope("worker"), world, {}))).tables[TableId(4, "filter")].chains
    mark = Jump("hw-translated", goto=True)
    to_workload, dispatch, others, unreached = chains["hw-OUTPUT"]
    assert to_workload == Rule((Interface("out", "cali", True),), mark)
    assert dispatch.target == Jump("hw-to-host-endpoint")
    assert others == Rule((), mark)
    assert unreached == Rule((), SetMark(0, MARKS.all)), "tells who comes with another mask which bits are ours"
    opened, rewritten, *_ = chains["hw-th-eth0"]
    assert opened.matches == (State(("RELATED", "ESTABLISHED")),)  # these are accepted whatever interface they leave by
    assert rewritten == Rule((State(("DNAT",)),), mark)
    assert [rule.matches for rule in chains["hw-translated"]] == [(State(("DNAT",)),)]


def test_port_groups() -> None:
    """R-31: fifteen slots, a range takes two."""
    singles = [PortRange(p, p) for p in range(1, 60, 2)]
    assert [len(g) for g in port_groups(singles)] == [15, 15]
    pairs = [PortRange(p, p + 1) for p in range(1, 60, 3)]
    assert [len(g) for g in port_groups(pairs)] == [7, 7, 6]
    assert port_groups([PortRange(5, 9), PortRange(10, 12), PortRange(7, 8)]) == [((5, 12),)]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("calico-packet", "calico-packet: "),
        ("aXy9%n%%t %k %p", "aXy9ep2-4%default gnp ep2-4: "),
        ("a prefix that is much too long for the kernel", "a prefix that is much too l: "),
        ('say "no"\n', "say _no__: "),
    ],
)
def test_log_prefix(template: str, text: str) -> None:
    """R-50..R-52; the second vector is R-51's."""
    assert log_prefix(template, Owner("ingress", "gnp/ep2-4", "default", "gnp", "ep2-4")) == text


@settings(max_examples=20, deadline=None)
@given(ours.worlds, ours.link_tables)
def test_the_generation_bit_is_raws_alone(world: dict[ResourceKey, Resource], links: dict[str, Link]) -> None:
    """A rule that clears it on the way sends the rest of the packet's way to the other tree, in the middle of a change."""
    ruleset = Renderer(options()).render(calculate(Inputs(Scope(ours.NODE), world, links)))
    for where, table in ruleset.tables.items():
        for chain in table.chains.values() if where.name != "raw" else ():
            for written in chain:
                assert not (isinstance(written.target, SetMark) and written.target.mask & MARKS.generation), written
                if not written.matches and isinstance(written.target, Jump) and written.target.goto:
                    break  # what follows is never reached
