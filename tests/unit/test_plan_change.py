"""A plan at the cost of the change: the same steps as the plan that looks at everything, found by looking at little."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hostward.dataplane import view
from hostward.dataplane.fake import FakeKernel, KilledError
from hostward.dataplane.kernel import KernelError, Step, TableEdit
from hostward.dataplane.plan import ActualState, plan, plan_change, vocabulary
from hostward.dataplane.usage import Usage
from hostward.engine import applier as applying
from hostward.engine.applier import Applier
from hostward.model.resolved import PolicyLists, Resolved, ResolvedEndpoint, TierPolicies
from hostward.model.resources import Policy
from hostward.model.rules import Action, Entity, PortRange, Ports, Rule
from hostward.render.marks import Marks
from hostward.render.ruleset import DROP, TABLES, Chain, Family, Focus, IPSet, Ruleset, Table, TableId, set_family
from hostward.render.ruleset import Rule as KernelRule
from tests.unit import worlds
from tests.unit.kernels import add_foreign, assert_holds, install, watch
from tests.unit.test_plan import PACKETS, tamper

SEEDS = st.integers(0, 2**48)
NO_CHAINS: dict[str, Chain] = {}


def focus_between(old: Ruleset, new: Ruleset, more: random.Random | None = None) -> Focus:
    """What differs, and perhaps some more."""
    chains = {}
    for where in old.tables.keys() | new.tables.keys():
        tables = [state.tables[where].chains if where in state.tables else NO_CHAINS for state in (old, new)]
        names = {name for name in tables[0].keys() | tables[1].keys() if tables[0].get(name) != tables[1].get(name)}
        if more is not None:
            names.update(more.sample(sorted(tables[1]), min(2, len(tables[1]))))
        chains[where] = frozenset(names)
    sets = frozenset(name for name in old.sets.keys() | new.sets.keys() if old.sets.get(name) != new.sets.get(name))
    return Focus(chains, sets)


def state_of(kernel: FakeKernel, desired: Ruleset) -> ActualState:
    for where, rules in vocabulary(desired, worlds.MARKS).items():
        kernel.learn(where, rules)
    return ActualState({TableId(4, name): kernel.read_table(TableId(4, name)) for name in TABLES}, kernel.read_sets())


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_the_steps_are_those_of_the_whole_plan(seed: int) -> None:
    rng = random.Random(seed)
    kernel = FakeKernel()
    add_foreign(kernel)
    world = worlds.world(rng)
    old = worlds.ruleset(world)
    change = worlds.neighbour if rng.random() < 0.6 else worlds.other_members
    new = worlds.ruleset(change(rng, world))
    install(kernel, old)
    state_of(kernel, old)
    actual = state_of(kernel, new)
    usages = {where: Usage(table.chains) for where, table in actual.tables.items()}
    found = plan_change(actual, usages, new, focus_between(old, new, rng), marks=worlds.MARKS, family=4)
    whole = list(plan(actual, new, worlds.MARKS, (4,)))
    assert len(found) == len(whole)
    for step in found:
        whole.remove(step)  # in any order of what may have any


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_one_change_after_another_leaks_nothing(seed: int) -> None:
    rng = random.Random(seed)
    kernel, packets = FakeKernel(), [worlds.packet(rng) for _ in range(PACKETS)]
    add_foreign(kernel)
    applier, world, known = Applier(kernel), worlds.world(rng), Ruleset()
    applier.bring(worlds.ruleset(world), worlds.MARKS)
    known = worlds.ruleset(world)
    for _ in range(5):
        world = worlds.neighbour(rng, world) if rng.random() < 0.6 else worlds.other_members(rng, world)
        desired = worlds.ruleset(world)
        watch(kernel, packets, desired)
        outcome = applier.bring(desired, worlds.MARKS, focus_between(known, desired, rng))
        assert not outcome.repaired
        assert_holds(kernel, desired)
        assert not any(applier.looks())
        known = desired


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_what_somebody_did_between_two_changes_is_put_right(seed: int) -> None:
    rng = random.Random(seed)
    kernel = FakeKernel()
    applier, world = Applier(kernel), worlds.world(rng)
    known = worlds.ruleset(world)
    applier.bring(known, worlds.MARKS)
    for _ in range(4):
        if rng.random() < 0.5:
            tamper(rng, kernel)
            if rng.random() < 0.5:
                any(applier.looks())
        world = worlds.neighbour(rng, world)
        desired = worlds.ruleset(world)
        try:
            applier.bring(desired, worlds.MARKS, focus_between(known, desired))
        except KernelError:  # what it relied on was gone: then everything is read
            applier.bring(desired, worlds.MARKS, focus_between(known, desired))
        known = desired
        if any(applier.looks()):
            applier.repair()
        assert_holds(kernel, known)
        assert not any(applier.looks())


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_killed_change_is_taken_up_by_the_next_process(seed: int) -> None:
    rng = random.Random(seed)
    kernel, packets = FakeKernel(), [worlds.packet(rng) for _ in range(PACKETS)]
    world = worlds.world(rng)
    known = worlds.ruleset(world)
    applier = Applier(kernel)
    applier.bring(known, worlds.MARKS)
    for _ in range(3):
        world = worlds.neighbour(rng, world)
        desired = worlds.ruleset(world)
        watch(kernel, packets, desired)
        kernel.kill_after = kernel.changes + rng.randrange(16)
        try:
            applier.bring(desired, worlds.MARKS, focus_between(known, desired))
        except KilledError:
            kernel.forget()
            kernel.kill_after = None
            applier = Applier(kernel)
            applier.bring(desired, worlds.MARKS)
        kernel.kill_after = None
        assert_holds(kernel, desired)
        known = desired


def test_other_marks_are_a_whole_change() -> None:
    world = worlds.world(random.Random(3))
    kernel = FakeKernel()
    applier = Applier(kernel)
    applier.bring(worlds.ruleset(world), worlds.MARKS)
    other = replace(worlds.MARKS, accept=worlds.MARKS.passed, passed=worlds.MARKS.accept)
    desired = worlds.ruleset(world, replace(worlds.OPTIONS, marks=other))
    applier.bring(desired, other, Focus())
    assert_holds(kernel, desired)


def test_a_view_is_as_large_as_what_a_change_can_affect() -> None:
    """However many endpoints there are beside those that a policy judges."""
    sizes = []
    for endpoints in (20, 60):
        desired = worlds.ruleset(many(endpoints, port=80))
        kernel = FakeKernel()
        install(kernel, desired)
        other = worlds.ruleset(many(endpoints, port=81))
        actual = state_of(kernel, other)
        usages = {where: Usage(table.chains) for where, table in actual.tables.items()}
        seen = view.of_affected(actual, usages, other, focus_between(desired, other), 4)
        chains = [chain for table in seen.actual.tables.values() for chain in table.chains.values() if chain]
        sizes.append(
            sum(not (isinstance(rule := chain[0], KernelRule) and rule.comment.startswith("beyond:")) for chain in chains)
        )
    assert sizes[0] == sizes[1]


def many(endpoints: int, port: int) -> Resolved:
    """Each with a policy of its own; the port is one policy's."""
    resolved, policies = {}, {}
    for number in range(endpoints):
        key = worlds.key(f"p{number}")
        ports = Ports((PortRange(port, port),)) if number == 1 else Ports((PortRange(443, 443),))
        rules = tuple(Rule(Action.ALLOW, protocol=6, destination=Entity(ports=ports)) for _ in range(4))
        policies[key] = Policy(key, f"p{number}", "default", None, "all()", True, True, rules, rules)
        lists = PolicyLists(normal=(TierPolicies("default", Action.DENY, (key,), (key,)),))
        resolved[f"eth{number}"] = ResolvedEndpoint(f"eth{number}", f"e{number}", lists)
    return Resolved(resolved, policies)


