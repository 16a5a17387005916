"""Which policies judge which traffic, hosts and workloads together: the table of `enforcement.md` H-10, cell by cell.

Every policy that there could be is there, each in a tier of its own that passes on what it doesn't decide, and profiles allow
the rest. Then one of them denies: the packet is dropped exactly where the table has that policy, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

import pytest

from hostward.calc.calculate import calculate
from hostward.model.keys import ResourceKey
from hostward.model.resolved import Inputs, Scope
from hostward.model.resources import (
    DEFAULT_ALLOW_PROFILE,
    HostEndpoint,
    Policy,
    Resource,
    Tier,
    WorkloadEndpoint,
)
from hostward.model.rules import Action, Rule
from hostward.model.selectors import canonical
from hostward.model.settings import BUILT_IN, Settings
from hostward.render.evaluate import ConnState, FilterState, Packet, evaluate, of_ruleset
from hostward.render.options import options
from hostward.render.renderer import Renderer
from hostward.render.ruleset import TableId
from tests.lab.oracle import Host

NODE = "worker"
NAMESPACE = "projectcalico.org/namespace"
Kind = Literal["untracked", "preDNAT", "normal", "forward", "workload"]
Judge = tuple[Kind, str, str]
"""A policy by its kind, the endpoint that it selects (`*`: that of all other interfaces), and one of its directions."""
ENDPOINTS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "untracked": ("eth0", "eth1", "*"),
    "preDNAT": ("eth0", "eth1", "*"),
    "normal": ("eth0", "eth1", "*"),
    "forward": ("eth0", "eth1", "*"),
    "workload": ("cali1", "cali2"),
}
JUDGES: Final[tuple[Judge, ...]] = tuple(
    (kind, name, direction)
    for kind, found in ENDPOINTS.items()
    for name in found
    for direction in ("ingress", "egress")
    if (kind, direction) != ("preDNAT", "egress")
)
FLOWS: Final[tuple[ConnState, ...]] = ("NEW", "ESTABLISHED")
HERE, FAR, BEHIND, POD, SECOND, SERVICE = "192.0.2.1", "203.0.113.5", "10.0.20.5", "10.244.1.5", "10.244.2.5", "198.18.0.7"


def packet(path: Literal["input", "forward", "output"], source: str, target: str, enters: str = "", leaves: str = "") -> Packet:
    return Packet(4, path, source, target, 6, 40000, 30080, enters, leaves)


@dataclass(frozen=True)
class Row:
    """A kind of traffic; who judges it under both meanings of forwarding, and who only where hosts' forwarding is `All`."""

    packet: Packet
    judges: str
    only_all: str = ""

    def expected(self, forwarding: str) -> set[Judge]:
        text = f"{self.judges}, {self.only_all}" if self.only_all and forwarding == "All" else self.judges
        found = {tuple(each.split()) for each in text.split(", ") if each}
        assert found <= set(JUDGES), found - set(JUDGES)
        return {judge for judge in JUDGES if judge in found}


def to(address: str, original: Packet) -> Packet:
    """The packet where nat sends it on to an address."""
    return replace(original, dnat=(address, 8080))


