"""From exec of the agent to enforced and in sync, with no rule in the kernel and nothing remembered (spec: `cold_start`).

The floor restores what the agent left: `ipset restore`, `iptables-legacy-restore`, `ip6tables-legacy-restore`, of its own dump.
What importing, and reading and decoding the snapshot cost is measured by itself, in processes of their own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.lab.agent import ROOT, Agent, clean_environment

from benchmarks.bed import STORE, Bed, dump, restore, wipe
from benchmarks.found import Found
from benchmarks.startup import DECODE, IMPORT

AGENT, ENFORCED, FLOOR, CONTROL = "agent: exec to in sync", "agent: exec to enforced", "floor", "floor again"
FLOORS = 3  # times four restores in each repetition: they are short


def start(bed: Bed) -> Agent:
    """A new agent in the worker, in sync."""
    agent = Agent(bed.worker, env=bed.etcd.env)
    try:
        agent.wait_applied(bed.revision, 60)
    except BaseException:
        agent.close()
        raise
    return agent


def measure(bed: Bed, found: Found, *, reverse: bool) -> None:
    """One repetition; no agent runs. The order of agent and floor alternates."""
    names = [CONTROL, FLOOR] if reverse else [FLOOR, CONTROL]
    wipe(bed.worker)
    with Agent(bed.worker, env=bed.etcd.env, start=False) as agent:
        began, met = bed.worker_flow.time(agent.start, opens=False)
        agent.wait_applied(bed.revision, 60)
        synced = time.monotonic()
        found.times[ENFORCED].append((met - began) * 1000)
        found.times[AGENT].append((synced - began) * 1000)
        found.times["agent: CPU"].append(agent.cpu_seconds() * 1000)
        found.other["peak RSS MiB"].append(_peak(agent.pid) / 1024)
        first = agent.log_lines("applied")[0]
        found.times["agent: batch taken to applied"].append(first["seconds"] * 1000)
        for name in ("commits", "rules_written", "set_changes"):
            found.other[name].append(first[name])
        held = dump(bed.worker)
    for name in [*names, *reversed(names)] * FLOORS:
        wipe(bed.twin)
        began, used = time.monotonic(), _cpu_of_children()
        restore(bed.twin, held)
        found.times[name].append((time.monotonic() - began) * 1000)
        found.times["floor: CPU"].append((_cpu_of_children() - used) * 1000)
    for name, arguments in (("importing", [IMPORT]), ("reading and decoding", [DECODE, STORE, str(bed.etcd.port)])):
        found.times[f"alone: {name}"].append(_alone(bed, arguments))


def _cpu_of_children() -> float:
    """Seconds that this process's ended children have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peak(pid: int) -> int:
    """The largest resident size of a process, KiB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _alone(bed: Bed, arguments: list[str]) -> float:
    """Milliseconds that a part of the start takes in a process of its own, as that process says."""
    command = ["ip", "netns", "exec", bed.store.name, sys.executable, "-m", "benchmarks.startup", *arguments]
    environment = clean_environment() | {"PYTHONPATH": str(ROOT / "agent")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT, env=environment)
    return float(done.stdout)
