"""What the agent does for one change, counted by itself: exact on any machine. Held against growth with what isn't changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.lab.agent import Agent

from benchmarks import counted_workload as w
from benchmarks import cpu
from benchmarks.applied import COUNTED, Applied, Line
from benchmarks.bed import Bed
from benchmarks.found import Found, Row
from benchmarks.sizes import TINY

SIZES = (100, 1_000, 10_000)
QUICK = (20, 40)
NOT_COUNTED = "not counted"
CHANGE, POLICIES = "change", "policies"
GROWN = "counters that grow from the second largest to the largest number of policies"


def measure(found: Found, *, quick: bool) -> None:
    """Every kind of change among each number of policies."""
    for policies in QUICK if quick else SIZES:
        with Bed(TINY, w.documents(policies)) as bed, bed.start() as agent:
            found.rows += [row | {POLICIES: policies} for row in _rows(bed, agent)]
    found.rows.sort(key=lambda row: str(row[CHANGE]))
    grown = growing(found.rows)
    found.other[GROWN].append(len(grown))
    for name in grown:
        found.other[f"grows: {name}"].append(1)


def _rows(bed: Bed, agent: Agent) -> Iterator[Row]:
    applied = Applied(agent)
    for kind in (*w.DOCUMENTS, w.INTERFACE_ADDRESS):
        lines: list[Line] = []
        used = []
        for turn in range(6):
            before, seen = cpu.seconds(agent.pid), len(applied.lines)
            if kind == w.INTERFACE_ADDRESS:
                bed.worker.ip(f"address {'del' if turn % 2 else 'add'} {w.ADDRESS}/32 dev {w.INTERFACE}")
                line = applied.wait_more(seen)
            else:
                line = applied.wait(bed.put(w.changed(kind, there=turn % 2 == 0)))
            if turn >= 2:  # the first change of all is not like the others
                lines.append(line)
                used.append((cpu.seconds(agent.pid) - before) * 1000)
        yield row(kind, lines) | {"CPU ms": round(sorted(used)[len(used) // 2], 1)}


def row(kind: str, lines: Sequence[Line]) -> Row:
    """The most that any of the lines counts."""
    counted = {name: [line[name] for line in lines if name in line] for name in COUNTED}
    return {CHANGE: kind, POLICIES: 0} | {name: max(values) if values else NOT_COUNTED for name, values in counted.items()}


def growing(rows: Sequence[Row]) -> list[str]:
    """What grew, as "change: counter", from the second largest number of policies to the largest."""
    sizes = sorted({int(str(one[POLICIES])) for one in rows})[-2:]
    found = []
    for one in rows:
        for other in rows:
            if one[CHANGE] == other[CHANGE] and (one[POLICIES], other[POLICIES]) == tuple(sizes):
                found += [
                    f"{one[CHANGE]}: {name}"
                    for name in COUNTED
                    if isinstance(a := one[name], int) and isinstance(b := other[name], int) and b > a
                ]
    return found