FROM_ETH0 = "untracked eth0 ingress, preDNAT eth0 ingress"
INTO_HOST = f"{FROM_ETH0}, normal eth0 ingress, forward eth0 ingress"
OUT_OF_HOST = "untracked eth0 egress, normal eth0 egress, forward eth0 egress"
ROUTED = Row(
    packet("forward", FAR, BEHIND, "eth0", "eth1"),
    f"{FROM_ETH0}, forward eth0 ingress, forward eth1 egress",
    "normal eth0 ingress, normal eth1 egress",
)
POD_IN = f"{FROM_ETH0}, forward eth0 ingress, workload cali1 ingress, forward * egress"
POD_OUT = "preDNAT * ingress, forward * ingress, workload cali1 egress"
TABLE: Final[Mapping[str, Row]] = {
    # As H-10 has them, row by row.
    "remote to local process": Row(packet("input", FAR, HERE, "eth0"), INTO_HOST),
    "local process to remote": Row(packet("output", HERE, FAR, "", "eth0"), OUT_OF_HOST),
    "local process to remote, DNATed": Row(to(FAR, packet("output", HERE, SERVICE, "", "eth0")), OUT_OF_HOST),
    "remote to pod": Row(packet("forward", FAR, POD, "eth0", "cali1"), POD_IN),
    "remote by DNAT to pod": Row(to(POD, packet("forward", FAR, HERE, "eth0", "cali1")), POD_IN),
    "remote by DNAT to other host": replace(ROUTED, packet=to(BEHIND, packet("forward", FAR, HERE, "eth0", "eth1"))),
    "pod to remote": Row(packet("forward", POD, FAR, "cali1", "eth0"), f"{POD_OUT}, forward eth0 egress"),
    "pod by DNAT to remote": Row(to(FAR, packet("forward", POD, SERVICE, "cali1", "eth0")), f"{POD_OUT}, forward eth0 egress"),
    "pod to local process": Row(packet("input", POD, HERE, "cali1"), "preDNAT * ingress, workload cali1 egress"),
    "local process to local pod": Row(packet("output", HERE, POD, "", "cali1"), ""),
    "local process by DNAT to local pod": Row(to(POD, packet("output", HERE, SERVICE, "", "cali1")), ""),
    "eth0 to eth1 routed": ROUTED,
    # What follows from its notes: H-17, H-18, D7.
    "pod to pod": Row(
        packet("forward", POD, SECOND, "cali1", "cali2"), f"{POD_OUT}, workload cali2 ingress, forward * egress"
    ),
    "pod by DNAT to itself": Row(
        to(POD, packet("forward", POD, SERVICE, "cali1", "cali1")), f"{POD_OUT}, workload cali1 ingress, forward * egress"
    ),
    "remote to local process by another interface": Row(
        packet("input", FAR, HERE, "eth9"), "preDNAT * ingress, normal * ingress, forward * ingress"
    ),
    "local process to remote by another interface": Row(
        packet("output", HERE, FAR, "", "eth9"), "normal * egress, forward * egress"
    ),
    "pod to remote by another interface": Row(
        packet("forward", POD, FAR, "cali1", "eth9"), f"{POD_OUT}, forward * egress"
    ),
    "other interface to eth1 routed": Row(
        packet("forward", FAR, BEHIND, "eth9", "eth1"),
        "preDNAT * ingress, forward * ingress, forward eth1 egress",
        "normal * ingress, normal eth1 egress",
    ),
    "loopback in": Row(packet("input", HERE, HERE, "lo"), ""),
    "loopback out": Row(packet("output", HERE, HERE, "", "lo"), ""),
}  # fmt: skip
CASES = [
    pytest.param(row, forwarding, id=f"{name}, {forwarding}")
    for name, row in TABLE.items()
    for forwarding in ("All", "ApplyOnForward")
]
FIRST = {"input": "PREROUTING", "forward": "PREROUTING", "output": "OUTPUT"}
FILTER = {"input": "INPUT", "forward": "FORWARD", "output": "OUTPUT"}


def where(judge: Judge, packet: Packet) -> str:
    """Where a judge drops what it denies."""
    if judge[0] in ("untracked", "preDNAT"):
        return f"{'raw' if judge[0] == 'untracked' else 'mangle'} {FIRST[packet.path]}"
    if packet.path == "output" and packet.dnat is not None:
        return "mangle POSTROUTING"
    return f"filter {FILTER[packet.path]}"


def policy(judge: Judge, within: tuple[Rule, ...]) -> Policy:
    kind, name, direction = judge
    ingress, namespace = direction == "ingress", "default" if kind == "workload" else ""
    title = f"{kind.lower()}-{'any' if name == '*' else name}-{direction}"
    selector = f"name == '{name}'" + (f" && {NAMESPACE} == 'default'" if namespace else "")
    return Policy(
        ResourceKey("NetworkPolicy" if namespace else "GlobalNetworkPolicy", namespace, title),
        title,
        title,
        None,
        canonical(selector),
        ingress,
        not ingress,
        within if ingress else (),
        () if ingress else within,
        do_not_track=kind == "untracked",
        pre_dnat=kind == "preDNAT",
        apply_on_forward=kind not in ("normal", "workload"),
    )


