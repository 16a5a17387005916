"""H-49: where lists are cut into groups changes nothing that becomes of a packet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hostward.calc.calculate import calculate
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resolved import Inputs, PolicyLists, Resolved, ResolvedEndpoint, Scope, TierPolicies
from hostward.model.resources import Policy, Resource, Tier
from hostward.model.rules import Action, Rule
from hostward.render import groups
from hostward.render.evaluate import FilterState, Outcome, Packet, evaluate, of_ruleset
from hostward.render.renderer import Renderer
from hostward.render.ruleset import RETURN
from tests import strategies as ours
from tests.unit.test_renderer import OPTIONS

in_one_list = ours.policies().map(lambda found: replace(found, tier="default", selector="all()"))
policies = st.one_of(in_one_list, in_one_list, ours.policies(), ours.network_policies())
worlds = st.builds(
    lambda found, tier: {ours.key_of(r): r for r in (*ours.BASE, *found, tier)},
    st.lists(policies, min_size=4, max_size=12),
    st.builds(Tier, st.just("default"), st.none(), st.sampled_from([Action.PASS, Action.DENY])),
)


@contextmanager
def cut(about: int, inlined: int) -> Iterator[None]:
    """Groups of another size, with bigger policies in them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "ABOUT", about)
        patch.setattr(groups, "INLINED", inlined)
        _forget()
        yield
    _forget()


def _forget() -> None:
    groups._ends_group.cache_clear()
    groups.groups_of.cache_clear()


def state(resolved: Resolved, about: int, inlined: int) -> FilterState:
    with cut(about, inlined):
        return of_ruleset(Renderer(OPTIONS).render(resolved))


def what_became(packet: Packet, where: FilterState) -> tuple[str, tuple[str, ...], bool, bool]:
    outcome: Outcome = evaluate(packet, where)
    return outcome.dropped_in, outcome.logs, outcome.tracked, outcome.rejected


@settings(max_examples=150, deadline=None)
@given(worlds, ours.link_tables, st.lists(ours.packets(), min_size=10, max_size=20))
def test_where_lists_are_cut_changes_nothing(
    world: dict[ResourceKey, Resource], links: dict[str, Link], packets: list[Packet]
) -> None:
    resolved = calculate(Inputs(Scope(ours.NODE), world, links))
    alone, *others = (state(resolved, about, inlined) for about, inlined in ((1, 2), (2, 2), (2, 0), (1000, 2), (1000, 100)))
    for packet in packets:
        expected = what_became(packet, alone)
        assert all(what_became(packet, other) == expected for other in others), packet


def decided(*actions: Action, default: Action = Action.DENY) -> Resolved:
    """An endpoint with one policy for everything for each action, in order."""
    keys = tuple(ResourceKey("GlobalNetworkPolicy", "", f"p{n}") for n in range(len(actions)))
    found = {
        key: Policy(key, key.name, "default", None, "all()", True, False, (Rule(action),))
        for key, action in zip(keys, actions, strict=True)
    }
    last = ResourceKey("GlobalNetworkPolicy", "", "last")
    found[last] = Policy(last, "last", "other", None, "all()", True, False, (Rule(Action.ALLOW),))
    tiers = (TierPolicies("default", default, ingress=keys), TierPolicies("other", Action.DENY, ingress=(last,)))
    return Resolved({"eth0": ResolvedEndpoint("eth0", "e", PolicyLists(normal=tiers))}, found)


PACKET = Packet(4, "input", "192.0.2.9", "10.0.0.1", 6, 4000, 80, "eth0")


@pytest.mark.parametrize("about", [1, 1000])
@pytest.mark.parametrize("inlined", [0, 2])
@pytest.mark.parametrize(
    ("actions", "passes"),
    [
        ((Action.PASS, Action.DENY), True),
        ((Action.LOG, Action.PASS, Action.DENY), True),
        ((Action.ALLOW, Action.DENY), True),
        ((Action.DENY, Action.PASS), False),
        ((Action.LOG,), False),
        ((Action.LOG, Action.PASS), True),
    ],
)
def test_the_first_who_decides_does(actions: tuple[Action, ...], passes: bool, about: int, inlined: int) -> None:
    assert evaluate(PACKET, state(decided(*actions), about, inlined)).accepted is passes


def test_an_end_that_changes_nothing_is_not_there() -> None:
    resolved = decided(Action.PASS)
    lists = resolved.endpoints["eth0"].policies.normal
    early = replace(resolved.endpoints["eth0"], policies=PolicyLists(lists, lists, lists, lists))
    for table in state(replace(resolved, endpoints={"eth0": early}), 12, 2).tables.values():
        assert not [name for name, chain in table.items() if chain and getattr(chain[-1], "target", None) == RETURN]
