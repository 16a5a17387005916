"""The last rules stand in for what isn't known yet, where the kernel has none of ours, and nowhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostward.dataplane.linux import LinuxKernel
from hostward.dataplane.saved_rules import FILE, pieces
from hostward.engine.stand_in import StandIn
from hostward.model.resolved import Resolved, ResolvedEndpoint
from hostward.model.settings import BUILT_IN
from hostward.render.options import options
from hostward.render.renderer import Renderer
from hostward.render.ruleset import DROP, FAMILIES, Family, Hook, InSet, IPSet, Jump, Rule, Ruleset, Table, TableId
from tests.lab import saved
from tests.lab.netns import Namespace

pytestmark = pytest.mark.kernel
TOOLS = {4: "iptables-legacy", 6: "ip6tables-legacy"}


def ruleset(families: tuple[Family, ...] = FAMILIES) -> Ruleset:
    hooks = {chain: Hook((Rule((), Jump("hw-INPUT")),)) for chain in ("INPUT", "FORWARD")}
    tables = {
        TableId(family, "filter"): Table({"hw-INPUT": (Rule((InSet(f"hw{family}-s-x", ("src",)),), DROP),)}, hooks)
        for family in families
    }
    sets = {
        f"hw{family}-s-x": IPSet("hash:net", family, frozenset({"10.0.0.0/8" if family == 4 else "fd00::/8"}))
        for family in families
    }
    return Ruleset(tables, sets)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    made = Namespace("stand-in")
    with made.entered():
        yield made
    made.close()


def keep(directory: Path, rules: Ruleset) -> None:
    (directory / FILE).write_bytes(b"".join(pieces(rules, "revision 7")))


def test_they_are_put_back_whenever_somebody_removes_them(namespace: Namespace, tmp_path: Path) -> None:
    keep(tmp_path, ruleset())
    stand_in = StandIn(LinuxKernel(tmp_path / "lock", 5.0), tmp_path)
    assert not stand_in.is_due(), "the datastore may answer first"
    stand_in.hold()
    whole = saved.everything(namespace)
    assert "-A INPUT -j hw-INPUT" in whole["filter/v4"]
    assert "-A INPUT -j hw-INPUT" in whole["filter/v6"]
    assert len(whole["sets"]) == 4
    for family, remove in ((4, ("-F", "INPUT")), (6, ("-F",))):
        namespace.run(TOOLS[family], *remove)
        stand_in.hold()
        assert saved.everything(namespace) == whole


@pytest.mark.parametrize("removed", [("-F", "INPUT"), ("-F", "FORWARD"), ("-D", "INPUT", "1"), ("-D", "FORWARD", "1")])
def test_one_jump_that_is_removed_is_put_back(namespace: Namespace, tmp_path: Path, removed: tuple[str, ...]) -> None:
    """With FORWARD's jump gone, the rules at its end accept whatever pods send and get."""
    guarded = Resolved({"eth0": ResolvedEndpoint("eth0", "eth0")})
    keep(tmp_path, Renderer(options(BUILT_IN, ())).render(guarded))
    stand_in = StandIn(LinuxKernel(tmp_path / "lock", 5.0), tmp_path)
    stand_in.hold()
    whole = saved.everything(namespace)
    assert whole["filter/v4"].index("-A FORWARD -j hw-FORWARD") + 1 < len(whole["filter/v4"])
    for tool in TOOLS.values():
        namespace.run(tool, *removed)
    assert saved.everything(namespace) != whole
    stand_in.hold()
    assert saved.everything(namespace) == whole


def test_other_rules_of_ours_stay(namespace: Namespace, tmp_path: Path) -> None:
    keep(tmp_path, ruleset((6,)))
    namespace.run(TOOLS[6], "-N", "hw-other")
    for chain in ("INPUT", "FORWARD"):
        namespace.run(TOOLS[6], "-A", chain, "-j", "hw-other")
    before = saved.everything(namespace)
    StandIn(LinuxKernel(tmp_path / "lock", 5.0), tmp_path).hold()
    assert saved.everything(namespace) == before


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_without_a_whole_file_there_is_nothing_to_do(namespace: Namespace, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    stand_in = StandIn(LinuxKernel(tmp_path / "lock", 5.0), tmp_path)
    stand_in.hold()
    time.sleep(1.1)
    assert not stand_in.is_due()
    assert saved.everything(namespace) == {"sets": []}


def test_what_the_kernel_refuses_is_tried_again(namespace: Namespace, tmp_path: Path) -> None:
    whole = ruleset((4,))
    keep(tmp_path, Ruleset(whole.tables))  # without the set that they look at
    stand_in = StandIn(LinuxKernel(tmp_path / "lock", 5.0), tmp_path)
    stand_in.hold()
    assert "filter/v4" not in saved.everything(namespace)
    time.sleep(1.1)
    assert stand_in.is_due()