def world(settled: Mapping[Judge, Action | None]) -> dict[ResourceKey, Resource]:
    """Every policy; those of `settled` with a rule for everything, or with None, at the end of a tier that denies."""
    found: dict[ResourceKey, Resource] = {}
    for name in ("eth0", "eth1", "*"):
        own = HostEndpoint(f"on-{'any' if name == '*' else name}", NODE, name, (), (DEFAULT_ALLOW_PROFILE,), (), {"name": name})
        found[ResourceKey("HostEndpoint", "", own.name)] = own
    for name, address in (("cali1", POD), ("cali2", SECOND)):
        labels = {"name": name, NAMESPACE: "default"}
        pod = WorkloadEndpoint("default", name, NODE, name, (address,), (DEFAULT_ALLOW_PROFILE,), labels=labels)
        found[ResourceKey("WorkloadEndpoint", "default", name)] = pod
    for judge in JUDGES:
        action = settled.get(judge)
        each = policy(judge, (Rule(action),) if action is not None else ())
        ends = judge in settled and action is None
        found[each.key] = each
        found[ResourceKey("Tier", "", each.tier)] = Tier(each.tier, None, Action.DENY if ends else Action.PASS)
    return found


@lru_cache(maxsize=1024)
def guarded(settled: frozenset[tuple[Judge, Action | None]], forwarding: str) -> tuple[FilterState, Host]:
    """The rules of a world, and the oracle of it."""
    choice = replace(BUILT_IN, host_forward_policy=forwarding, default_endpoint_to_host_action="Return")
    resources = world(dict(settled))
    return rules(choice, resources), Host.under(choice, NODE, resources.values(), {})


def rules(choice: Settings, resources: Mapping[ResourceKey, Resource]) -> FilterState:
    return of_ruleset(Renderer(options(choice, ())).render(calculate(Inputs(Scope(NODE), resources, {}))))


def dropped_in(packet: Packet, settled: Mapping[Judge, Action | None], forwarding: str) -> str:
    """Where the packet ends, "" where nowhere; the oracle must say the same."""
    state, oracle = guarded(frozenset(settled.items()), forwarding)
    outcome = evaluate(packet, state)
    assert oracle.accepts(packet) == outcome.accepted
    return outcome.dropped_in


@pytest.mark.parametrize(("row", "forwarding"), CASES)
def test_who_judges(row: Row, forwarding: str) -> None:
    assert dropped_in(row.packet, {}, forwarding) == ""
    found = {judge: dropped_in(row.packet, {judge: Action.DENY}, forwarding) for judge in JUDGES}
    assert {judge: place for judge, place in found.items() if place} == {
        judge: where(judge, row.packet) for judge in row.expected(forwarding)
    }


@pytest.mark.parametrize(("row", "forwarding"), CASES)
def test_who_denies_at_the_end_of_a_tier(row: Row, forwarding: str) -> None:
    """M-28, M-34: all but untracked and preDNAT policies."""
    found = {judge: dropped_in(row.packet, {judge: None}, forwarding) for judge in JUDGES}
    judges = {judge for judge in row.expected(forwarding) if judge[0] not in ("untracked", "preDNAT")}
    assert {judge: place for judge, place in found.items() if place} == {judge: where(judge, row.packet) for judge in judges}


@pytest.mark.parametrize(("row", "forwarding"), CASES)
def test_whom_an_early_allow_goes_past(row: Row, forwarding: str) -> None:
    """H-12: what is allowed before is past this side's later policies, not past the workloads' own nor the other side's."""
    judges = row.expected(forwarding)
    for allows in (judge for judge in judges if judge[0] in ("untracked", "preDNAT")):
        later: set[Kind] = {"preDNAT", "normal", "forward"} if allows[0] == "untracked" else {"normal", "forward"}
        for denies in judges - {allows}:
            place = dropped_in(row.packet, {allows: Action.ALLOW, denies: Action.DENY}, forwarding)
            past = denies[0] in later and denies[1:] == allows[1:]
            assert bool(place) is not past, (allows, denies, place)