def test_a_family_that_no_change_touches_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[Family] = []

    def noted(*arguments: Any, marks: Marks, family: Family) -> tuple[Step, ...]:
        planned.append(family)
        return plan_change(*arguments, marks=marks, family=family)

    monkeypatch.setattr(applying, "plan_change", noted)
    kernel = FakeKernel()
    before = {name: IPSet("hash:net", set_family(name), frozenset()) for name in ("hw4-s-a", "hw6-s-a")}
    filter4 = Table({"hw-a": (KernelRule((), DROP),)}, {})
    applier = Applier(kernel)
    applier.bring(Ruleset({TableId(4, "filter"): filter4}, before), worlds.MARKS)
    for focus, families in (
        (Focus({}, frozenset({"hw4-s-a"})), [4]),
        (Focus({}, frozenset({"hw6-s-a"})), [6]),
        (Focus({TableId(4, "filter"): frozenset({"hw-a"}), TableId(6, "filter"): frozenset()}), [4]),
        (Focus({TableId(6, "filter"): frozenset({"hw-a"})}, frozenset({"hw4-s-a"})), [4, 6]),
        (Focus(), []),
    ):
        planned.clear()
        applier.bring(Ruleset({TableId(4, "filter"): filter4}, before), worlds.MARKS, focus)
        assert planned == families
    after = before | {"hw6-s-a": IPSet("hash:net", 6, frozenset({"fd00::/8"}))}
    applier.bring(Ruleset({TableId(4, "filter"): filter4}, after), worlds.MARKS, Focus({}, frozenset({"hw6-s-a"})))
    assert kernel.sets == after


class Noting(FakeKernel):
    """Notes what it does, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    def apply(self, step: Step) -> None:
        self.done.append(str(step.table) if isinstance(step, TableEdit) else type(step).__name__)
        super().apply(step)

    def let_pass(self) -> None:
        self.done.append("wait")


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_after_raw_has_chosen_nothing_changes_until_the_packets_before_have_passed(seed: int) -> None:
    """What came to raw before goes on by the old rules and sets, which are left as they are until it is through.

    Where there were none nothing is waited for.
    """
    rng, kernel = random.Random(seed), Noting()
    applier, world = Applier(kernel), worlds.world(rng)
    for _ in range(4):
        kernel.done.clear()
        guarded = {f"raw/v{f}" for f in (4, 6) if any(kernel.read_table(TableId(f, name)).chains for name in TABLES)}
        applier.bring(worlds.ruleset(world), worlds.MARKS)
        for at, what in enumerate(kernel.done):
            matters = any(later not in ("wait", "DestroySet") for later in kernel.done[at + 1 :])
            assert (what in guarded and matters) is (kernel.done[at + 1 : at + 2] == ["wait"])
        world = worlds.neighbour(rng, world)
