"""Put to enforced, timed by packets: agent, floor, and floor again in blocks of alternating order.

In the guarded worker the agent follows etcd; in its twin, which holds the same tables and sets, the floor program does the
same change. Both are timed alike: from before the put to the first datagram that met the new state, one change at a time.
"""

from __future__ import annotations

import time
from itertools import permutations

from benchmarks import cpu, dumps
from benchmarks.applied import COUNTED
from benchmarks.found import Found
from benchmarks.twin import MEMBER, RULE, Twin

AGENT, FLOOR, CONTROL = "agent", "floor", "floor again"
AGENT_CPU, FLOOR_CPU = "agent: CPU of a change", "floor: CPU of a change"
WAYS = (("open", True), ("close", False))
PAUSE = 0.03  # seconds of quiet after a change
FULL = 12  # blocks of a repetition; a block has an opening and a closing of each competitor


def blocks(policies: int) -> int:
    """Fewer where a change takes a second."""
    return FULL if policies <= 1000 else FULL // 3


def quiet(twin: Twin, found: Found) -> None:
    """One rule of one policy in the middle turns from Allow to Deny and back."""
    four, six, sets = twin.closed
    for family, text in ((4, four), (6, six)):
        found.other[f"rules in IPv{family} tables"].append(dumps.rules(text))
    members = dumps.members(sets)
    found.other["sets"].append(len(members))
    found.other["members of all sets"].append(sum(map(len, members.values())))
    _measure(twin, RULE, found, blocks(twin.bed.size.policies))


def member(twin: Twin, found: Found) -> None:
    """One member of a network set comes and goes."""
    _measure(twin, MEMBER, found, blocks(twin.bed.size.policies))


def _measure(twin: Twin, case: str, found: Found, count: int) -> None:
    agent = twin.agent

    def by_agent(*, opened: bool) -> float:
        before = cpu.seconds(agent.pid)
        took = twin.by_agent(case, opened=opened)
        line = twin.applied.wait(twin.bed.revision)
        found.times[AGENT_CPU].append((cpu.seconds(agent.pid) - before) * 1000)
        found.times["agent: batch taken to applied"].append(line["seconds"] * 1000)
        for name in COUNTED:
            if name in line:
                found.other[f"{name} of a change"].append(line[name])
        return took

    def by_floor(*, opened: bool) -> float:
        took, wrote, used = twin.by_floor(case, opened=opened)
        found.times["floor: writes and read-backs"].append(wrote * 1000)
        found.times[FLOOR_CPU].append(used * 1000)
        return took

    by = {AGENT: by_agent, FLOOR: by_floor, CONTROL: by_floor}
    for _, opened in WAYS:  # the first change of all is not like the others
        twin.by_agent(case, opened=opened)
        twin.applied.wait(twin.bed.revision)
        twin.by_floor(case, opened=opened)
    orders = list(permutations(by))
    for block in range(count):
        for who in orders[block % len(orders)]:
            for way, opened in WAYS:
                found.times[f"{who} {way}"].append(by[who](opened=opened) * 1000)
                time.sleep(PAUSE)
