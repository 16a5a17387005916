"""From exec of the agent to enforced and in sync, with no rule in the kernel and nothing remembered (spec: `cold_start`).

The floor restores what the agent left: `ipset restore`, `iptables-legacy-restore`, `ip6tables-legacy-restore`, of its own dump.
What importing, and reading and decoding the snapshot cost is measured by itself, in processes of their own.
"""

from __future__ import annotations

import subprocess
import sys
import time

from tests.lab.agent import ROOT, Agent, clean_environment

from benchmarks import cpu, workload
from benchmarks.bed import STARTS_WITHIN, STORE, Bed, dump, restore, wipe
from benchmarks.found import Found
from benchmarks.startup import DECODE, IMPORT

AGENT, ENFORCED, FLOOR, CONTROL = "agent: exec to in sync", "agent: exec to enforced", "floor", "floor again"
IMPORTING, DECODING, REST = "alone: importing", "alone: reading and decoding", "agent: in sync without both"
AGENT_CPU, FLOOR_CPU = "agent: CPU", "floor: CPU"
FLOORS = 3  # times four restores in each repetition: they are short


def measure(bed: Bed, found: Found, *, reverse: bool) -> None:
    """One repetition; no agent runs. The order of agent and floor alternates."""
    names = [CONTROL, FLOOR] if reverse else [FLOOR, CONTROL]
    wipe(bed.worker)
    with Agent(bed.worker, env=bed.etcd.env, start=False) as agent:
        began, met = bed.worker_flow.time(agent.start, workload.PORT, opens=False, limit=STARTS_WITHIN)
        agent.wait_applied(bed.revision, STARTS_WITHIN)
        synced = time.monotonic()
        found.times[ENFORCED].append((met - began) * 1000)
        found.times[AGENT].append((synced - began) * 1000)
        found.times[AGENT_CPU].append(cpu.seconds(agent.pid) * 1000)
        found.other["peak RSS MiB"].append(cpu.resident(agent.pid, "VmHWM") / 1024)
        first = agent.log_lines("applied")[0]
        found.times["agent: batch taken to applied"].append(first["seconds"] * 1000)
        for name in ("commits", "rules_written", "set_changes"):
            found.other[name].append(first[name])
        held = dump(bed.worker)
    for name in [*names, *reversed(names)] * (FLOORS if bed.size.policies <= 1000 else 1):
        wipe(bed.twin)
        began, used = time.monotonic(), cpu.of_children()
        restore(bed.twin, held)
        found.times[name].append((time.monotonic() - began) * 1000)
        found.times[FLOOR_CPU].append((cpu.of_children() - used) * 1000)
    for name, arguments in ((IMPORTING, [IMPORT]), (DECODING, [DECODE, STORE, str(bed.etcd.port)])):
        found.times[name].append(_alone(bed, arguments))
    found.times[REST].append(found.times[AGENT][-1] - found.times[IMPORTING][-1] - found.times[DECODING][-1])


def _alone(bed: Bed, arguments: list[str]) -> float:
    """Milliseconds that a part of the start takes in a process of its own, as that process says."""
    command = ["ip", "netns", "exec", bed.server.name, sys.executable, "-m", "benchmarks.startup", *arguments]
    environment = clean_environment() | {"PYTHONPATH": str(ROOT / "agent")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=ROOT, env=environment)
    return float(done.stdout)
