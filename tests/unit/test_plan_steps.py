"""Which steps a change takes: no more than it needs."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from hostward.dataplane.fake import FakeKernel, Foreign
from hostward.dataplane.kernel import CreateSet, DestroySet, Step, TableEdit, UpdateSet
from hostward.dataplane.plan import ActualState, plan, rules_of
from hostward.model.resolved import Resolved
from hostward.render.marks import clear
from hostward.render.ruleset import (
    ACCEPT,
    DROP,
    Chain,
    Hook,
    InSet,
    IPSet,
    Jump,
    Net,
    Rule,
    Ruleset,
    Side,
    Table,
    TableId,
    TableName,
)
from tests.unit.kernels import assert_holds, carry_out, install, steps_to
from tests.unit.worlds import MARKS, ruleset

FILTER, MANGLE, RAW = TableId(4, "filter"), TableId(4, "mangle"), TableId(4, "raw")
EMPTY = ruleset(Resolved())
GIVEN = Rule((), clear(MARKS.all))


def nets(*members: str, size: int = 16) -> IPSet:
    return IPSet("hash:net", 4, frozenset(members), size)


def using(name: str, side: Side = "src") -> Rule:
    return Rule((InSet(name, (side,)),), DROP)


def desired(chains: Mapping[tuple[TableName, str], Chain], sets: Mapping[str, IPSet] | None = None) -> Ruleset:
    """The state without endpoints, with other rules at the end of these root chains, which all packets get to."""
    tables = dict(EMPTY.tables)
    for (name, root), rules in chains.items():
        table, hook = tables[TableId(4, name)], root.removeprefix("hw-")
        old = table.hooks.get(hook, Hook())
        entry = Rule((), Jump(root))
        before = table.chains.get(root, ()) if old.first in ((), (entry,)) else (GIVEN, *old.first)
        hooks = {**table.hooks, hook: Hook((entry,), old.last)}
        tables[TableId(4, name)] = Table({**table.chains, root: (*before, *rules)}, hooks)
    return Ruleset(tables, sets or {})


def change(old: Ruleset, new: Ruleset) -> list[Step]:
    kernel = FakeKernel()
    install(kernel, old)
    steps = carry_out(kernel, new)
    assert_holds(kernel, new)
    return list(steps)


def shape(steps: list[Step]) -> list[str]:
    return [step.table.name if isinstance(step, TableEdit) else f"{type(step).__name__} {step.name}" for step in steps]


A, B = Rule((Net("src", "10.0.0.1/32"),), DROP), Rule((Net("src", "10.0.0.2/32"),), DROP)
INPUT, FORWARD, OUTPUT = ("filter", "hw-INPUT"), ("filter", "hw-FORWARD"), ("filter", "hw-OUTPUT")
ENTRY, LEAVE, RAW_IN = ("mangle", "hw-PREROUTING"), ("mangle", "hw-POSTROUTING"), ("raw", "hw-PREROUTING")


def test_an_unchanged_state_writes_nothing() -> None:
    state = desired({INPUT: (A, using("hw4-s"))}, {"hw4-s": nets("10.0.0.1")})
    assert change(state, state) == []


@pytest.mark.parametrize("part", [INPUT, ENTRY, LEAVE, RAW_IN])
def test_a_change_of_one_table_is_one_commit(part: tuple[TableName, str]) -> None:
    new = desired({part: (B,)})
    assert change(desired({part: (A,)}), new) == [
        TableEdit(TableId(4, part[0]), {part[1]: new.tables[TableId(4, part[0])].chains[part[1]]}, {})
    ]


def test_chains_come_and_go_in_the_commit_that_needs_them() -> None:
    old, new = desired({INPUT: (Rule((), Jump("hw-a")),)}), desired({INPUT: (Rule((), Jump("hw-b")),)})
    old.tables[FILTER].chains["hw-a"] = (A,)  # type: ignore[index] # a dict, made above
    new.tables[FILTER].chains["hw-b"] = (A,)  # type: ignore[index] # a dict, made above
    (edit,) = change(old, new)
    assert isinstance(edit, TableEdit)
    assert edit.chains["hw-a"] is None


def test_parts_that_no_packet_meets_both_are_one_commit_a_table() -> None:
    old = desired({INPUT: (A,), OUTPUT: (Rule((), Jump("hw-x")),), LEAVE: (Rule((), Jump("hw-x")),)})
    new = desired({INPUT: (B,), OUTPUT: (Rule((), Jump("hw-x")),), LEAVE: (Rule((), Jump("hw-x")),)})
    for state, rules in ((old, (A,)), (new, (B,))):
        state.tables[FILTER].chains["hw-x"] = rules  # type: ignore[index] # a dict, made above
        state.tables[MANGLE].chains["hw-x"] = rules  # type: ignore[index] # a dict, made above
    assert shape(change(old, new)) == ["mangle", "filter"]


def test_what_leaves_is_not_relied_on_to_be_apart_when_its_entrance_changes() -> None:
    assert len(shape(change(desired({OUTPUT: (A,), LEAVE: (A,)}), desired({OUTPUT: (B,), LEAVE: (B,)})))) == 7


@pytest.mark.parametrize("parts", [(INPUT, ENTRY), (INPUT, RAW_IN), (FORWARD, ENTRY), (ENTRY, RAW_IN), (INPUT, ENTRY, RAW_IN)])
def test_parts_that_a_packet_meets_both_change_at_the_commit_of_raw(parts: tuple[tuple[TableName, str], ...]) -> None:
    steps = shape(change(desired(dict.fromkeys(parts, (A,))), desired(dict.fromkeys(parts, (B,)))))
    beside = [name for name in ("mangle", "filter") if any(part[0] == name for part in parts)]
    assert steps == ["raw", *beside, "raw", *beside, "raw"]


def test_the_first_start_and_the_cleanup_need_no_second_names() -> None:
    state = desired({INPUT: (A,)})
    steps = change(Ruleset(), state)
    assert shape(steps) == ["raw", "filter", "raw", "filter", "raw"]
    assert all("~" not in name for step in steps if isinstance(step, TableEdit) for name in step.chains)
    assert shape(change(state, Ruleset())) == ["raw", "filter", "raw", "filter", "raw"]


def test_a_new_set_comes_before_and_an_old_one_goes_after() -> None:
    old, new = desired({INPUT: (using("hw4-a"),)}, {"hw4-a": nets()}), desired({INPUT: (using("hw4-b"),)}, {"hw4-b": nets()})
    assert shape(change(old, new)) == ["CreateSet hw4-b", "filter", "DestroySet hw4-a"]


def test_members_of_one_set_change_in_place() -> None:
    rules = {INPUT: (using("hw4-s"),), ENTRY: (using("hw4-s"),)}
    old, new = desired(rules, {"hw4-s": nets("10.0.0.0/8")}), desired(rules, {"hw4-s": nets("10.0.0.0/9", "10.128.0.0/9")})
    assert change(old, new) == [UpdateSet("hw4-s", 4, frozenset({"10.0.0.0/9", "10.128.0.0/9"}), frozenset({"10.0.0.0/8"}))]


BESIDE = ["CreateSet hw4~s", "filter", "UpdateSet hw4-s", "filter", "DestroySet hw4~s"]
ALLOWING = replace(using("hw4-s"), target=Jump("hw-allow", goto=True))
PASSING = replace(using("hw4-s"), target=Jump("hw-pass", goto=True))
UNLESS = Rule((InSet("hw4-s", ("src",), negate=True),), DROP)


@pytest.mark.parametrize(
    ("rules", "grows", "turns"),
    [
        ((using("hw4-s"), using("hw4-s")), ["UpdateSet hw4-s"], ["UpdateSet hw4-s"]),
        ((ALLOWING, UNLESS), ["UpdateSet hw4-s"], ["UpdateSet hw4-s"]),
        ((PASSING,), ["UpdateSet hw4-s"], ["UpdateSet hw4-s"]),
        ((using("hw4-s"), using("hw4-s", "dst")), ["UpdateSet hw4-s"], BESIDE),
        ((using("hw4-s"), ALLOWING), BESIDE, BESIDE),
        ((ALLOWING, PASSING), BESIDE, BESIDE),
    ],
    ids=[
        "two denials",
        "an allowance and a denial of others",
        "one pass",
        "both sides",
        "both ways",
        "an allowance and a pass",
    ],
)
def test_a_set_that_a_packet_may_meet_twice_changes_at_one_moment(rules: Chain, grows: list[str], turns: list[str]) -> None:
    """It grows, or members go and others come. Found too late to be denied, a packet isn't found in time to be allowed."""

    def holding(*members: str) -> Ruleset:
        state = desired({INPUT: rules}, {"hw4-s": nets(*members)})
        state.tables[FILTER].chains.update({"hw-allow": (GIVEN,), "hw-pass": (GIVEN,)})  # type: ignore[attr-defined] # a dict
        return state

    assert shape(change(holding("10.0.0.1"), holding("10.0.0.1", "10.0.0.2"))) == grows
    assert shape(change(holding("10.0.0.1"), holding("10.0.0.2"))) == turns


