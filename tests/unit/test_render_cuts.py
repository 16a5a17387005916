"""H-49: where lists are cut into groups changes nothing that becomes of a packet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostward.calc.calculate import calculate
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resolved import Inputs, Resolved, Scope
from hostward.model.resources import Resource
from hostward.render import groups
from hostward.render.evaluate import FilterState, Outcome, Packet, evaluate, of_ruleset
from hostward.render.renderer import Renderer
from tests import strategies as ours
from tests.unit.test_renderer import OPTIONS

worlds = st.builds(
    lambda found: {ours.key_of(r): r for r in (*ours.BASE, *found)},
    st.lists(st.one_of(ours.policies(), ours.network_policies()), min_size=4, max_size=10),
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
