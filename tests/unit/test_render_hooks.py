"""Rules of ours stand in the kernel's chains only where something is judged, and trust no mark that they haven't written."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hostward.calc.calculate import calculate
from hostward.dataplane.fake import FakeKernel
from hostward.dataplane.xtables.restore import rule_line
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resolved import Inputs, PolicyLists, Resolved, ResolvedEndpoint, ResolvedWorkload, Scope, TierPolicies
from hostward.model.resources import Policy, Profile, Resource
from hostward.model.rules import Action, Entity, PortRange, Ports, Rule
from hostward.model.settings import BUILT_IN
from hostward.render import roots
from hostward.render.evaluate import FilterState, Packet, Path, evaluate, of_ruleset
from hostward.render.marks import Marks
from hostward.render.options import options
from hostward.render.renderer import Renderer
from hostward.render.ruleset import FAMILIES, Jump, Ruleset, SetMark, TableId, TableName
from hostward.render.ruleset import Rule as KernelRule
from tests import strategies as ours
from tests.lab.oracle import Host
from tests.unit.kernels import assert_holds, carry_out, install, watch

MARKS: Final = Marks.from_mask(0xFF000000)
SETTINGS: Final = replace(
    BUILT_IN, failsafe_inbound_host_ports=ours.FAILSAFE_IN, failsafe_outbound_host_ports=ours.FAILSAFE_OUT
)
OPTIONS: Final = options(SETTINGS, ())
FILTER: Final[TableName] = "filter"
ALWAYS: Final = {
    "raw PREROUTING -i cali+ -m rpfilter --invert --validmark -j hw-wl-raw",
    "filter INPUT -j hw-INPUT",
    "filter FORWARD -j hw-FORWARD",
    "filter FORWARD -i cali+ -m comment --comment hw:accepted-by-policy -j ACCEPT",
    "filter FORWARD -o cali+ -m comment --comment hw:accepted-by-policy -j ACCEPT",
}
OF_HOSTS: Final = {
    "filter OUTPUT -j hw-OUTPUT",
    "filter FORWARD -m mark --mark 0x1000000/0x1000000 -m comment --comment hw:accepted-by-policy -j ACCEPT",
    "mangle POSTROUTING -m mark --mark 0x10000000/0x10000000 -m conntrack --ctstate DNAT -j hw-POSTROUTING",
}
RAW: Final = {"raw PREROUTING -j hw-PREROUTING", "raw OUTPUT -j hw-OUTPUT"}


def guarded(kind: str) -> Resolved:
    """eth0 with a policy of this kind that denies all but port 9; "": nothing is guarded."""
    key = ResourceKey("GlobalNetworkPolicy", "", "deny")
    rules: tuple[Rule, ...] = (Rule(Action.ALLOW, protocol=6, destination=Entity(ports=Ports((PortRange(9, 9),)))),)
    if kind in ("pre_dnat", "untracked"):  # of others the tier's end denies the rest
        rules += (Rule(Action.DENY),)
    policy = Policy(key, "deny", "default", 1.0, "all()", True, True, rules, rules)
    lists = PolicyLists(**{kind: (TierPolicies("default", Action.DENY, (key,), (key,)),)}) if kind else PolicyLists()
    return Resolved({"eth0": ResolvedEndpoint("eth0", "eth0", lists)} if kind else {}, {key: policy} if kind else {})


def hooks(ruleset: Ruleset, family: int = 4) -> set[str]:
    return {
        f"{where.name} {chain} {rule_line(rule, where)}"
        for where, table in ruleset.tables.items()
        if where.family == family
        for chain, hook in table.hooks.items()
        for rule in (*hook.first, *hook.last)
    }


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("", ALWAYS),
        ("normal", ALWAYS | OF_HOSTS),
        ("pre_dnat", ALWAYS | OF_HOSTS | {"mangle PREROUTING -j hw-PREROUTING"}),
        ("untracked", ALWAYS - {"raw PREROUTING -i cali+ -m rpfilter --invert --validmark -j hw-wl-raw"} | OF_HOSTS | RAW),
        ("forward", {rule for rule in ALWAYS if "-j ACCEPT" not in rule} | OF_HOSTS),
    ],
)
def test_a_kernel_chain_leads_to_ours_where_something_is_judged(kind: str, expected: set[str]) -> None:
    ruleset = Renderer(OPTIONS).render(guarded(kind))
    assert hooks(ruleset) == hooks(ruleset, 6) == expected
    for where, table in ruleset.tables.items():
        entered = {rule.target.chain for hook in table.hooks.values() for rule in hook.first if isinstance(rule.target, Jump)}
        assert entered <= table.chains.keys(), where
        assert not any(f"hw-{chain}" in table.chains.keys() - entered for chain in roots.HOOKED[where.name])


@pytest.mark.parametrize("kind", ["normal", "pre_dnat", "untracked", "forward"])
def test_the_first_policy_judges_at_once_and_the_last_takes_its_rules_along(kind: str) -> None:
    """Whatever bits packets come with, the one that says which of two trees judges them among those."""
    kernel = FakeKernel()
    states = [Renderer(OPTIONS).render(guarded(which)) for which in ("", kind, "", kind)]
    bits = [0, *(1 << n for n in range(24, 30)), 0xFFFFFFFF]
    packets = [
        Packet(4, path, "203.0.113.5", "10.0.0.5", 6, 4000, 80, *interfaces, state=state, mark=mark, dnat=dnat)
        for path, interfaces in (("input", ("eth0", "")), ("forward", ("eth0", "eth1")), ("output", ("", "eth0")))
        for state in ("NEW", "ESTABLISHED")
        for mark in bits
        for dnat in (None, ("10.0.0.6", 8080))
    ]
    install(kernel, states[0])
    for state in states[1:]:
        watch(kernel, packets, state)
        carry_out(kernel, state)
        assert_holds(kernel, state)
        verdicts = {(p.path, p.state): evaluate(p, kernel.filter_state()).accepted for p in packets if p.mark}
        expected = {(p.path, p.state): evaluate(p, kernel.filter_state()).accepted for p in packets if not p.mark}
        assert verdicts == expected
    assert not verdicts["input", "NEW"] or kind == "forward"


def by_others(state: FilterState, bits: int) -> FilterState:
    """The same, where others' rules set these bits before ours come, in every chain but the one that packets leave by."""
    tables = {}
    for where, chains in state.tables.items():
        before = {chain: (KernelRule((), SetMark(bits, bits)), *chains.get(chain, ())) for chain in roots.HOOKED[where.name]}
        tables[where] = {**chains, **before}
        tables[where] |= {"POSTROUTING": chains["POSTROUTING"]} if "POSTROUTING" in chains else {}
    return replace(state, tables=tables)