def test_two_sets_of_one_table_change_at_its_commit() -> None:
    rules = {INPUT: (using("hw4-a"), using("hw4-b"))}
    old = desired(rules, {"hw4-a": nets("10.0.0.1"), "hw4-b": nets("10.0.0.2")})
    new = desired(rules, {"hw4-a": nets("10.0.0.2"), "hw4-b": nets("10.0.0.1")})
    assert shape(change(old, new)) == [
        *("CreateSet hw4~a", "CreateSet hw4~b", "filter", "UpdateSet hw4-a", "UpdateSet hw4-b", "filter"),
        *("DestroySet hw4~a", "DestroySet hw4~b"),
    ]


def test_a_set_and_the_rules_that_use_it_in_two_tables_change_at_the_commit_of_raw() -> None:
    old = desired({INPUT: (using("hw4-s"),), ENTRY: (using("hw4-s"),)}, {"hw4-s": nets("10.0.0.1")})
    new = desired({INPUT: (using("hw4-s"), A), ENTRY: (using("hw4-s"),)}, {"hw4-s": nets("10.0.0.2")})
    assert shape(change(old, new)) == [
        *("CreateSet hw4~s", "raw", "mangle", "filter", "raw", "UpdateSet hw4-s", "mangle", "filter", "raw"),
        "DestroySet hw4~s",
    ]


