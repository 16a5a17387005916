"""The incremental engine equals the calculation from scratch, after any sequence of changes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hostward.calc.calculate import calculate
from hostward.calc.engine import Engine
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resolved import Inputs, Scope
from hostward.model.resources import HostEndpoint, Policy, Resource, Tier
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
    engine.update(dict(resources), links)
    for touched, new_links in sequence:
        update: dict[ResourceKey, Resource | None] = {ours.key_of(r): r if stays else None for r, stays in touched}
        for key, value in update.items():
            if value is None:
                resources.pop(key, None)
            else:
                resources[key] = value
        if new_links is not None:
            links = new_links
        assert engine.update(update, new_links) == calculate(Inputs(SCOPE, resources, links))


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
