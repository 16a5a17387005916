"""A renderer's memory never changes an answer, and what a change doesn't touch stays the same object."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hostward.calc.calculate import calculate
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resolved import Inputs, PolicyLists, Resolved, ResolvedEndpoint, Scope, TierPolicies
from hostward.model.resources import Policy, Resource
from hostward.model.rules import Action, Entity, PortRange, Ports, Rule
from hostward.model.sets import NetSet
from hostward.render import names
from hostward.render.marks import Marks
from hostward.render.options import Options
from hostward.render.renderer import Renderer
from hostward.render.ruleset import Ruleset, TableId
from tests import strategies as ours

OPTIONS = Options(marks=Marks.from_mask(0xFF000000), failsafe_in=ours.FAILSAFE_IN, failsafe_out=ours.FAILSAFE_OUT)
FILTER = TableId(4, "filter")


def whole(ruleset: Ruleset) -> object:
    """A ruleset with the meaning of its counters, which isn't part of a rule's value."""
    meanings = {
        (where, name): [rule.counter for rule in chain]
        for where, table in ruleset.tables.items()
        for name, chain in table.chains.items()
    }
    return ruleset, meanings


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(ours.worlds, ours.link_tables), min_size=2, max_size=4))
def test_memory_changes_no_answer(states: list[tuple[dict[ResourceKey, Resource], dict[str, Link]]]) -> None:
    renderer = Renderer(OPTIONS)
    for world, links in states:
        resolved = calculate(Inputs(Scope(ours.NODE), world, links))
        assert whole(renderer.render(resolved)) == whole(Renderer(OPTIONS).render(resolved))


def policy(number: int, ports: int, nets: tuple[str, ...] = ("10.0.0.0/8", "172.16.0.0/12")) -> Policy:
    key = ResourceKey("GlobalNetworkPolicy", "", f"p{number}")
    rule = Rule(Action.ALLOW, protocol=6, source=Entity(nets=nets), destination=Entity(ports=Ports((PortRange(ports, ports),))))
    return Policy(key, f"p{number}", "default", float(number), "all()", ingress_rules=(rule,), ingress=True, egress=False)


def resolved(*policies: Policy, profiles: tuple[str, ...] = (), isolated: bool = False) -> Resolved:
    keys = tuple(p.key for p in policies)
    lists = PolicyLists(normal=(TierPolicies("default", Action.DENY, ingress=keys),)) if keys else PolicyLists()
    return Resolved({"eth0": ResolvedEndpoint("eth0", "e", lists, profiles, isolated)}, {p.key: p for p in policies})


def test_a_changed_policy_leaves_all_other_chains_the_same_objects() -> None:
    one, two, other = policy(1, 80), policy(2, 80), policy(2, 81)
    renderer, members = Renderer(OPTIONS), [names.policy_chain(p.key, "ingress") for p in (one, two)]
    before, after = renderer.render(resolved(one, two)), renderer.render(resolved(one, other))
    old, new = before.tables[FILTER].chains, after.tables[FILTER].chains
    assert [name for name in new if new[name] is not old[name]] == [names.group_chain(members, "ingress")]
    others = [where for where in before.tables if where != FILTER]
    assert all(after.tables[where] is before.tables[where] for where in others)
    assert all(after.sets[name] is before.sets[name] for name in before.sets)


def test_a_policy_read_anew_with_the_same_meaning_changes_no_object() -> None:
    renderer = Renderer(OPTIONS)
    before, after = renderer.render(resolved(policy(1, 80))), renderer.render(resolved(policy(1, 80)))
    assert all(after.tables[where] is table for where, table in before.tables.items())


def test_one_more_policy_leaves_the_other_rules_the_same_objects() -> None:
    renderer = Renderer(OPTIONS)
    policies = [policy(number, 80) for number in range(40)]
    for direction in ("hw-fh-eth0", "hw-gi-"):
        before, after = (
            [
                rule
                for name, chain in renderer.render(resolved(*some)).tables[FILTER].chains.items()
                for rule in chain
                if name.startswith(direction)
            ]
            for some in (policies[:20] + policies[21:], policies)
        )
        known = set(map(id, before))
        strangers = [rule for rule in after if id(rule) not in known]
        assert before
        assert len(strangers) <= 2


def test_a_set_follows_the_policy_that_lists_it() -> None:
    renderer = Renderer(OPTIONS)
    first, second = ("10.0.0.0/8", "172.16.0.0/12"), ("10.0.0.0/8", "192.168.0.0/16")
    assert set(renderer.render(resolved(policy(1, 80, first))).sets) == {names.set_name(NetSet(first), 4)}
    assert set(renderer.render(resolved(policy(1, 80, second))).sets) == {names.set_name(NetSet(second), 4)}
    assert not renderer.render(resolved(policy(1, 80, ()))).sets


def test_equal_chains_with_other_reasons_to_drop_are_told_apart() -> None:
    renderer = Renderer(replace(OPTIONS, drop_invalid=False))
    renderer.render(resolved(isolated=True))
    chain = renderer.render(resolved()).tables[FILTER].chains[names.endpoint_chain("eth0", "ingress")]
    assert chain[-1].counter == "drop eth0 ingress no-policy"
