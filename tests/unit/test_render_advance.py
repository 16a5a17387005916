"""Rendering what has changed: what a fresh renderer answers, all that differs is named, the work is what the change affects."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hostward.calc.engine import Engine
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.members import Members
from hostward.model.resolved import (
    Changed,
    PolicyLists,
    Resolved,
    ResolvedEndpoint,
    ResolvedWorkload,
    Scope,
    TierPolicies,
    between,
)
from hostward.model.resources import Policy, Resource
from hostward.model.rules import Action, Entity, PortRange, Ports, Rule
from hostward.model.selectors import canonical
from hostward.model.sets import SelectorSet
from hostward.render.marks import Marks
from hostward.render.options import Options
from hostward.render.renderer import Renderer
from hostward.render.ruleset import Focus, Ruleset, TableId
from tests import strategies as ours
from tests.unit import worlds
from tests.unit.test_renderer import OPTIONS, whole

FILTER = TableId(4, "filter")
SELECTOR = canonical("role == 'a'")


def assert_named(old: Ruleset, new: Ruleset, focus: Focus) -> None:
    """What isn't named is the same object in both."""
    for where, table in new.tables.items():
        before = old.tables[where].chains if where in old.tables else {}
        named = focus.chains.get(where, frozenset())
        differing = {name for name in before.keys() | table.chains.keys() if before.get(name) is not table.chains.get(name)}
        assert differing <= named
        if not named and where in old.tables:
            assert table is old.tables[where]
    assert {name for name in old.sets.keys() | new.sets.keys() if old.sets.get(name) is not new.sets.get(name)} <= focus.sets


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(ours.worlds, ours.link_tables), min_size=2, max_size=5),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["ACCEPT", "RETURN"]),
)
def test_what_changes_is_what_a_fresh_renderer_makes(
    states: list[tuple[dict[ResourceKey, Resource], dict[str, Link]]], forward_all: bool, other: bool, allow: str
) -> None:
    options = replace(OPTIONS, forward_all=forward_all, filter_reject=other, allow_spoofing=other, filter_allow=allow)
    engine, renderer = Engine(Scope(ours.NODE)), Renderer(options)
    before, held = Ruleset(), dict[ResourceKey, Resource]()
    for world, links in states:
        gone: dict[ResourceKey, Resource | None] = dict.fromkeys(held.keys() - world.keys())
        resolved, changed = engine.advance(gone | world, links)
        held = world
        after, focus = renderer.advance(resolved, changed)
        assert whole(after) == whole(Renderer(options).render(resolved))
        assert_named(before, after, focus)
        before = after


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_small_changes_one_after_another(seed: int) -> None:
    rng = random.Random(seed)
    renderer, resolved = Renderer(worlds.OPTIONS), Resolved()
    before = Ruleset()
    for number in range(12):
        new = worlds.world(rng) if number == 0 or rng.random() < 0.05 else worlds.neighbour(rng, resolved)
        after, focus = renderer.advance(new, between(resolved, new))
        assert whole(after) == whole(Renderer(worlds.OPTIONS).render(new))
        assert_named(before, after, focus)
        before, resolved = after, new


