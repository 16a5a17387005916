"""CPU seconds of 1,000 updates by kind, one at a time (spec: `cpu_per_1000`), beside the floor and an emulated peer.

The peer does what Felix does of a change with legacy iptables, and nothing that it calculates: it saves the tables and restores
the changed chain, for both families, and for a member it runs `ipset restore`. It works on the same tables as the agent, though
Felix's would hold more rules.
"""

from __future__ import annotations

import subprocess

from benchmarks import changes, cpu, dumps
from benchmarks.bed import FAMILIES, Bed
from benchmarks.changes import KINDS, MEMBER, RULE, WEIGHTS
from benchmarks.found import Found
from benchmarks.twin import MEMBER as MEMBER_CASE
from benchmarks.twin import RULE as RULE_CASE
from benchmarks.twin import Twin

AGENT, PEER, FLOOR, AGAIN = "agent", "emulated peer", "floor", "floor again"
MIX = "mix"
UPDATES = 4  # of a kind in a block


def blocks(policies: int) -> int:
    """How many blocks a repetition has."""
    return 4 if policies <= 1000 else 1


def measure(twin: Twin, found: Found) -> None:
    """One repetition. Milliseconds of an update are seconds of a thousand."""
    serials = dict.fromkeys(KINDS, 0)
    for block in range(blocks(twin.bed.size.policies)):
        order = [AGENT, FLOOR, PEER, AGAIN] if block % 2 else [AGAIN, PEER, FLOOR, AGENT]
        for who in order:
            if who == AGENT:
                _by_agent(twin, serials, found)
            elif who == PEER:
                _note(found, PEER, _pair(twin), _one_member(twin))
            else:
                rule, member = (
                    sum(twin.floor_cpu(case, opened=opened) for opened in (True, False)) / 2
                    for case in (RULE_CASE, MEMBER_CASE)
                )
                _note(found, who, rule, member)


def _by_agent(twin: Twin, serials: dict[str, int], found: Found) -> None:
    mean = 0.0
    for kind, weight in zip(KINDS, WEIGHTS, strict=True):
        before = cpu.seconds(twin.agent.pid)
        for _ in range(UPDATES):
            revision = twin.bed.store.change(*changes.of(twin.bed.size, kind, serials[kind]))
            twin.applied.wait_either(revision)
            serials[kind] += 1
        used = (cpu.seconds(twin.agent.pid) - before) / UPDATES * 1000
        found.times[f"{AGENT}: {kind}"].append(used)
        mean += used * weight / sum(WEIGHTS)
    found.times[f"{AGENT}: {MIX}"].append(mean)


def _note(found: Found, who: str, rule: float, member: float) -> None:
    share = WEIGHTS[KINDS.index(MEMBER)] / sum(WEIGHTS)
    found.times[f"{who}: {RULE}"].append(rule * 1000)
    found.times[f"{who}: {MEMBER}"].append(member * 1000)
    found.times[f"{who}: {MIX}"].append((member * share + rule * (1 - share)) * 1000)


def _pair(twin: Twin) -> float:
    """CPU seconds of a save and a restore of the changed chain, both families; the mean of both directions."""
    closed, opened = twin.states[RULE_CASE]
    before = cpu.of_children()
    for old, new in ((closed, opened), (opened, closed)):
        for (tool, _), one, other in zip(FAMILIES, old, new, strict=False):
            run(twin.bed, f"{tool}-save")
            run(twin.bed, f"{tool}-restore", "--noflush", data=dumps.script(dumps.differences(one, other)))
    return (cpu.of_children() - before) / 2


def _one_member(twin: Twin) -> float:
    closed, opened = twin.states[MEMBER_CASE]
    before = cpu.of_children()
    for old, new in ((closed, opened), (opened, closed)):
        run(twin.bed, "ipset", "restore", data=dumps.set_script(old[2], new[2]))
    return (cpu.of_children() - before) / 2


def run(bed: Bed, *command: str, data: str = "") -> None:
    """A tool in the twin, its output thrown away; without a process that only enters the namespace."""
    with bed.twin.entered():
        subprocess.run(command, input=data, text=True, stdout=subprocess.DEVNULL, check=True, timeout=120)
