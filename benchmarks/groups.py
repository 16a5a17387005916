"""Which benchmarks share a bed, at which sizes they run by default, and how one repetition of each group is carried out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from benchmarks import cold_start, converge, packets
from benchmarks.bed import Bed
from benchmarks.found import Found
from benchmarks.sizes import SIZES
from benchmarks.twin import Twin

Results = dict[str, Found]


@dataclass(frozen=True)
class Order:
    """What one repetition shall do. `quick`: as little as shows that it works."""

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
    }
    with Bed(SIZES[order.size]) as bed:
        if any(name in beside for name in order.benches):
            with bed.start() as agent, Twin(bed, agent) as twin:
                for name, measure in beside.items():
                    if name in order.benches:
                        measure(twin, found[name])
        if "cold_start" in order.benches:
            cold_start.measure(bed, found["cold_start"], reverse=order.number % 2 == 1)
    return found


def router(order: Order) -> Results:
    """What packets and connections pay."""
    found: Results = {name: Found() for name in order.benches}
    for name, measure in (("packets", packets.packets), ("crr", packets.connections)):
        if name in found:
            measure(SIZES[order.size], found[name], number=order.number, quick=order.quick)
    return found


@dataclass(frozen=True)
class Group:
    """Benchmarks of one bed. `seconds`: about how long a repetition takes at most, at the largest size."""

    run: Callable[[Order], Results]
    benches: tuple[str, ...]
    sizes: tuple[str, ...]
    repetitions: int
    seconds: int


GROUPS = {
    "control": Group(control, ("converge_quiet", "member_churn", "cold_start"), ("small", "medium", "large"), 5, 600),
    "router": Group(router, ("packets", "crr"), ("small", "medium", "large"), 5, 300),
}