def test_a_set_that_nothing_uses_yet_is_filled_before_its_rule_comes() -> None:
    kernel = FakeKernel()
    install(kernel, desired({}))
    kernel.sets["hw4-s"] = nets("10.9.9.9")
    new = desired({INPUT: (using("hw4-s"),)}, {"hw4-s": nets("10.0.0.1")})
    assert shape(list(carry_out(kernel, new))) == ["UpdateSet hw4-s", "filter"]
    assert_holds(kernel, new)


@pytest.mark.parametrize(
    ("old", "new", "step"),
    [
        (nets("10.0.0.1", size=2), nets("10.0.0.2", "10.0.0.3", size=2), "ReplaceSet hw4-s"),  # no room for all three
        (nets("10.0.0.1", size=4), nets("10.0.0.2", "10.0.0.3", size=4), "UpdateSet hw4-s"),
        (nets("10.0.0.1", size=2), nets("10.0.0.1", size=4), "ReplaceSet hw4-s"),
    ],
)
def test_room_in_a_set(old: IPSet, new: IPSet, step: str) -> None:
    rules = {INPUT: (using("hw4-s"),)}
    assert shape(change(desired(rules, {"hw4-s": old}), desired(rules, {"hw4-s": new}))) == [step]


def test_a_set_of_another_type_that_somebody_made_is_put_right() -> None:
    kernel = FakeKernel()
    install(kernel, desired({}))
    kernel.sets["hw4-s"] = IPSet("hash:ip,port", 4)
    new = desired({INPUT: (using("hw4-s"),)}, {"hw4-s": nets("10.0.0.1")})
    assert shape(list(carry_out(kernel, new))) == ["DestroySet hw4-s", "CreateSet hw4-s", "filter"]


