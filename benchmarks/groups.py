"""Which benchmarks share a bed, at which sizes they run by default, and how one repetition of each group is carried out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from benchmarks import bulk, churn, cold_start, converge, costs, counting, drift, idle, memory, packets
from benchmarks.bed import Bed
from benchmarks.found import Found
from benchmarks.sizes import SIZES, TINY
from benchmarks.twin import Twin

Results = dict[str, Found]


@dataclass(frozen=True)
class Order:
    """What one repetition shall do. `quick`: as little as shows that it works. `changes`: of rss; 0: as many as usual."""

    size: str
    number: int
    benches: Collection[str]
    quick: bool = False
    changes: int = 0


def control(order: Order) -> Results:
    """The control plane: an agent and its twin, then a start from nothing."""
    found: Results = {name: Found() for name in order.benches}
    beside: dict[str, Callable[[Twin, Found], None]] = {
        "converge_quiet": converge.quiet,
        "member_churn": converge.member,
        "converge_churn": churn.measure,
        "cpu_per_1000": costs.measure,
        "resync_idle": lambda twin, to: idle.measure(twin, to, quick=order.quick),
        "drift_repair": lambda twin, to: drift.measure(twin, to, quick=order.quick),
    }
    with Bed(SIZES[order.size]) as bed:
        if beside.keys() & found.keys():
            with bed.start() as agent, Twin(bed, agent) as twin:
                for name, measure in beside.items():
                    if name in found:
                        measure(twin, found[name])
        if "cold_start" in found:
            cold_start.measure(bed, found["cold_start"], reverse=order.number % 2 == 1)
    return found


def router(order: Order) -> Results:
    """What packets and connections pay."""
    found: Results = {name: Found() for name in order.benches}
    for name, measure in (("packets", packets.packets), ("crr", packets.connections)):
        if name in found:
            measure(SIZES[order.size], found[name], number=order.number, quick=order.quick)
    return found


def resident(order: Order) -> Results:
    """Memory."""
    found = Found()
    memory.measure(SIZES[order.size], found, count=order.changes, quick=order.quick)
    return {"rss": found}


def counted(order: Order) -> Results:
    """What is exact."""
    found = Found()
    counting.measure(found, quick=order.quick)
    return {"counters": found}


def parts(order: Order) -> Results:
    """Parts of the agent."""
    found: Results = {name: Found() for name in order.benches}
    for name, measure in (("bulk", bulk.rules), ("set_fill", bulk.sets)):
        if name in found:
            measure(found[name], quick=order.quick, reverse=order.number % 2 == 1)
    return found


@dataclass(frozen=True)
class Group:
    """Benchmarks of one bed. `sizes`: what runs by default at each; "" where a benchmark has sizes of its own.

    `repetitions`: unless said otherwise. `seconds`: a repetition that takes longer has failed.
    """

    run: Callable[[Order], Results]
    sizes: Mapping[str, tuple[str, ...]]
    repetitions: int = 5
    seconds: int = 900

    @property
    def benches(self) -> tuple[str, ...]:
        """All."""
        return max(self.sizes.values(), key=len)


_CONTROL = ("converge_quiet", "member_churn", "converge_churn", "cpu_per_1000")
_WHOLE = (*_CONTROL, "resync_idle", "drift_repair", "cold_start")
GROUPS = {
    "counted": Group(counted, {"": ("counters",)}, repetitions=1),
    "control": Group(
        control,
        {"small": (*_CONTROL, "cold_start"), "medium": _WHOLE, "large": (*_CONTROL[:3], "cold_start")},
    ),
    "router": Group(router, {"small": ("packets",), "medium": ("packets", "crr"), "large": ("packets",)}),
    "resident": Group(resident, {"medium": ("rss",)}, repetitions=3, seconds=7200),
    "parts": Group(parts, {"": ("bulk", "set_fill")}),
}


def planned(group: Group, *, only: Collection[str], sizes: Collection[str], quick: bool) -> dict[str, tuple[str, ...]]:
    """Benchmarks by size. Asked for by name or size, one runs also where it doesn't by default."""
    if "" in group.sizes:
        wanted = {"": group.benches}
    elif sizes:
        wanted = dict.fromkeys(sizes, group.benches)
    else:
        wanted = {TINY.name: group.benches} if quick else dict(group.sizes)
    chosen = {size: tuple(name for name in names if not only or name in only) for size, names in wanted.items()}
    return {size: names for size, names in chosen.items() if names}
