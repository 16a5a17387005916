"""The incremental engine equals the calculation from scratch, after any sequence of changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hostward.calc.calculate import calculate
from hostward.calc.engine import Engine
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resolved import Inputs, Scope
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
from hostward.model.rules import Action, Entity, Ports, Rule, Service
from hostward.model.selectors import canonical
from hostward.model.sets import NamedPortSet, SelectorSet, ServiceSet
from tests import strategies as ours

SCOPE = Scope(ours.NODE)
changes = st.lists(
    st.tuples(
        st.lists(st.tuples(ours.resources, st.booleans()), max_size=3),
        st.one_of(st.none(), ours.link_tables),
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(changes)
def test_incremental_equals_from_scratch(
    sequence: list[tuple[list[tuple[Resource, bool]], dict[str, Link] | None]],
) -> None:
    engine = Engine(SCOPE)
    resources: dict[ResourceKey, Resource] = {ours.key_of(r): r for r in ours.BASE}
    links: dict[str, Link] = {"eth1": Link("eth1", 3, True, frozenset({"192.0.2.1"}))}
    before = engine.update(dict(resources), links)
    for touched, new_links in sequence:
        update: dict[ResourceKey, Resource | None] = {ours.key_of(r): r if stays else None for r, stays in touched}
        for key, value in update.items():
            if value is None:
                resources.pop(key, None)
            else:
                resources[key] = value
        if new_links is not None:
            links = new_links
        now, changed = engine.advance(update, new_links)
        assert now == calculate(Inputs(SCOPE, resources, links))
        for table in ("endpoints", "workloads", "policies", "profiles", "sets"):
            old, new = getattr(before, table), getattr(now, table)
            assert {key for key in old.keys() | new.keys() if old.get(key) is not new.get(key)} == getattr(changed, table), (
                table
            )
        before = now


def test_a_change_computes_what_it_affects() -> None:
    """The same however many policies and endpoints there are beside it."""
    computed = []
    for size in (10, 200):
        engine = Engine(SCOPE)
        policies = [
            replace(of_everything("", f"g == '{n}'"), key=ResourceKey("GlobalNetworkPolicy", "", f"p{n}"), name=f"p{n}")
            for n in range(size)
        ]
        workloads = [
            replace(
                WORKLOAD, name=f"w{n}", interface=f"cali{n}", labels={"g": str(n)}, addresses=(f"10.1.{n // 200}.{n % 200}",)
            )
            for n in range(size)
        ]
        engine.update({ours.key_of(r): r for r in (*policies, *workloads)}, {})
        rules = replace(policies[3], ingress_rules=(Rule(Action.DENY),))
        steps = (
            rules,
            replace(rules, order=5.0),
            replace(rules, selector="g == '4'"),
            replace(workloads[5], labels={"g": "1"}),
        )
        computed.append([])
        for step in steps:
            engine.update({ours.key_of(step): step})
            computed[-1].append(engine.computed)
    assert computed[0] == computed[1]
    assert max(computed[0]) <= 6


def endpoint(name: str, **fields: object) -> HostEndpoint:
    return HostEndpoint(name, ours.NODE, fields.pop("interface", ""), **fields)  # type: ignore[arg-type] # fields are its own


def governors(*endpoints: HostEndpoint, links: dict[str, Link] | None = None) -> dict[str, str]:
    found = calculate(Inputs(SCOPE, {ours.key_of(e): e for e in endpoints}, links or {}))
    return {name: value.endpoint for name, value in found.endpoints.items()}


def test_smallest_name_wins_by_name_or_address() -> None:
    """H-5."""
    links = {"eth0": Link("eth0", 2, True, frozenset({"10.0.0.1"}))}
    by_name, by_address = endpoint("b", interface="eth0"), endpoint("a", expected_ips=("10.0.0.1",))
    assert governors(by_name, by_address, links=links) == {"eth0": "a"}


def test_name_never_matches_by_address() -> None:
    """H-4."""
    links = {"eth1": Link("eth1", 3, True, frozenset({"10.0.0.1"}))}
    assert governors(endpoint("a", interface="eth0", expected_ips=("10.0.0.1",)), links=links) == {"eth0": "a"}


def test_named_interface_is_guarded_before_it_exists() -> None:
    assert governors(endpoint("a", interface="eth7")) == {"eth7": "a"}


def test_workload_and_excluded_interfaces_are_left_alone() -> None:
    """H-2."""
    assert governors(endpoint("a", interface="cali1"), endpoint("b", interface="kube-ipvs0")) == {}


def test_a_tier_that_moves_takes_its_policies_along() -> None:
    """M-25; the incremental engine must look at tiers too."""

    def policy(name: str, tier: str) -> Policy:
        return Policy(ResourceKey("GlobalNetworkPolicy", "", name), name, tier, None, "all()", ingress=True, egress=False)

    held = [endpoint("h", interface="eth0"), policy("a", "t1"), policy("b", "t2"), Tier("t1", 1.0), Tier("t2", 2.0)]
    engine = Engine(SCOPE)
    engine.update({ours.key_of(r): r for r in held}, {})
    moved = Tier("t1", 3.0)
    after = engine.update({ours.key_of(moved): moved})
    assert [tier.name for tier in after.endpoints["eth0"].policies.normal] == ["t2", "t1"]


WORKLOAD = WorkloadEndpoint("ns1", "w", ours.NODE, "cali1", ("10.0.2.5",), labels={ours.NAMESPACE: "ns1"})


def selected(policy: Policy, *others: Resource) -> set[str]:
    """The interfaces whose endpoints a policy judges."""
    found = calculate(Inputs(SCOPE, {ours.key_of(r): r for r in (policy, *others)}, {}))
    tiers = {name: list(value.tiers) for name, value in found.workloads.items()}
    for name, value in found.endpoints.items():
        lists = value.policies
        tiers[name] = [*lists.untracked, *lists.pre_dnat, *lists.normal, *lists.forward]
    return {name for name, value in tiers.items() if any(policy.key in (*tier.ingress, *tier.egress) for tier in value)}


def of_everything(namespace: str, selector: str = "all()", **kind: bool) -> Policy:
    key = ResourceKey("NetworkPolicy" if namespace else "GlobalNetworkPolicy", namespace, "p")
    return Policy(key, "p", "default", None, canonical(selector), ingress=True, egress=False, **kind)


def test_a_policy_in_a_namespace_judges_no_host_whatever_its_labels_claim() -> None:
    """M-14."""
    host = endpoint("h", interface="eth0", labels={ours.NAMESPACE: "ns1"})
    elsewhere = replace(WORKLOAD, namespace="ns2", interface="cali2", labels={ours.NAMESPACE: "ns2"})
    assert selected(of_everything("ns1", f"{ours.NAMESPACE} == 'ns1'"), host, WORKLOAD, elsewhere) == {"cali1"}
    assert selected(of_everything("", f"{ours.NAMESPACE} == 'ns1'"), host, WORKLOAD, elsewhere) == {"eth0", "cali1"}


@pytest.mark.parametrize("kind", ["do_not_track", "pre_dnat"])
def test_what_is_before_connections_and_nat_judges_no_workload(kind: str) -> None:
    """M-33."""
    assert selected(of_everything("", **{kind: True}), endpoint("h", interface="eth0"), WORKLOAD) == {"eth0"}
    assert selected(of_everything("", apply_on_forward=True), endpoint("h", interface="eth0"), WORKLOAD) == {"eth0", "cali1"}


@pytest.mark.parametrize(("label", "value"), [("own", "endpoint"), ("both", "first"), ("last", "second")])
def test_labels_are_inherited_from_profiles_in_order(label: str, value: str) -> None:
    """M-11: its own win, then the first profile's."""
    profiles = (
        Profile("one", labels={"own": "first", "both": "first"}),
        Profile("two", labels={"own": "second", "both": "second", "last": "second"}),
    )
    labels, names = {"own": "endpoint"}, ("one", "two")
    workload = replace(WORKLOAD, profiles=names, labels=labels)
    host = endpoint("h", interface="eth0", profiles=names, labels=labels)
    assert selected(of_everything("", f"{label} == '{value}'"), workload, host, *profiles) == {"cali1", "eth0"}


