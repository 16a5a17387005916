"""Put to enforced, one change at a time, timed by packets (spec: `converge_quiet`).

In the guarded worker the agent follows etcd; in its twin, which holds the same tables and sets, the floor program does the
same change. Both are timed alike: from before the put to the first datagram that met the new state.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from statistics import fmean

from tests.lab.agent import Agent

from benchmarks import workload
from benchmarks.bed import FAMILIES, Bed, dump, restore
from benchmarks.floor import KEY, Floor
from benchmarks.found import Found

BLOCKS = 12  # in each repetition; a block has an opening and a closing of each competitor
SMALL = 100  # policies up to which there are twice as many blocks: a change takes little more than the time between datagrams
PAUSE = 0.03  # seconds of quiet after a change
AGENT, FLOOR, CONTROL = "agent", "floor", "floor again"
AGENT_CPU, FLOOR_CPU = "agent: CPU of a change", "floor: CPU of a change"


def measure(bed: Bed, agent: Agent, found: Found) -> None:
    """One repetition. The agent must be in sync; the twin gets what the worker holds."""
    held = dump(bed.worker)
    restore(bed.twin, held)
    for text, (_, family) in zip(held, FAMILIES, strict=False):
        found.other[f"rules in IPv{family} tables"].append(sum(line.startswith("-A") for line in text.splitlines()))
    found.other["sets"].append(held[2].count("create "))
    children = _children(agent)
    used: list[float] = []  # in ticks of 10 ms: only their mean says something
    with Floor(bed.twin, bed.etcd.port, agent.home / "twin.lock") as floor:

        def by_agent(*, opened: bool) -> float:
            key, document = workload.changed_policy(bed.policies, opened=opened)
            value = json.dumps(document).encode()
            before = agent.cpu_seconds()
            began, met = bed.worker_flow.time(lambda: _noted(bed, key, value), opens=opened)
            agent.wait_applied(bed.revision)
            used.append(agent.cpu_seconds() - before)
            return met - began

        def by_floor(*, opened: bool) -> float:
            began, met = bed.twin_flow.time(lambda: bed.put(KEY, b"open" if opened else b"closed"), opens=opened)
            took, cpu = floor.done()
            found.times["floor: two commits and read-backs"].append(took * 1000)
            found.times[FLOOR_CPU].append(cpu * 1000)
            return met - began

        by: dict[str, Callable[..., float]] = {AGENT: by_agent, FLOOR: by_floor, CONTROL: by_floor}
        for opened in (True, False):  # the first change of all is not like the others
            by_agent(opened=opened)
            by_floor(opened=opened)
        lines = len(agent.log_lines("applied"))
        orders = list(permutations(by))
        for block in range(BLOCKS if bed.policies > SMALL else 2 * BLOCKS):
            seconds: dict[tuple[str, str], float] = {}
            for who in orders[block % len(orders)]:
                for direction, opened in (("open", True), ("close", False)):
                    seconds[who, direction] = by[who](opened=opened)
                    time.sleep(PAUSE)
            for key, value in seconds.items():
                found.times[" ".join(key)].append(value * 1000)
    found.times[AGENT_CPU].append(fmean(used) * 1000)
    for line in agent.log_lines("applied")[lines:]:
        found.times["agent: batch taken to applied"].append(line["seconds"] * 1000)
        for name in ("commits", "rules_written", "set_changes"):
            found.other[f"{name} of a change"].append(line[name])
    found.other["processes started by all changes"].append(0 if _children(agent) == children else 1)


def _noted(bed: Bed, key: str, value: bytes) -> None:
    bed.revision = bed.put(key, value)


def _children(agent: Agent) -> str:
    """Page faults of ended children: unchanged when there were none."""
    return Path(f"/proc/{agent.pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[8]