@pytest.mark.parametrize(("action", "passes"), [("Drop", False), ("Accept", True), ("Return", True)])
def test_what_a_workload_may_send_to_this_host_is_then_the_settings_to_say(action: str, passes: bool) -> None:
    """H-39; Return leaves it to the chain's own policy, and answers to this host's questions always come in."""
    state = rules(replace(BUILT_IN, default_endpoint_to_host_action=action), world({}))
    shut = replace(state, policies=frozenset({(TableId(4, "filter"), "INPUT")}))
    new = TABLE["pod to local process"].packet
    assert evaluate(new, state).accepted is passes
    assert evaluate(new, shut).accepted is (action == "Accept")
    assert evaluate(replace(new, state="ESTABLISHED"), shut).accepted


@pytest.mark.parametrize("isolated", [True, False])
@pytest.mark.parametrize("state", ["NEW", "ESTABLISHED", "RELATED", "UNTRACKED"])
def test_a_workload_that_nobody_knows_or_understands_is_cut_off(isolated: bool, state: ConnState) -> None:
    """H-48, H-52: from all but this host itself, and what the link needs."""
    resources = world({})
    key = ResourceKey("WorkloadEndpoint", "default", "cali1")
    pod = resources.pop(key)
    assert isinstance(pod, WorkloadEndpoint)
    if isolated:
        resources[key] = replace(pod, isolated=True)
    ruled = rules(replace(BUILT_IN, default_endpoint_to_host_action="Accept"), resources)
    cut = {name for name, row in TABLE.items() if not evaluate(replace(row.packet, state=state), ruled).accepted}
    assert cut == {name for name, row in TABLE.items() if "workload cali1" in row.judges}
    solicits = Packet(6, "input", "fe80::5", "ff02::1:ff00:1", 58, in_interface="cali1", icmp_type=135)
    assert evaluate(solicits, ruled).accepted
    assert not evaluate(replace(solicits, path="forward", out_interface="cali2"), ruled).accepted


@pytest.mark.parametrize("setting", ["Disabled", "Any"])
@pytest.mark.parametrize("name", ["pod to remote", "pod to pod", "pod to local process"])
def test_only_a_workload_that_may_sends_from_addresses_that_are_not_its_own(setting: str, name: str) -> None:
    """H-32, H-73: and only from those that its own endpoint lists; what is tracked already is no exception."""
    resources = world({})
    for interface, lent in (("cali1", (f"{FAR}/32",)), ("cali2", (f"{BEHIND}/32", "2001:db8::/32"))):
        key = ResourceKey("WorkloadEndpoint", "default", interface)
        pod = resources[key]
        assert isinstance(pod, WorkloadEndpoint)
        resources[key] = replace(pod, spoofable=lent)
    choice = replace(BUILT_IN, workload_source_spoofing=setting, default_endpoint_to_host_action="Accept")
    state, original = rules(choice, resources), TABLE[name].packet
    found = {
        (source, flow): evaluate(replace(original, source=source, spoofed=True, state=flow), state).dropped_in
        for source in (POD, FAR, BEHIND)
        for flow in FLOWS
    }
    lent_too = {(FAR, flow) for flow in FLOWS if setting == "Any"}
    assert {key for key, place in found.items() if not place} == lent_too
    assert {place for place in found.values() if place} == {"raw PREROUTING"}
    assert evaluate(original, state).accepted
    assert evaluate(replace(TABLE["eth0 to eth1 routed"].packet, spoofed=True), state).accepted, "no business of ours"
    resources[key] = replace(pod, spoofable=lent, isolated=True)
    solicits = Packet(6, "input", "2001:db8::5", "ff02::1:ff00:1", 58, in_interface="cali2", icmp_type=135, spoofed=True)
    assert not evaluate(solicits, rules(choice, resources)).accepted, "nothing is lent to what isn't understood"
