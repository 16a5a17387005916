"""Policies in groups: stable when one comes or goes, small policies inlined, others entered by what they can match."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hostward.model.keys import ResourceKey
from hostward.model.rules import Action, Entity, PortRange, Ports, Rule
from hostward.render.bodies import Body, body_of
from hostward.render.groups import ABOUT, INLINED, MOST, group_chain, groups_of
from hostward.render.marks import Marks, any_set, is_set
from hostward.render.merging import NETS_IN_A_ROW, merged_rules
from hostward.render.options import Options
from hostward.render.policy import Owner, net_sets, rules_chain
from hostward.render.ruleset import DROP, RETURN, Jump, Protocol
from hostward.render.ruleset import Rule as KernelRule

MARKS = Marks.from_mask(0xFF000000)
OWNER = Owner("ingress", "gnp/p", "default", "gnp", "p")
TCP, UDP = Protocol(6), Protocol(17)
ALLOW, PASS = Jump("hw-allow", goto=True), Jump("hw-pass", goto=True)
ACCEPTED = is_set(MARKS.accept)


def keys(count: int) -> tuple[ResourceKey, ...]:
    return tuple(ResourceKey("GlobalNetworkPolicy", "", f"policy-{n}") for n in range(count))


def test_lists_are_cut_into_groups_of_about_a_dozen() -> None:
    groups = groups_of(keys(2000), "ingress")
    sizes = [len(group.members) for group in groups]
    assert sum(sizes) == 2000
    assert max(sizes) <= MOST
    assert 0.6 * ABOUT <= 2000 / len(groups) <= 1.5 * ABOUT
    assert all(group.chain == group.members[0] for group in groups if len(group.members) == 1)


@given(st.integers(0, 2**32))
def test_one_policy_more_or_less_changes_few_groups(seed: int) -> None:
    """One, but where a long row has no place to be cut: then those up to the next such place, too."""
    rng = random.Random(seed)
    some = list(keys(400))
    rng.shuffle(some)
    one = rng.randrange(400)
    before = groups_of(tuple(some), "egress")
    after = groups_of(tuple(some[:one] + some[one + 1 :]), "egress")
    assert len({group.chain for group in before} ^ {group.chain for group in after}) <= 14


def body(*rules: KernelRule) -> Body:
    return body_of(rules, {})


def test_what_stands_in_a_group() -> None:
    small = body(KernelRule((TCP,), ALLOW, "gnp/a"), KernelRule((UDP,), DROP))
    big = body(*(KernelRule((TCP, is_set(n)), ALLOW) for n in range(3)))
    both = body(*(KernelRule((UDP, is_set(n)), target) for n, target in enumerate((ALLOW, PASS, DROP))))
    denies = body(*(KernelRule((is_set(n),), DROP) for n in range(3)))
    chain = group_chain([("a", small), ("b", big), ("none", body()), ("c", both), ("d", denies), ("e", big)], MARKS)
    assert chain == (
        *small.rules,
        KernelRule((TCP,), Jump("b")),
        KernelRule((TCP, ACCEPTED), RETURN),
        KernelRule((UDP,), Jump("c")),
        KernelRule((UDP, any_set(MARKS.accept | MARKS.passed)), RETURN),
        KernelRule((), Jump("d")),
        KernelRule((TCP,), Jump("e")),
    )
    assert len(small.rules) == INLINED


def test_a_protocol_that_all_need_is_asked_for_once() -> None:
    big = body(*(KernelRule((TCP, is_set(n)), ALLOW) for n in range(3)))
    small = body(KernelRule((TCP,), DROP))
    assert group_chain([("a", big), ("b", small), ("c", big)], MARKS) == (
        KernelRule((), Jump("a")),
        KernelRule((ACCEPTED,), RETURN),
        *small.rules,
        KernelRule((), Jump("c")),
    )


# --- neighbouring rules of one policy --------------------------------------------------------------------------------------
def to_ports(*ports: int, action: Action = Action.ALLOW, net: str = "") -> Rule:
    nets = (net,) if net else ()
    found = Ports(tuple(PortRange(port, port) for port in ports))
    return Rule(action, protocol=6, source=Entity(nets=nets), destination=Entity(ports=found))


def test_ports_of_neighbours_are_matched_at_once() -> None:
    assert merged_rules([to_ports(80), to_ports(443, 8080), to_ports(80)]) == (to_ports(80, 443, 8080),)


@pytest.mark.parametrize(
    "rules",
    [
        (to_ports(80), to_ports(443, action=Action.DENY)),
        (to_ports(80, action=Action.LOG), to_ports(443, action=Action.LOG)),
        (to_ports(80, action=Action.PASS), to_ports(443, action=Action.PASS)),
        (to_ports(80), to_ports(443, net="10.0.0.0/8")),
        (to_ports(80), to_ports()),
        (to_ports(80), replace(to_ports(443), annotations=(("a", "b"),))),
        (replace(to_ports(80), annotations=(("a", "b"),)), to_ports(443)),
        (to_ports(*range(1, 30, 2)), to_ports(40)),
        (to_ports(80), replace(to_ports(80), destination=Entity(ports=Ports(names=("web",))))),
        (to_ports(80), to_ports(81, action=Action.DENY), to_ports(82)),
        tuple(to_ports(80, net=f"10.0.{n}.0/24") for n in range(NETS_IN_A_ROW)),
    ],
)
def test_what_would_not_be_the_same_stays_apart(rules: tuple[Rule, ...]) -> None:
    assert merged_rules(rules) == rules


def test_a_long_row_of_networks_is_a_set() -> None:
    nets = tuple(f"10.0.{n}.0/24" for n in range(NETS_IN_A_ROW + 1))
    rules = [to_ports(80, net=net) for net in nets]
    merged = replace(to_ports(80), source=Entity(nets=nets))
    assert merged_rules([to_ports(1), *rules, to_ports(2)]) == (to_ports(1), merged, to_ports(2))
    options = Options(MARKS)
    (only,) = rules_chain(rules, "filter", 4, OWNER, options)
    assert set(only.uses_sets()) == net_sets(rules, 4).keys()
    assert not rules_chain(rules, "filter", 6, OWNER, options)


def test_rules_of_both_families_in_a_row_match_each_its_own() -> None:
    """R-30: a rule whose networks are all of the other family matches nothing, joined or not."""
    rules = [to_ports(80, net=net) for net in (*(f"10.0.{n}.0/24" for n in range(9)), "fd00::/64")]
    options = Options(MARKS)
    (six,) = rules_chain(rules, "filter", 6, OWNER, options)
    assert not six.uses_sets()
    assert len(rules_chain(rules, "filter", 4, OWNER, options)) == 1