def test_a_set_whose_members_were_not_read_is_judged_by_its_header() -> None:
    state = desired({INPUT: (using("hw4-s"),)}, {"hw4-s": nets("10.0.0.1")})
    kernel = FakeKernel()
    install(kernel, state)
    steps_to(kernel, state)
    tables = {where: kernel.read_table(where) for where in kernel.chains}
    assert plan(ActualState(tables, kernel.read_sets(members=False)), state, MARKS) == ()
    more = replace(state, sets={"hw4-s": nets("10.0.0.1", "10.0.0.2")})
    assert shape(list(plan(ActualState(tables, kernel.read_sets(members=False)), more, MARKS))) == ["ReplaceSet hw4-s"]


THEIRS = Foreign(b"theirs", Rule((), ACCEPT))
JUMP = Rule((), Jump("hw-FORWARD"))
LAST = EMPTY.tables[FILTER].hooks["FORWARD"].last


@pytest.mark.parametrize(
    "found",
    [
        (THEIRS, JUMP, *LAST),
        (THEIRS, *LAST),
        (JUMP, JUMP, THEIRS, *LAST),
        (JUMP, THEIRS),
        (JUMP, *LAST, THEIRS),
        (JUMP, THEIRS, *LAST, *LAST),
        (JUMP, THEIRS, *LAST, JUMP),
        (JUMP, THEIRS, Rule((), Jump("hw-OUTPUT")), *LAST),
    ],
)
def test_drifted_rules_of_a_kernel_chain_are_put_right_in_one_commit(found: Chain) -> None:
    kernel = FakeKernel()
    install(kernel, EMPTY)
    kernel.builtins[FILTER]["FORWARD"] = found
    steps = carry_out(kernel, EMPTY)
    assert steps == (TableEdit(FILTER, {}, {"FORWARD": Hook((JUMP,), LAST)}),)
    assert kernel.builtins[FILTER]["FORWARD"] == (JUMP, THEIRS, *LAST) or THEIRS not in found


def test_a_killed_change_goes_on_where_it_stood() -> None:
    """Before the flip what was built is used; after it only the renaming is left."""
    parts = (INPUT, ENTRY)
    old, new = desired(dict.fromkeys(parts, (A,))), desired(dict.fromkeys(parts, (B,)))
    kernel = FakeKernel()
    install(kernel, old)
    steps = carry_out(kernel, new)
    for done, left in ((3, ["raw", "mangle", "filter", "raw"]), (4, ["mangle", "filter", "raw"]), (6, ["raw"])):
        kernel = FakeKernel()
        install(kernel, old)
        for where, rules in rules_of(steps).items():
            kernel.learn(where, rules)
        for step in steps[:done]:
            kernel.apply(step)
        assert shape(list(steps_to(kernel, new))) == left


def test_sets_of_the_other_family_are_left_to_it() -> None:
    six = IPSet("hash:net", 6, frozenset({"fd00::/8"}))
    state = desired({INPUT: (A,)}, {"hw6-s": six})
    assert change(desired({INPUT: (B,)}, {}), state)[-1] == CreateSet("hw6-s", six)
    assert change(state, desired({INPUT: (A,)}))[-1] == DestroySet("hw6-s")
