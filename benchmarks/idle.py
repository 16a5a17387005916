"""What looking for other programs' changes costs while there are none (spec: `resync_idle`).

The agent compares the tables by their bytes and the sets by their counts every `driftCheckInterval`, and reads everything again
every `iptablesRefreshInterval` and `ipsetsRefreshInterval`. Each is measured as the CPU of an idle agent that does it often,
less that of one that hardly ever does. The floor is `iptables-legacy-save` and `ip6tables-legacy-save` to /dev/null, once each.
"""

from __future__ import annotations

import time

from benchmarks import costs, cpu
from benchmarks import documents as d
from benchmarks.bed import FAMILIES
from benchmarks.found import Found
from benchmarks.twin import Twin

CHECK, WHOLE, SAVE, AGAIN = "a check for drift", "reading everything again", "floor: both saves", "floor again: both saves"
SETTLE = 1.2
SECONDS = 12.0  # counting packets falls into each window twice, whenever it begins
SELDOM = {"driftCheckInterval": "3600s", "iptablesRefreshInterval": "0s", "ipsetsRefreshInterval": "0s"}
OFTEN = SELDOM | {"driftCheckInterval": "0.2s"}
ALL = {"driftCheckInterval": "1s", "iptablesRefreshInterval": "1s", "ipsetsRefreshInterval": "1s"}
CHECKS = "hostward_drift_check_seconds_count"


def measure(twin: Twin, found: Found, *, quick: bool) -> None:
    """One repetition. Milliseconds of CPU."""
    quiet, _ = _window(twin, SELDOM)
    often, checks = _window(twin, OFTEN)
    found.times[CHECK].append((often - quiet) / max(checks, 1.0) * 1000)
    found.other["checks in a window"].append(checks)
    whole, checks = _window(twin, ALL)
    found.times[WHOLE].append((whole - quiet) / max(checks, 1.0) * 1000)
    for name in [SAVE, AGAIN, AGAIN, SAVE] * (1 if quick else 3):
        before = cpu.of_children()
        for tool, _ in FAMILIES:
            costs.run(twin.bed, f"{tool}-save")
        found.times[name].append((cpu.of_children() - before) * 1000)
    twin.bed.put(d.settings())
    twin.applied.wait_either(twin.bed.revision)


def _window(twin: Twin, settings: dict[str, str]) -> tuple[float, float]:
    """CPU seconds of the idle agent under these settings, and how often it checked."""
    twin.bed.put(d.settings(**settings))
    time.sleep(SETTLE)
    checks, used = twin.agent.metric(CHECKS), cpu.seconds(twin.agent.pid)
    time.sleep(SECONDS)
    used = cpu.seconds(twin.agent.pid) - used
    return used, twin.agent.metric(CHECKS) - checks
