"""The floor beside the agent: the twin holds what the worker holds, and both make the same change when told.

`learn` lets the agent make each change once and keeps what the kernel held before and after; from that the floor program and
the emulated peer know what to write, whatever the chains look like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from tests.lab.agent import Agent

from benchmarks import workload
from benchmarks.applied import Applied
from benchmarks.bed import Bed, dump, restore
from benchmarks.documents import Stored
from benchmarks.floor import KEY, Floor, States

RULE, MEMBER = "rule", "member"
PORTS = {RULE: workload.PORT, MEMBER: workload.MEMBER_PORT}


class Twin:
    """Use it in a `with`; the agent must be in sync, with every case closed. `states`: dumps by case."""

    def __init__(self, bed: Bed, agent: Agent) -> None:
        self.bed, self.agent = bed, agent
        self.applied = Applied(agent)
        self.documents: dict[str, Callable[[bool], Stored]] = {
            RULE: lambda opened: workload.changed_policy(opened=opened),
            MEMBER: lambda opened: workload.member_set(bed.size, opened=opened),
        }
        self.closed = dump(bed.worker)
        restore(bed.twin, self.closed)
        self.states: dict[str, States] = {case: self._learn(case) for case in self.documents}
        self.floor = Floor(bed.twin, bed.etcd.port, agent.home, self.states)

    def _learn(self, case: str) -> States:
        self.put(case, opened=True)
        opened = dump(self.bed.worker)
        self.put(case, opened=False)
        closed = dump(self.bed.worker)
        return closed, opened

    def put(self, case: str, *, opened: bool) -> None:
        """Makes the change of a case, without a look at the time, and waits until the agent has made it."""
        self.applied.wait(self.bed.put(self.documents[case](opened)))

    def by_agent(self, case: str, *, opened: bool) -> float:
        """Seconds from before the put to the first datagram that met it."""
        stored = self.documents[case](opened)
        began, met = self.bed.worker_flow.time(lambda: self.bed.put(stored), PORTS[case], opens=opened)
        return met - began

    def by_floor(self, case: str, *, opened: bool) -> tuple[float, float, float]:
        """The same by the floor program; and the seconds, and the CPU seconds, that it says it took."""
        value = f"{case} {'open' if opened else 'closed'}".encode()
        began, met = self.bed.twin_flow.time(lambda: self.bed.store.put(KEY, value), PORTS[case], opens=opened)
        return met - began, *self.floor.done()

    def floor_cpu(self, case: str, *, opened: bool) -> float:
        """CPU seconds of one change by the floor program, without datagrams."""
        self.bed.store.put(KEY, f"{case} {'open' if opened else 'closed'}".encode())
        return self.floor.done()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.floor.close()