def test_of_two_workloads_on_an_interface_the_first_by_namespace_and_name_counts() -> None:
    """As for hosts' endpoints (H-5), so that all agents and restarts agree; one of another node or interface is nobody's."""
    others = [replace(WORKLOAD, namespace="ns0", name="z"), replace(WORKLOAD, name="v")]
    away = [replace(WORKLOAD, name="a", node="w2"), replace(WORKLOAD, name="b", interface="eth7")]
    resources = {ours.key_of(r): r for r in (WORKLOAD, *others, *away)}
    engine = Engine(SCOPE)
    for gone, found in ((None, "ns0/z"), (others[0], "ns1/v"), (others[1], "ns1/w"), (WORKLOAD, None)):
        update: dict[ResourceKey, Resource | None] = {ours.key_of(gone): None} if gone is not None else {**resources}
        workloads = engine.update(update, {}).workloads
        assert {name: value.endpoint for name, value in workloads.items()} == ({"cali1": found} if found else {})


def test_what_stands_behind_names_counts_from_every_node() -> None:
    """M-44, R-26, M-42: addresses, port names and services of workloads elsewhere; of a service no selector sees anything."""
    web = NamedPort("web", 6, 8080)
    here = endpoint("h", interface="eth0", expected_ips=("10.0.0.1",), ports=(web,))
    there = replace(WORKLOAD, node="w2", addresses=("10.0.2.6", "fd00:2::6"), ports=(replace(web, port=81),))
    networks = NetworkSet("s", ("192.0.2.0/24",))
    behind = EndpointSlice("ns1", "svc", ("10.0.2.7", "fd00:2::7"), ((6, 80), (17, 53)))
    other = replace(behind, service="other", addresses=("10.0.2.8",))
    shop, named = Service("ns1", "svc", ports=False), Entity(selector="all()", ports=Ports(names=("web",)))
    sides = (Entity(selector="all()"), named, Entity(service=shop), Entity(service=replace(shop, ports=True)))
    policy = replace(of_everything(""), ingress_rules=tuple(Rule(Action.ALLOW, destination=side) for side in sides))
    found = calculate(Inputs(SCOPE, {ours.key_of(r): r for r in (here, there, networks, behind, other, policy)}, {}))
    assert found.sets == {
        SelectorSet("all()"): {"10.0.0.1", "10.0.2.6", "fd00:2::6", "192.0.2.0/24"},
        NamedPortSet("all()", None, "web"): {"10.0.0.1,tcp:8080", "10.0.2.6,tcp:81", "fd00:2::6,tcp:81"},
        ServiceSet(shop): {"10.0.2.7", "fd00:2::7"},
        ServiceSet(replace(shop, ports=True)): {
            *("10.0.2.7,tcp:80", "10.0.2.7,udp:53", "fd00:2::7,tcp:80", "fd00:2::7,udp:53"),
        },
    }


def test_what_inherits_labels_follows_its_profile() -> None:
    """M-18, for network sets of a namespace as for endpoints; the incremental engine must know who lists the profile."""
    networks = NetworkSet("s", ("192.0.2.0/24",), {ours.NAMESPACE: "ns1"}, ("kns.ns1",))
    workload = replace(WORKLOAD, profiles=("kns.ns1",))
    policy = replace(of_everything(""), ingress_rules=(Rule(Action.ALLOW, source=Entity(selector="team == 'x'")),))
    engine = Engine(SCOPE)
    engine.update({ours.key_of(r): r for r in (policy, networks, workload, Profile("kns.ns1", labels={"team": "x"}))}, {})
    for team, members in (("y", set()), ("x", {"192.0.2.0/24", "10.0.2.5"})):
        profile = Profile("kns.ns1", labels={"team": team})
        assert engine.update({ours.key_of(profile): profile}).sets == {SelectorSet("team == 'x'"): members}
    assert engine.update({ours.key_of(profile): None}).sets == {SelectorSet("team == 'x'"): frozenset()}