@settings(max_examples=60, deadline=None)
@given(
    ours.worlds,
    ours.link_tables,
    st.lists(ours.packets(), min_size=10, max_size=20),
    st.sampled_from([*(1 << bit for bit in range(24, 30)), 0xFF000000]),
)
def test_bits_that_others_set_on_the_way_open_nothing(
    world: dict[ResourceKey, Resource], links: dict[str, Link], packets: list[Packet], bits: int
) -> None:
    """Only between our own tables a mark carries something: where untracked or preDNAT policy has allowed a packet."""
    world = {
        key: replace(found, do_not_track=False, pre_dnat=False) if isinstance(found, Policy) else found
        for key, found in world.items()
    }
    resolved = calculate(Inputs(Scope(ours.NODE), world, links))
    state = by_others(of_ruleset(Renderer(OPTIONS).render(resolved)), bits)
    shut = frozenset((TableId(f, FILTER), name) for f in FAMILIES for name in roots.HOOKED[FILTER])
    host = Host.under(SETTINGS, ours.NODE, world.values(), links)
    for packet in packets:
        verdict = host.verdict(packet)
        assert evaluate(packet, state).accepted == (verdict != "deny"), packet
        assert evaluate(packet, replace(state, policies=shut)).accepted == (verdict == "accept"), packet


def pod(resolved: Resolved) -> Resolved:
    """Beside it a pod on cali1 that may send and get everything."""
    open_ = Profile("open", (Rule(Action.ALLOW),), (Rule(Action.ALLOW),))
    return replace(
        resolved, profiles={"open": open_}, workloads={"cali1": ResolvedWorkload("cali1", "pod", profiles=("open",))}
    )


@pytest.mark.parametrize("kind", ["normal", "pre_dnat", "untracked", "forward"])
@pytest.mark.parametrize("bits", [*(1 << bit for bit in range(24, 30)), 0xFF000000])
@pytest.mark.parametrize("closed", [True, False])
def test_a_packet_that_comes_with_our_bits_goes_where_it_would_go_without(kind: str, bits: int, closed: bool) -> None:
    """Also open connections, and what nobody governs: that is for others to accept. Only where it is sent on from a workload or
    between hosts may a packet look as if nat OUTPUT had rewritten it; then eth0's egress policy isn't to judge it."""
    state = of_ruleset(Renderer(replace(OPTIONS, forward_all=closed)).render(pod(guarded(kind))))
    state = replace(state, policies=frozenset((TableId(4, FILTER), name) for name in roots.HOOKED[FILTER]))
    names = ("eth0", "eth8", "eth9", "lo", "cali1")
    ways: list[tuple[Path, str, str]] = [("forward", enters, leaves) for enters in names for leaves in names]
    ways += [way for name in names for way in (("input", name, ""), ("output", "", name))]
    for path, enters, leaves in ways:
        for opened in ("NEW", "ESTABLISHED"):
            for dnat in (None, ("10.0.0.6", 8080)):
                plain = Packet(4, path, "203.0.113.5", "10.0.0.5", 6, 4000, 80, enters, leaves, state=opened, dnat=dnat)
                marked = replace(plain, mark=bits)
                assert evaluate(marked, state).dropped_in == evaluate(plain, state).dropped_in, marked
                open_to_all = replace(state, policies=frozenset())
                assert evaluate(marked, open_to_all).dropped_in == evaluate(plain, open_to_all).dropped_in, marked
