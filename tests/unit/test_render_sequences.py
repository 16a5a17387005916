"""What a renderer answers after any sequence of changes is what a new one answers, also where dispatch branches often."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from hostward.model.resolved import Resolved, between
from hostward.render.renderer import Renderer
from tests.unit import worlds

ALIKE = tuple(f"cali{first}{rest}" for first in "123" for rest in ("", "1", "2", "x1", "x2", "x3", "y"))


def successor(rng: random.Random, old: Resolved) -> Resolved:
    """Some policies, sets and endpoints differ, and workloads whose names begin alike have come and gone."""
    new = worlds.neighbour(rng, old)
    workloads = dict(new.workloads)
    for name in rng.sample(ALIKE, rng.randrange(6)):
        if workloads.pop(name, None) is None:
            workloads[name] = worlds._workload(rng, name)
    policies = {worlds.key(name): new.policies.get(worlds.key(name)) or worlds.policy(rng, name) for name in worlds.POLICIES}
    return worlds._filled(replace(new, workloads=workloads, policies=policies), rng)


@pytest.mark.parametrize("seed", range(80))
def test_a_sequence_of_changes_ends_where_a_new_renderer_begins(seed: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(worlds, "WORKLOADS", ALIKE)
        rng = random.Random(seed)
        old = worlds.world(rng)
        renderer = Renderer(worlds.OPTIONS)
        last = renderer.render(old)
        for _ in range(8):
            new = successor(rng, old)
            now, focus = renderer.advance(new, between(old, new))
            assert now == Renderer(worlds.OPTIONS).render(new)
            for where in last.tables.keys() | now.tables.keys():
                before, after = last.tables[where].chains, now.tables[where].chains
                differing = {name for name in before.keys() | after.keys() if before.get(name) is not after.get(name)}
                assert differing <= focus.chains.get(where, frozenset())
            sets = {name for name in last.sets.keys() | now.sets.keys() if last.sets.get(name) is not now.sets.get(name)}
            assert sets <= focus.sets
            old, last = new, now
