"""Dispatch as a tree: every interface finds its chain, every other name the end, and the way there is short."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostward.dataplane.fake import FakeKernel
from hostward.model.resolved import Resolved, ResolvedEndpoint
from hostward.render import names as kernel_names
from hostward.render.dispatch import MOST_IN_A_ROW, Dispatch
from hostward.render.ruleset import DROP, MAX_CHAIN_NAME, Chain, Interface, Jump, Rule
from tests.unit.kernels import assert_holds, carry_out
from tests.unit.worlds import ruleset

END = (Rule((), DROP),)
names = st.text("ab01-", min_size=0, max_size=4).map("cali".__add__)


def tree(dispatch: Dispatch) -> dict[str, Chain]:
    """All chains that packets can get to."""
    chains: dict[str, Chain] = {}
    todo = [dispatch.root]
    while todo:
        name = todo.pop()
        chains[name] = dispatch.chain(name)
        todo += [rule.target.chain for rule in chains[name] if isinstance(rule.target, Jump) and rule.target.chain in dispatch]
    return chains


def of(root: str, interfaces: Iterable[str]) -> Dispatch:
    dispatch = Dispatch(root, "in", END)
    dispatch.update({name: Jump(f"to {name}", goto=True) for name in interfaces})
    return dispatch


def walk(chains: Mapping[str, Chain], interface: str) -> tuple[str, int]:
    """Where a packet of an interface ends, and how many rules it was compared with."""
    here, compared = "root", 0
    while here in chains:
        for rule in chains[here]:
            compared += 1
            if all(
                interface.startswith(match.name) if match.prefix else interface == match.name
                for match in rule.matches
                if isinstance(match, Interface)
            ):
                break
        else:
            raise AssertionError(f"{here} has no end")
        if not isinstance(rule.target, Jump):
            return str(rule.target), compared
        here = rule.target.chain
    return here, compared


@given(st.sets(names, max_size=60), names)
def test_each_interface_finds_its_chain_and_no_other_does(interfaces: set[str], other: str) -> None:
    chains = tree(of("root", interfaces))
    for name in interfaces:
        assert walk(chains, name)[0] == f"to {name}"
    if other not in interfaces:
        assert walk(chains, other)[0] == str(DROP)
    assert len(interfaces) > MOST_IN_A_ROW or list(chains) == ["root"]


def test_the_way_is_short_for_many_workloads() -> None:
    interfaces = ["cali" + hashlib.sha1(str(n).encode(), usedforsecurity=False).hexdigest()[:11] for n in range(1000)]
    chains = tree(of("root", interfaces))
    most = max(walk(chains, name)[1] for name in interfaces)
    assert most <= 16 * 3 + MOST_IN_A_ROW
    assert all(len(name) <= MAX_CHAIN_NAME for name in tree(of("hw-from-wl", interfaces)))


@pytest.mark.parametrize("root", [kernel_names.FROM_WORKLOAD_FORWARD, kernel_names.TO_ENDPOINT, kernel_names.TO_WORKLOAD])
def test_interfaces_of_two_branches_find_their_own_chains(root: str) -> None:
    """The names of branches are cut to what fits: of VLANs that begin alike they must not come out the same."""
    interfaces = [f"ens5.{vlan}" for vlan in range(1, 4095)]
    chains = tree(of(root, interfaces))
    chains["root"] = chains.pop(root)
    for name in interfaces:
        assert walk(chains, name)[0] == f"to {name}"


def test_a_branch_is_not_taken_for_a_chain_of_another_name() -> None:
    """`out…` is a branch of the tree for open connections beside which there was a chain called that."""
    interfaces = [*(f"out{n}" for n in range(9)), "oub0"]
    desired = ruleset(Resolved({name: ResolvedEndpoint(name, name) for name in interfaces}))
    kernel = FakeKernel()
    carry_out(kernel, desired)  # refused, where chains lead to themselves
    assert_holds(kernel, desired)
    fixed = {value for value in vars(kernel_names).values() if isinstance(value, str) and value.startswith("hw-")}
    assert not [(one, other) for one in fixed for other in fixed if other.startswith(f"{one}-")]


def test_one_more_workload_changes_few_chains() -> None:
    interfaces = ["cali" + hashlib.sha1(str(n).encode(), usedforsecurity=False).hexdigest()[:11] for n in range(501)]
    before = tree(of("root", interfaces[1:]))
    after = tree(of("root", interfaces))
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    assert sum(len(after.get(name, ())) for name in changed) <= 2 * 16 + MOST_IN_A_ROW


@given(st.lists(st.sets(names, max_size=30), min_size=1, max_size=4))
def test_interfaces_that_come_and_go_leave_the_tree_of_those_that_are_there(states: list[set[str]]) -> None:
    dispatch = Dispatch("root", "in", END)
    known: dict[str, Chain] = {}
    before: set[str] = set()
    for interfaces in states:
        coming: dict[str, Jump | None] = {name: Jump(f"to {name}", goto=True) for name in interfaces}
        dirty = dispatch.update(coming | dict.fromkeys(before - interfaces))
        after = tree(dispatch)
        assert after == tree(of("root", interfaces))
        assert all(known[name] is chain for name, chain in after.items() if name in known and name not in dirty)
        known, before = after, interfaces


def test_what_is_gone_is_forgotten() -> None:
    dispatch = Dispatch("root", "in", END)
    for number in range(50):
        come = {f"cali{number}-{n}": Jump("x", goto=True) for n in range(20)}
        dispatch.update(come)
        tree(dispatch)
        dispatch.update(dict.fromkeys(come))
    assert list(tree(dispatch)) == ["root"]
    assert dispatch.size == 1
