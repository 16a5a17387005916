"""Resident memory of an agent in sync, and whether it grows over random changes (spec: `rss`).

Changes come in bursts of ten, as fast as the agent takes them. While they do, freed blocks are kept; so what is held is looked
at after a rest, in the middle and at the end of a long run: by the middle everything has been used once. The slope of what is
resident while changes come, by least squares over the second half, stands beside it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import islice

from tests.lab.agent import ROOT, clean_environment

from benchmarks import changes, cpu
from benchmarks.applied import Applied
from benchmarks.bed import Bed
from benchmarks.found import Found
from benchmarks.sizes import Size
from benchmarks.startup import RESIDENT

CHANGES = 1_000
BURST = 10
LONG = 10_000  # changes from which on the slope says something: caches are full by then
RESIDENT_MIB, IMPORTS_MIB, SLOPE = "resident MiB in sync", "resident MiB of the imports alone", "slope, KiB per 1,000 changes"
SHORT_SLOPE = "slope while caches fill, KiB per 1,000 changes"
AFTER_MIB, PEAK_MIB = "resident MiB after all changes", "peak MiB"
SERIES = "resident MiB after each burst"
AT_REST, GROWTH = "resident MiB at rest, in the middle and at the end", "growth at rest, KiB per 1,000 changes"
REST = 40.0  # seconds after which an agent has looked at everything again, and given back what it freed


def slope(values: Sequence[float]) -> float:
    """By how much the values grow from one to the next, by least squares."""
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    spread = sum((at - middle) ** 2 for at in range(len(values)))
    return sum((at - middle) * (value - mean) for at, value in enumerate(values)) / spread


def measure(size: Size, found: Found, *, count: int, quick: bool) -> None:
    """One repetition."""
    count = count or (100 if quick else CHANGES)
    found.other[IMPORTS_MIB].append(_imports())
    with Bed(size) as bed, bed.start() as agent:
        applied = Applied(agent)
        found.other[RESIDENT_MIB].append(cpu.resident(agent.pid) / 1024)
        source, rests = changes.mixed(size), list[float]()
        for burst in range(1, count // BURST + 1):
            for change in islice(source, BURST):
                revision = bed.store.change(*change)
            applied.wait_either(revision)
            found.times[SERIES].append(cpu.resident(agent.pid) / 1024)
            del applied.lines[:-1]
            if burst * BURST in {count // 2, count} and count >= LONG:
                time.sleep(REST)
                rests.append(cpu.resident(agent.pid) / 1024)
        found.other[AFTER_MIB].append(found.times[SERIES][-1])
        found.other[PEAK_MIB].append(cpu.resident(agent.pid, "VmHWM") / 1024)
    series = found.times[SERIES]
    found.other["changes"].append(count)
    found.other[SLOPE if count >= LONG else SHORT_SLOPE].append(slope(series[len(series) // 2 :]) * 1024 * 1000 / BURST)
    if rests:
        found.other[AT_REST] += rests
        found.other[GROWTH].append((rests[-1] - rests[0]) * 1024 * 1000 / (count / 2))


def _imports() -> float:
    """MiB of a process that has imported what the agent imports."""
    command = [sys.executable, "-m", "benchmarks.startup", RESIDENT]
    environment = clean_environment() | {"PYTHONPATH": str(ROOT / "agent")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT, env=environment)
    return float(done.stdout)