# --- the work --------------------------------------------------------------------------------------------------------------
def calls(act: Callable[[], object]) -> int:
    """How many Python functions were called."""
    count = 0

    def seen(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(seen)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def key(number: int) -> ResourceKey:
    return ResourceKey("GlobalNetworkPolicy", "", f"policy-{number}")


def policy(number: int, ports: tuple[int, ...], rules: int = 1) -> Policy:
    found = Ports(tuple(PortRange(port, port) for port in ports))
    many = tuple(
        Rule(Action.ALLOW, protocol=6, source=Entity(nets=(f"10.0.{n}.0/24",)), destination=Entity(ports=found))
        for n in range(rules)
    )
    return Policy(key(number), f"policy-{number}", "default", float(number), "all()", True, False, many)


def big(policies: int, pods: int = 20, rules: int = 1, selected: int = 20) -> Resolved:
    """A node on which each endpoint has `selected` of many policies, and an interface that has a quarter of them."""
    everything = {key(n): policy(n, (80,), rules) for n in range(policies)}
    keys = tuple(everything)
    lists = PolicyLists(normal=(TierPolicies("default", Action.DENY, ingress=keys[: policies // 4]),))
    workloads = {}
    for n in range(pods):
        first = n * 7 % (policies - selected)
        mine = keys[first : first + selected]
        workloads[f"cali{n:04x}"] = ResolvedWorkload(
            f"cali{n:04x}", f"ns/{n}", ("10.1.0.1",), (TierPolicies("default", Action.DENY, ingress=mine),)
        )
    return Resolved({"eth0": ResolvedEndpoint("eth0", "e", lists)}, everything, {}, {}, workloads)


def edited(old: Resolved, number: int, ports: tuple[int, ...], rules: int = 1) -> tuple[Resolved, Changed]:
    new = replace(old, policies={**old.policies, key(number): policy(number, ports, rules)})
    return new, Changed(policies=frozenset({key(number)}))


@pytest.mark.parametrize("rules", [1, 5])
def test_an_edit_of_a_policy_costs_the_same_among_many_as_among_few(rules: int) -> None:
    found = []
    for many in (100, 1000):
        renderer, resolved = Renderer(OPTIONS), big(many, rules=rules)
        renderer.render(resolved)
        renderer.advance(*edited(resolved, 3, (80, 81), rules))  # the one before has other caches to fill
        work = calls(lambda renderer=renderer, resolved=resolved: renderer.advance(*edited(resolved, 3, (80, 82), rules)))
        found.append((renderer.rendered, work))
    # A policy of five rules has a chain of its own, in filter and mangle.
    assert found[0][0] == found[1][0]
    assert abs(found[0][1] - found[1][1]) <= found[0][1] // 5, found


def test_an_edit_names_the_chains_that_it_changes_and_no_others() -> None:
    renderer, resolved = Renderer(OPTIONS), big(100, rules=5)
    renderer.render(resolved)
    _, focus = renderer.advance(*edited(resolved, 3, (80, 81), rules=5))
    assert focus.chains == {where: frozenset({"hw-pi-policy-3"}) for where in (FILTER,)}
    assert not focus.sets
    assert renderer.rendered <= 4


def test_other_traits_of_a_policy_change_the_chains_of_those_who_have_it() -> None:
    renderer, resolved = Renderer(OPTIONS), big(40, pods=8)
    renderer.render(resolved)
    passing = replace(policy(3, (80,)), ingress_rules=(Rule(Action.PASS),))
    new = replace(resolved, policies={**resolved.policies, key(3): passing})
    after, focus = renderer.advance(new, Changed(policies=frozenset({key(3)})))
    assert whole(after) == whole(Renderer(OPTIONS).render(new))
    users = {f"hw-tw-{name}" for name, found in new.workloads.items() if key(3) in found.tiers[0].ingress}
    assert users | {"hw-fh-eth0", "hw-fhfw-eth0"} <= focus.chains[FILTER]
    assert {name for name in focus.chains[FILTER] if name.startswith("hw-tw-")} == users


def test_a_pod_that_comes_or_goes_costs_the_same_among_many_as_among_few() -> None:
    found = []
    for many in (100, 1000):
        renderer, resolved = Renderer(OPTIONS), big(100, many)
        renderer.render(resolved)
        pod = replace(resolved.workloads["cali0005"], interface="cali0fff")
        more = replace(resolved, workloads={**resolved.workloads, "cali0fff": pod})
        changed = Changed(workloads=frozenset({"cali0fff"}))
        for there in (more, resolved):
            after, focus = renderer.advance(there, changed)
            assert len(focus.chains[FILTER]) <= 2 * 4  # its own, and those on the way to it
        work = calls(lambda renderer=renderer, more=more, changed=changed: renderer.advance(more, changed))
        assert whole(renderer.render(more)) == whole(Renderer(OPTIONS).render(more))
        found.append(work)
        del after
    assert found[1] <= found[0] * 2, found


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sets(st.integers(0, 60), max_size=60), min_size=2, max_size=4))
def test_many_pods_that_come_and_go(states: list[set[int]]) -> None:
    everything, resolved, renderer = big(40, pods=61).workloads, big(40, pods=0), Renderer(OPTIONS)
    before, names = renderer.render(resolved), sorted(everything)
    for state in states:
        new = replace(resolved, workloads={names[n]: everything[names[n]] for n in state})
        after, focus = renderer.advance(new, between(resolved, new))
        assert whole(after) == whole(Renderer(OPTIONS).render(new))
        assert_named(before, after, focus)
        before, resolved = after, new


@pytest.mark.parametrize("family", [4, 6])
def test_one_member_of_many_costs_one_member(family: int) -> None:
    rule = Rule(Action.ALLOW, source=Entity(selector=SELECTOR))
    mine = replace(policy(0, ()), ingress_rules=(rule,))
    lists = PolicyLists(normal=(TierPolicies("default", Action.DENY, ingress=(mine.key,)),))
    members = Members({f"10.{n >> 8}.{n & 255}.1" for n in range(10_000)} | {f"fd00::{n:x}" for n in range(10_000)})
    resolved = Resolved({"eth0": ResolvedEndpoint("eth0", "e", lists)}, {mine.key: mine}, {}, {SelectorSet(SELECTOR): members})
    renderer = Renderer(OPTIONS)
    before = renderer.render(resolved)
    come, gone = ("192.0.2.1", "10.0.0.1") if family == 4 else ("fd01::1", "fd00::1")
    new = replace(resolved, sets={SelectorSet(SELECTOR): members.changed({come}, {gone})})
    changed = Changed(sets=frozenset({SelectorSet(SELECTOR)}))
    work = calls(lambda: renderer.advance(new, changed))
    after, _ = renderer.advance(new, Changed())
    (name,) = (name for name in before.sets if after.sets[name] is not before.sets[name])
    assert name.startswith(f"hw{family}-")
    assert Members.of(after.sets[name].members).since(before.sets[name].members) == ({come}, {gone})
    assert work < 200  # of 20,000 members


def test_nothing_changed_is_the_same_ruleset() -> None:
    renderer, resolved = Renderer(OPTIONS), big(100)
    first = renderer.render(resolved)
    again, focus = renderer.advance(resolved, Changed())
    assert again is first
    assert focus == Focus()
    assert renderer.rendered == 0


def test_ten_thousand_changes_leave_nothing_behind() -> None:
    """What a renderer remembers is what is there: of pods, policies and sets that are gone it knows nothing."""
    options = Options(Marks.from_mask(0xFF000000), families=(4,))
    renderer, empty = Renderer(options), Resolved()
    first = renderer.render(empty)
    for number in range(300):
        names = [f"cali{number:04x}{n}" for n in range(10)]
        rule = Rule(
            Action.ALLOW, source=Entity(selector=f"role == 'r{number}'", nets=("10.0.0.0/8", f"192.0.{number % 256}.0/24"))
        )
        mine = replace(policy(number, ()), ingress_rules=(rule,))
        tiers = (TierPolicies("default", Action.DENY, ingress=(mine.key,)),)
        sets = {SelectorSet(f"role == 'r{number}'"): Members({"10.0.0.1"})}
        pods = {name: ResolvedWorkload(name, name, (), tiers) for name in names}
        renderer.render(Resolved({}, {mine.key: mine}, {}, sets, pods))
    assert renderer.render(empty) == first
    assert sum(sizes(renderer).values()) <= sum(sizes(Renderer(options), empty).values()) + 5


def sizes(thing: object, *rendered: Resolved) -> dict[str, int]:
    """How much each table in a renderer holds, by its path."""
    if isinstance(thing, Renderer) and rendered:
        thing.render(rendered[0])
    found: dict[str, int] = {}
    todo: list[tuple[str, object]] = [("", thing)]
    seen: set[int] = set()
    while todo:
        path, value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict | set | list | tuple) and type(value) in (dict, set, list, tuple):
            found[path] = len(value)
            items = value.items() if isinstance(value, dict) else enumerate(value)
            todo += [(f"{path}[{key}]", item) for key, item in items]
        elif type(value).__module__.startswith("hostward.render"):
            names = vars(value) if hasattr(value, "__dict__") else getattr(type(value), "__slots__", ())
            todo += [(f"{path}.{name}", getattr(value, name)) for name in names]
    return found
