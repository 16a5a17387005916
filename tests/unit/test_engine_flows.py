"""When the engine has connections forgotten: after a workload's chains are gone, before another's with its address stand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostward.dataplane.fake import FakeKernel
from hostward.dataplane.kernel import KernelError, Step
from hostward.datastore.feed import Changes
from hostward.model.keys import ROOT
from tests.unit.engines import FILTER, READY, Agent, FakeConntrack, until

A, B, PEER = "10.65.0.1", "10.65.0.2", "192.0.2.1"
ONE = "workloadendpoints/default/one"


def workload(interface: str, *addresses: str) -> dict[str, Any]:
    spec = {"node": "w1", "orchestrator": "k8s", "interfaceName": interface, "ipNetworks": [f"{a}/32" for a in addresses]}
    return {"kind": "WorkloadEndpoint", "apiVersion": "projectcalico.org/v3", "spec": spec}


class Watched(FakeConntrack):
    """Notes which workloads' chains the kernel held at each reading."""

    def __init__(self, kernel: FakeKernel) -> None:
        super().__init__({(A, PEER), (B, PEER)})
        self.chains: list[set[str]] = []
        self.on_reading = lambda: self.chains.append(guarded(kernel))


def guarded(kernel: FakeKernel) -> set[str]:
    return {name.removeprefix("hw-fw-") for name in kernel.chains[FILTER] if name.startswith("hw-fw-")}


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


@pytest.fixture
def agent(tmp_path: Path, kernel: FakeKernel) -> Iterator[Agent]:
    found = Agent(tmp_path, kernel, conntrack=Watched(kernel))
    yield found
    found.end()


def start(agent: Agent) -> Watched:
    agent.snapshot({"clusterinformations/default": READY, ONE: workload("cali1", A)})
    assert guarded(agent.kernel) == {"cali1"}
    assert isinstance(agent.conntrack, Watched)
    return agent.conntrack


def test_connections_outlive_the_agent(agent: Agent) -> None:
    conntrack = start(agent)
    agent.put(workloadendpoints__default__two=workload("cali2", B))
    assert conntrack.readings == []


def test_a_workload_that_goes_takes_its_connections_along(agent: Agent) -> None:
    conntrack = start(agent)
    agent.put(workloadendpoints__default__one=None)
    until(lambda: conntrack.entries == {(B, PEER)})
    assert (conntrack.readings, conntrack.chains) == ([{A}], [set()])


def test_an_address_that_moves_is_clean_before_its_new_chains_stand(agent: Agent) -> None:
    """And after: until then the old chains let connections come up."""
    conntrack = start(agent)
    agent.put(workloadendpoints__default__one=None, workloadendpoints__default__two=workload("cali2", A))
    until(lambda: len(conntrack.readings) == 2)
    assert conntrack.readings == [{A}, {A}]
    assert conntrack.chains == [{"cali1"}, {"cali2"}]


def test_an_address_that_comes_back_early_is_waited_for(agent: Agent) -> None:
    conntrack = start(agent)
    entered, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        conntrack.chains.append(guarded(agent.kernel))
        entered.set()
        assert go_on.wait(10)

    conntrack.on_reading = hold
    agent.put(workloadendpoints__default__one=None)
    assert entered.wait(10)
    threading.Timer(0.1, go_on.set).start()
    agent.put(workloadendpoints__default__two=workload("cali2", A))
    assert (conntrack.readings, conntrack.chains) == ([{A}, {A}], [set(), set()])
    assert conntrack.entries == {(B, PEER)}


def test_a_conntrack_that_refuses_holds_up_nobody(agent: Agent) -> None:
    conntrack = start(agent)
    conntrack.refuses = True
    agent.put(workloadendpoints__default__one=None, workloadendpoints__default__two=workload("cali2", A))
    assert guarded(agent.kernel) == {"cali2"}
    assert agent.flows.pending() == {A}


def test_while_the_kernel_keeps_the_old_chains_their_connections_stay(agent: Agent) -> None:
    conntrack = start(agent)

    def refuse(_: Step) -> KernelError:
        return KernelError("no memory")

    agent.kernel.refuse = refuse
    agent.revision += 1
    agent.mailbox.changes(Changes(agent.revision, {ROOT + ONE: None}))
    until(lambda: "no memory" in agent.health.readiness().text)
    assert conntrack.readings == []
    agent.kernel.refuse = None
    until(lambda: conntrack.entries == {(B, PEER)})
