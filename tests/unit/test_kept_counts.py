"""Counts over a restart: the file, whatever is in it, and totals that go on from it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from hostward.dataplane.fake import FakeKernel
from hostward.dataplane.kernel import KernelError, Parting
from hostward.engine.applier import Applier
from hostward.engine.counting import Counting
from hostward.engine.telling import Teller
from hostward.model.keys import ResourceKey
from hostward.model.resolved import Resolved
from hostward.model.resources import Policy, Profile
from hostward.model.settings import BUILT_IN
from hostward.render.names import policy_title
from hostward.render.ruleset import DROP, Rule, Ruleset, Table, TableId
from hostward.report.counters import Growth
from hostward.report.kept_counts import MOST, Kept, KeptCounts
from hostward.report.metrics import Metrics
from hostward.report.traffic import Title, Traffic, title_of

FILTER = TableId(4, "filter")
ALLOW = "policy ingress allow gnp/p"


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    file = KeptCounts(str(tmp_path))
    assert file.load() == {}
    odd = "drop \udce9\udcff ingress no-policy"
    file.save({ALLOW: Kept(5, 50, 2, 20), odd: Kept(1, 2, 0, 0), "never": Kept(0, 0, 0, 0)})
    assert KeptCounts(str(tmp_path)).load() == {ALLOW: Kept(5, 50, 2, 20), odd: Kept(1, 2, 0, 0)}
    file.save({str(number): Kept(1, 1, 0, 0) for number in range(MOST + 5)})
    assert len(file.load()) == MOST


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version":1}', '{"version":1,"counts":{"a":[1]}}', '{"version":9}', "null", "\x00"]
)
def test_a_broken_file_counts_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "counts.json").write_text(text, encoding="utf-8")
    assert KeptCounts(str(tmp_path)).load() == {}


def test_trouble_with_the_disk_is_no_trouble(tmp_path: Path) -> None:
    KeptCounts(str(tmp_path / "gone")).save({ALLOW: Kept(1, 1, 1, 1)})
    assert KeptCounts(str(tmp_path / "gone")).load() == {}


class Counted(FakeKernel):
    """A kernel whose rules count what a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, tuple[int, ...]] = {}
        self.parted: list[Parting] = []
        self.broken = False

    def counters(self, table: TableId) -> Mapping[str, array[int]]:
        if self.broken:
            raise KernelError("cannot read")
        found = self.counts if table == FILTER else {}
        return {name: array("Q", [n * k for n in packets for k in (1, 10)]) for name, packets in found.items()}

    def partings(self, table: TableId) -> list[Parting]:
        parted, self.parted = self.parted, []
        return parted if table == FILTER else []


class Told:
    """A teller that keeps what it is told."""

    def __init__(self) -> None:
        self.resolved = Resolved()
        self.shown: dict[str, int] | None = None
        self.metrics = self

    def counted(self, traffic: Traffic, *, policies: bool) -> None:
        assert policies
        self.shown = {labels.action: amount.packets for labels, amount in traffic.policies().items()}

    def uncounted(self, error: KernelError) -> None: ...


class Life:
    """One process of the agent on a kernel that outlives it."""

    def __init__(self, kernel: Counted, state: Path) -> None:
        self.kernel, self.told = kernel, Told()
        applier = Applier(kernel)
        chain = (Rule((), DROP, counter=ALLOW),)
        applier.desired = Ruleset({FILTER: Table({"hw-a": chain}, {})})
        self.counting = Counting(kernel, applier, cast("Teller", self.told), replace(BUILT_IN, state_dir=str(state)))

    def look(self, packets: int, parted: Iterable[int] = ()) -> int | None:
        self.kernel.counts = {"hw-a": (packets,)}
        self.kernel.parted = [Parting("hw-a", ALLOW, number, 10 * number) for number in parted]
        for _ in self.counting.looks():
            pass
        return (self.told.shown or {}).get("allow")


def test_totals_go_on_in_the_next_life(tmp_path: Path) -> None:
    kernel = Counted()
    first = Life(kernel, tmp_path)
    assert first.look(5) == 5
    assert first.look(2, [7]) == 9  # a rule went with 7; what came since is 2
    killed = Life(kernel, tmp_path)
    assert killed.look(4) == 11  # while nobody was there two came
    killed.counting.save()
    stopped = Life(kernel, tmp_path)
    assert stopped.look(1) == 11  # rules went that nobody knew of: never less than before
    assert stopped.look(3) == 13
    again = Life(kernel, tmp_path)
    assert again.look(3) == 13


def test_nothing_is_shown_before_it_is_known_how_to_go_on(tmp_path: Path) -> None:
    kernel = Counted()
    first = Life(kernel, tmp_path)
    first.look(5)
    first.look(0, [5])
    second = Life(kernel, tmp_path)
    kernel.broken = True
    assert second.look(1) is None
    assert second.told.shown is None
    second.counting.save()  # ended before it knew: the file stays
    kernel.broken = False
    assert second.look(1) == 6
    assert Life(kernel, tmp_path).look(1) == 6


def test_policies_go_by_the_names_that_users_know(tmp_path: Path) -> None:
    key = ResourceKey("NetworkPolicy", "shop", "default.web")
    policy = Policy(key, "web", "default", 1.0, "all()", ingress=True, egress=False)
    life = Life(Counted(), tmp_path)
    life.told.resolved = Resolved(policies={key: policy}, profiles={"kns.shop": Profile("kns.shop")})
    titles = life.counting._titles_of(life.told.resolved)
    assert titles == {policy_title(key): Title("default", "np/shop/web"), "pro/kns.shop": Title("", "pro/kns.shop")}
    assert life.counting._titles_of(life.told.resolved) is titles  # made anew only when something changed


def test_half_a_character_in_a_name_breaks_no_scrape() -> None:
    traffic, metrics = Traffic(), Metrics(version="1", node="w1")
    traffic.take({"policy ingress allow gnp/\ud800": Growth(1, 1, 0, 0)}, {"gnp/\ud800": title_of("\udfff", 'gnp/\ud800"\n')})
    metrics.counted(traffic, policies=True)
    assert b'policy="gnp/\\\\ud800\\"\\n"' in metrics.text()
