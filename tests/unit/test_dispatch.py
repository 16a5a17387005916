"""Dispatch as a tree: every interface finds its chain, every other name the end, and the way there is short."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from hostward.render.dispatch import MOST_IN_A_ROW, tree
from hostward.render.ruleset import DROP, MAX_CHAIN_NAME, Chain, Interface, Jump, Rule

END = (Rule((), DROP),)
names = st.text("ab01-", min_size=0, max_size=4).map("cali".__add__)


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
    chains = tree("root", "in", {name: f"to {name}" for name in interfaces}, END)
    for name in interfaces:
        assert walk(chains, name)[0] == f"to {name}"
    if other not in interfaces:
        assert walk(chains, other)[0] == str(DROP)
    assert len(interfaces) > MOST_IN_A_ROW or list(chains) == ["root"]


def test_the_way_is_short_for_many_workloads() -> None:
    interfaces = ["cali" + hashlib.sha1(str(n).encode(), usedforsecurity=False).hexdigest()[:11] for n in range(1000)]
    chains = tree("root", "out", {name: f"to {name}" for name in interfaces}, END)
    most = max(walk(chains, name)[1] for name in interfaces)
    assert most <= 16 * 3 + MOST_IN_A_ROW
    assert all(len(name) <= MAX_CHAIN_NAME for name in tree("hw-from-wl", "in", dict.fromkeys(interfaces, "x"), END))


def test_one_more_workload_changes_few_chains() -> None:
    interfaces = ["cali" + hashlib.sha1(str(n).encode(), usedforsecurity=False).hexdigest()[:11] for n in range(501)]
    before = tree("root", "in", {name: f"to {name}" for name in interfaces[1:]}, END)
    after = tree("root", "in", {name: f"to {name}" for name in interfaces}, END)
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    assert sum(len(after.get(name, ())) for name in changed) <= 2 * 16 + MOST_IN_A_ROW
