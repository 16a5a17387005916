"""No change waits for a clock: one goes at once, many become few writes, and none waits behind more than one that runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostward.dataplane.fake import FakeKernel
from hostward.dataplane.kernel import KernelError, Step, TableEdit
from hostward.render.ruleset import TableId
from tests.unit.engines import CLOSED, Agent, policy, until
from tests.unit.test_engine_trouble import send


class SlowKernel(FakeKernel):
    """The next edit waits until `go` is set, and says that it does; `edits` are the chains of each."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.waiting = threading.Event(), threading.Event()
        self.go.set()
        self.edits: list[set[str]] = []
        self.refuse = self._note

    def _note(self, step: Step) -> KernelError | None:
        if isinstance(step, TableEdit):
            self.edits.append(set(step.chains))
            if not self.go.is_set():
                self.waiting.set()
                assert self.go.wait(30)
        return None


@pytest.fixture
def kernel() -> SlowKernel:
    return SlowKernel()


@pytest.fixture
def agent(tmp_path: Path, kernel: SlowKernel) -> Iterator[Agent]:
    found = Agent(tmp_path, kernel)
    found.snapshot({**CLOSED, **{f"globalnetworkpolicies/p{number}": policy(port=1000 + number) for number in range(20)}})
    kernel.edits.clear()
    yield found
    kernel.go.set()
    found.end()


def test_one_change_is_one_write_of_each_table_that_has_it(agent: Agent, kernel: SlowKernel) -> None:
    agent.put(globalnetworkpolicies__p3=policy(port=2003))
    assert len(kernel.edits) == 2, "one of each IP version"


def test_a_burst_while_one_is_written_becomes_one_more(agent: Agent, kernel: SlowKernel) -> None:
    kernel.go.clear()
    send(agent, "globalnetworkpolicies/p0", policy(port=2000))
    assert kernel.waiting.wait(10)
    for number in range(1, 20):
        for version in range(5):  # only the newest counts
            send(agent, f"globalnetworkpolicies/p{number}", policy(port=2000 + 100 * version + number))
    assert len(kernel.edits) == 1
    kernel.go.set()
    agent.settled()
    assert len(kernel.edits) == 4, "the one that ran, and one for all that came meanwhile, of each IP version"
    assert agent.lets_in(2419)
    assert not agent.lets_in(2019)


def test_what_comes_while_one_is_written_waits_for_that_one_alone(agent: Agent, kernel: SlowKernel) -> None:
    kernel.go.clear()
    send(agent, "globalnetworkpolicies/p0", policy(port=2000))
    assert kernel.waiting.wait(10)
    send(agent, "globalnetworkpolicies/p1", policy(port=2001))
    kernel.waiting.clear()
    kernel.go.set()
    until(lambda: agent.lets_in(2001))
    assert len(kernel.edits) <= 4


def test_what_comes_during_a_look_for_tampering_waits_for_one_table_alone(agent: Agent, kernel: SlowKernel) -> None:
    """A look compares six tables; the change comes while the second is compared."""
    done: list[str] = []
    compare = kernel.changed

    def changed(table: TableId) -> bool:
        done.append("compared")
        if len(done) == 2:
            send(agent, "globalnetworkpolicies/p0", policy(port=2000))
        return compare(table)

    def refuse(step: Step) -> None:
        done.append("written")

    kernel.refuse = refuse
    kernel.changed = changed  # type: ignore[method-assign] # notes what is compared when
    until(lambda: agent.lets_in(2000))
    until(lambda: done.count("compared") > 6)
    assert done[:4] == ["compared", "compared", "written", "written"]
