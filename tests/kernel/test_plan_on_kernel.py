"""Plans on the real kernel: it takes every step that the fake takes, and ends where the fake ends."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from hostward.dataplane.fake import FakeKernel
from hostward.dataplane.kernel import Kernel
from hostward.dataplane.linux import LinuxKernel
from hostward.dataplane.plan import ActualState, plan, rules_of, vocabulary
from hostward.render.ruleset import FAMILIES, TABLES, Ruleset, TableId
from tests.lab.netns import Namespace
from tests.unit import worlds
from tests.unit.worlds import MARKS

pytestmark = pytest.mark.kernel
OPTIONS = replace(worlds.OPTIONS, families=(4, 6))
TABLE_IDS = [TableId(family, name) for family in FAMILIES for name in TABLES]


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[LinuxKernel]:
    with closing(Namespace("plan")) as namespace, namespace.entered(), closing(LinuxKernel(tmp_path / "lock", 5)) as kernel:
        yield kernel


def read(kernel: Kernel, desired: Ruleset) -> ActualState:
    for where, rules in vocabulary(desired, MARKS).items():
        kernel.learn(where, rules)
    return ActualState({where: kernel.read_table(where) for where in TABLE_IDS}, kernel.read_sets())


def own(kernel: Kernel, desired: Ruleset) -> dict[TableId, object]:
    return {
        where: (table.chains, {n: c for n, c in table.builtins.items() if c})
        for where, table in read(kernel, desired).tables.items()
    }


@pytest.mark.parametrize("seed", range(4))
def test_the_kernel_takes_what_the_fake_takes(kernel: LinuxKernel, seed: int) -> None:
    rng = random.Random(seed)
    fake = FakeKernel()
    world = worlds.world(rng)
    goals = [worlds.ruleset(world, OPTIONS)]
    for _ in range(3):
        world = worlds.neighbour(rng, world)
        goals.append(worlds.ruleset(world, OPTIONS))
    for desired in (*goals, Ruleset()):
        steps = plan(read(kernel, desired), desired, MARKS)
        assert steps == plan(read(fake, desired), desired, MARKS)
        for where, rules in rules_of(steps).items():
            kernel.learn(where, rules)
            fake.learn(where, rules)
        stop = rng.randrange(len(steps) + 1) if desired.tables else len(steps)  # killed there; the next goal goes on
        for step in steps[:stop]:
            fake.apply(step)
            kernel.apply(step)
        assert own(kernel, desired) == own(fake, desired)
        assert kernel.read_sets() == fake.read_sets()
    assert plan(read(kernel, Ruleset()), Ruleset(), MARKS) == ()
    assert kernel.read_sets() == {}
