"""Pods that come and go change many sets: in place where every moment lies between before and after, and only there."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hostward.dataplane.fake import FakeKernel
from hostward.dataplane.kernel import CreateSet, Step, TableEdit, UpdateSet
from hostward.dataplane.plan import vocabulary
from hostward.model.resolved import PolicyLists, Resolved, ResolvedEndpoint, ResolvedWorkload, TierPolicies
from hostward.model.resources import Policy
from hostward.model.rules import Action, Entity, Rule
from hostward.model.selectors import canonical
from hostward.model.sets import SelectorSet
from tests.unit import worlds
from tests.unit.kernels import add_foreign, assert_holds, carry_out, install, watch

A, B = (canonical(f"role == '{role}'") for role in "ab")
ALLOW, DENY = Action.ALLOW, Action.DENY


def policy(name: str, *rules: Rule) -> Policy:
    return Policy(worlds.key(name), name, "default", None, "all()", True, True, rules, rules)


def from_set(action: Action, selector: str) -> Rule:
    return Rule(action, source=Entity(selector=selector))


def to_set(action: Action, selector: str) -> Rule:
    return Rule(action, destination=Entity(selector=selector))


def not_from_set(action: Action, selector: str) -> Rule:
    return Rule(action, source=Entity(not_selector=selector))


def world(
    rules: tuple[Rule, ...], members: dict[str, set[str]], pods: tuple[str, ...] = ("cali1",), lists: str = "normal"
) -> Resolved:
    tiers = (TierPolicies("default", DENY, (worlds.key("p"),), (worlds.key("p"),)),)
    host = ResolvedEndpoint("eth0", "h", replace(PolicyLists(), **{lists: tiers}))
    return Resolved(
        {"eth0": host},
        {worlds.key("p"): policy("p", *rules)},
        {},
        {SelectorSet(selector): frozenset(found) for selector, found in members.items()},
        {name: ResolvedWorkload(name, f"default/{name}", ("10.0.0.2",), tiers) for name in pods},
    )


def change(old: Resolved, new: Resolved, seed: int = 0) -> tuple[Step, ...]:
    """Carries the change out, watched at every write."""
    rng = random.Random(seed)
    kernel, goal = FakeKernel(), worlds.ruleset(new)
    add_foreign(kernel)
    install(kernel, worlds.ruleset(old))
    for where, known in vocabulary(worlds.ruleset(old), worlds.MARKS).items():
        kernel.learn(where, known)  # as an agent does with what it wrote
    watch(kernel, [worlds.packet(rng) for _ in range(200)], goal)
    steps = carry_out(kernel, goal)
    assert_holds(kernel, goal)
    return steps


BOTH = {A: {"10.0.0.1"}, B: {"10.0.0.1"}}
JOINED = {A: {"10.0.0.1", "10.0.0.5"}, B: {"10.0.0.1", "10.0.0.5"}}


@pytest.mark.parametrize(
    "rules",
    [
        (from_set(ALLOW, A), to_set(ALLOW, B)),
        (from_set(DENY, A), to_set(DENY, B), Rule(ALLOW)),
        (from_set(ALLOW, A), not_from_set(DENY, B), Rule(ALLOW)),
        (from_set(Action.LOG, A), from_set(DENY, A), not_from_set(ALLOW, B)),
    ],
)
def test_sets_that_only_open_or_only_close_change_in_place(rules: tuple[Rule, ...]) -> None:
    for old, new in ((BOTH, JOINED), (JOINED, BOTH)):
        steps = change(world(rules, old), world(rules, new))
        assert [type(step) for step in steps] == [UpdateSet] * 2


@pytest.mark.parametrize(
    ("rules", "lists", "new"),
    [
        ((from_set(DENY, A), to_set(ALLOW, B)), "normal", JOINED),
        ((from_set(ALLOW, A), not_from_set(ALLOW, B)), "normal", JOINED),
        ((from_set(Action.PASS, A), to_set(ALLOW, B)), "normal", JOINED),
        ((from_set(ALLOW, A), to_set(ALLOW, B)), "normal", {A: {"10.0.0.1", "10.0.0.5"}, B: set()}),
        ((from_set(ALLOW, A), to_set(ALLOW, B)), "normal", {A: {"10.0.0.2"}, B: {"10.0.0.2"}}),
        ((from_set(ALLOW, A), to_set(ALLOW, B)), "untracked", JOINED),
    ],
    ids=["deny and allow", "a negation", "pass", "one grows, one shrinks", "members change places", "untracked"],
)
def test_sets_that_may_do_both_change_at_one_moment(rules: tuple[Rule, ...], lists: str, new: dict[str, set[str]]) -> None:
    steps = change(world(rules, BOTH, (), lists), world(rules, new, (), lists))
    assert any(isinstance(step, TableEdit | CreateSet) for step in steps)


def test_a_pod_that_comes_costs_one_commit_after_its_sets() -> None:
    rules = (from_set(ALLOW, A), to_set(ALLOW, B))
    steps = change(world(rules, BOTH), world(rules, JOINED, ("cali1", "cali2")))
    assert [type(step) for step in steps] == [UpdateSet, UpdateSet, TableEdit]


def test_a_pod_that_goes_costs_one_commit_before_its_sets() -> None:
    rules = (from_set(ALLOW, A), to_set(ALLOW, B))
    steps = change(world(rules, JOINED, ("cali1", "cali2")), world(rules, BOTH))
    assert [type(step) for step in steps] == [TableEdit, UpdateSet, UpdateSet]


def test_a_pod_whose_policies_change_with_its_sets_changes_at_one_moment() -> None:
    rules = (from_set(ALLOW, A), to_set(ALLOW, B))
    old, new = world(rules, BOTH), world(rules, JOINED)
    other = {"cali1": replace(new.workloads["cali1"], profiles=("none",), tiers=())}
    profile = {"none": replace(worlds.world(random.Random(1)).profiles["open"], name="none")}
    steps = change(old, replace(new, workloads=other, profiles=profile))
    assert len(steps) > 3


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_pods_that_come_and_go_meet_no_mix(seed: int) -> None:
    rng = random.Random(seed)
    actions = (ALLOW,) if rng.random() < 0.7 else (ALLOW, DENY)
    makers = (from_set, to_set, not_from_set) if rng.random() < 0.3 else (from_set, to_set)
    rules = tuple(rng.choice(makers)(rng.choice(actions), rng.choice((A, B))) for _ in range(rng.randrange(1, 5)))

    def some() -> Resolved:
        members = {name: set(rng.sample(worlds.ADDRESSES, rng.randrange(4))) for name in (A, B)}
        return world(rules, members, tuple(rng.sample(worlds.WORKLOADS, rng.choice((0, 1, 2, 9)))))

    change(some(), some(), seed)
