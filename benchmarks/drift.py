"""How long a port stays open that another program opened behind the agent's back (spec: `drift_repair`), by packets.

A flush of the whole filter table, and a rule put above ours. The bound is the agent's interval between checks and what its
own repair took; the interval grows with the tables, as a check may take a twentieth of a core at most.
"""

from __future__ import annotations

import time

from benchmarks import workload
from benchmarks.found import Found
from benchmarks.twin import Twin

REPAIRED = "repaired what another program had changed"
INTERVAL = "hostward_drift_check_interval_seconds"
ABOVE = ("INPUT", "-p", "udp", "--dport", str(workload.PORT), "-j", "ACCEPT")
CASES = {"flush": ("-F",), "rule above": ("-I", *ABOVE)}
BOUND = "check interval and repair"
TIMES = 3  # each, in a repetition
LIMIT = 60.0


def measure(twin: Twin, found: Found, *, quick: bool) -> None:
    """One repetition. The changed policy must be closed."""
    for turn in range(1 if quick else TIMES):
        for case, command in CASES.items():
            time.sleep(0.37 * (turn + 1))  # so that they don't all come at the same time after a check
            interval = twin.agent.metric(INTERVAL)
            seen = len(_repairs(twin))
            shut, open_ = twin.bed.worker_flow.exposed(
                lambda command=command: twin.agent.iptables(*command), workload.PORT, lambda seen=seen: _wait(twin, seen)
            )
            repair = _repairs(twin)[seen]["seconds"]
            if case != "flush":
                twin.agent.iptables("-D", *ABOVE)
            found.times[f"{case}: begun to shut again"].append(shut * 1000)
            found.times[f"{case}: open"].append(open_ * 1000)
            found.times[f"{case}: repair, as the agent says"].append(repair * 1000)
            found.times[f"{case}: {BOUND}"].append((interval + repair) * 1000)
    time.sleep(1.0)


def _repairs(twin: Twin) -> list[dict[str, float]]:
    return twin.agent.log_lines(REPAIRED)


def _wait(twin: Twin, seen: int) -> None:
    deadline = time.monotonic() + LIMIT
    while len(_repairs(twin)) <= seen:
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing was repaired; the agent's log ends:\n{twin.agent.log_end()}")
        time.sleep(0.02)
