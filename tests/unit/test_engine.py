"""The engine on the strict fake kernel: what is in force, frozen, set aside, repaired and reported for every batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostward.dataplane.fake import FakeKernel, Foreign
from hostward.dataplane.kernel import KernelError, Step
from hostward.datastore.feed import Changes
from hostward.engine import telling
from hostward.engine.applier import Applier
from hostward.model.keys import ROOT
from hostward.model.links import Link
from hostward.render.evaluate import Packet, evaluate
from hostward.render.marks import Marks
from hostward.render.ruleset import DROP, Hook, Jump, Rule, Ruleset, Table
from tests.unit.engines import CLOSED, FILTER, HEP, LINKS, Agent, policy, until


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


@pytest.fixture
def agent(tmp_path: Path, kernel: FakeKernel) -> Iterator[Agent]:
    found = Agent(tmp_path, kernel)
    yield found
    found.end()


def test_nothing_is_written_before_the_first_snapshot(agent: Agent) -> None:
    time.sleep(0.2)
    assert agent.kernel.changes == 0
    assert not agent.health.readiness().ok


def test_a_host_endpoint_closes_and_a_policy_opens(agent: Agent) -> None:
    agent.snapshot(CLOSED)
    assert (agent.lets_in(80), agent.lets_in(22)) == (False, True)
    agent.put(globalnetworkpolicies__web=policy())
    assert (agent.lets_in(80), agent.lets_in(81)) == (True, False)
    assert agent.health.readiness().ok
    until(lambda: [hook.policies for found in agent.status().interfaces for hook in found.hooks] == [("web",)])


def test_what_changes_nothing_is_applied_too(agent: Agent) -> None:
    agent.snapshot(CLOSED)
    before = agent.kernel.changes
    agent.put(**{"notakind__x": b"\xff", "globalnetworkpolicies__a__b": policy()})
    agent.put(nodes__w2={"spec": {}})
    assert agent.kernel.changes == before


@pytest.mark.parametrize(
    ("objects", "word"),
    [
        ({"hostendpoints/other": HEP}, "uninitialised"),
        ({"clusterinformations/default": {"spec": {"clusterGUID": "a"}}}, "not-ready"),
        ({"clusterinformations/default": b"{"}, "not-ready"),
        ({"clusterinformations/default": {"spec": {"clusterGUID": "b", "datastoreReady": True}}}, "other-cluster"),
        ({}, "uninitialised"),
    ],
)
def test_a_doubtful_store_changes_nothing(agent: Agent, objects: dict[str, Any], word: str) -> None:
    """D12."""
    agent.snapshot(CLOSED)
    applied = agent.revision
    agent.snapshot(objects)
    time.sleep(0.1)
    assert not agent.lets_in(80)
    assert f"hostward_applied_revision {float(applied)}" in agent.text()
    until(lambda: f'hostward_frozen{{reason="{word}"}} 1.0' in agent.text())
    assert not agent.health.readiness().ok
    agent.snapshot({**CLOSED, "globalnetworkpolicies/web": policy()})
    assert agent.lets_in(80)


def test_only_doubt_is_worth_a_warning_and_not_each_start(
    tmp_path: Path, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def teller(level: str) -> Callable[..., None]:
        return lambda event, **_: told.append(level) if event == "the kernel's state is kept as it is" else None

    monkeypatch.setattr(telling, "log", SimpleNamespace(info=teller("info"), warning=teller("warning"), error=teller("error")))
    agent = Agent(tmp_path, kernel)
    try:
        until(lambda: told == ["info"])
        agent.snapshot({"hostendpoints/other": HEP})
        until(lambda: told == ["info", "warning"])
    finally:
        agent.end()


def test_the_guid_is_trusted_over_a_restart_unless_told(agent: Agent, tmp_path: Path, kernel: FakeKernel) -> None:
    agent.snapshot(CLOSED)
    agent.end()
    other = {"clusterinformations/default": {"spec": {"clusterGUID": "b", "datastoreReady": True}}}
    for guid, frozen in (("", True), ("b", False), ("", False)):
        again = Agent(tmp_path, kernel, guid)
        again.snapshot(other)
        assert (again.intake.frozen is not None) is frozen
        again.end()


def test_a_broken_policy_keeps_its_last_version_also_over_a_restart(agent: Agent, tmp_path: Path, kernel: FakeKernel) -> None:
    """D4."""
    agent.snapshot({**CLOSED, "globalnetworkpolicies/web": policy()})
    broken = policy(selector="all(")
    agent.put(globalnetworkpolicies__web=broken)
    assert agent.lets_in(80)
    assert 'hostward_objects_set_aside{kind="GlobalNetworkPolicy"} 1.0' in agent.text()
    until(lambda: [s.older_in_force for s in agent.status().set_aside] == [True])
    agent.end()
    kernel.forget()
    again = Agent(tmp_path, kernel)
    again.snapshot({**CLOSED, "globalnetworkpolicies/web": broken})
    assert again.lets_in(80)
    again.put(globalnetworkpolicies__web=None)
    again.put(globalnetworkpolicies__web=broken)
    assert not again.lets_in(80)
    again.end()


def test_a_broken_endpoint_that_nobody_knew_isolates(agent: Agent) -> None:
    agent.snapshot(
        {**CLOSED, "globalnetworkpolicies/web": policy(), "hostendpoints/w1-eth0": {"spec": {**HEP["spec"], "new": 1}}}
    )
    assert (agent.lets_in(80), agent.lets_in(22)) == (False, True)


def test_a_new_agent_takes_over_without_a_write(agent: Agent, tmp_path: Path, kernel: FakeKernel) -> None:
    agent.snapshot({**CLOSED, "globalnetworkpolicies/web": policy()})
    agent.end()
    kernel.forget()
    before = kernel.changes
    again = Agent(tmp_path, kernel)
    again.snapshot({**CLOSED, "globalnetworkpolicies/web": policy()})
    assert kernel.changes == before
    again.end()


def test_tampering_is_repaired_and_counted(agent: Agent, kernel: FakeKernel) -> None:
    agent.snapshot({**CLOSED, "globalnetworkpolicies/web": policy()})
    kernel.chains[FILTER]["hw-fh-eth0"] = ()
    until(lambda: not agent.lets_in(81))
    until(lambda: 'hostward_repairs_total{ip_version="4",table="filter"} 1.0' in agent.text())
    theirs = Foreign(b"theirs", Rule((), DROP))
    kernel.builtins[FILTER]["INPUT"] = (theirs, *kernel.builtins[FILTER]["INPUT"])
    until(lambda: kernel.builtins[FILTER]["INPUT"][-1] == theirs)


def test_tampering_is_repaired_while_the_store_is_in_doubt(agent: Agent, kernel: FakeKernel) -> None:
    agent.snapshot(CLOSED)
    agent.snapshot({})
    kernel.builtins[FILTER]["INPUT"] = ()
    until(lambda: not agent.lets_in(80))


def test_what_the_kernel_refuses_is_tried_again(agent: Agent, kernel: FakeKernel) -> None:
    agent.snapshot(CLOSED)

    def refuse(_: Step) -> KernelError:
        return KernelError("no memory")

    kernel.refuse = refuse
    agent.revision += 1
    agent.mailbox.changes(Changes(agent.revision, {ROOT + "globalnetworkpolicies/web": agent.stored(policy())}))
    until(lambda: "no memory" in agent.health.readiness().text)
    assert not agent.lets_in(80)
    kernel.refuse = None
    agent.settled()
    assert agent.lets_in(80)


def test_settings_in_the_store_are_followed(agent: Agent) -> None:
    agent.snapshot(CLOSED)
    config = {"spec": {"failsafeInboundHostPorts": [{"protocol": "TCP", "port": 81}]}}
    agent.put(felixconfigurations__default=config)
    assert (agent.lets_in(81), agent.lets_in(22)) == (True, False)


def test_the_datastore_itself_is_a_failsafe(agent: Agent) -> None:
    """D8."""
    agent.snapshot(CLOSED)
    out = Packet(4, "output", "10.0.0.1", "10.0.0.250", 6, 4000, 4001, out_interface="eth0")
    other = Packet(4, "output", "10.0.0.1", "10.0.0.251", 6, 4000, 4001, out_interface="eth0")
    state = agent.kernel.filter_state()
    assert (evaluate(out, state).accepted, evaluate(other, state).accepted) == (True, False)


def test_tables_are_read_back_whole_now_and_then(kernel: FakeKernel) -> None:
    """What a writer that ignores the lock changed just as we wrote is believed to be ours, until everything is read again."""
    applier = Applier(kernel)
    marks = Marks.from_mask(0xFF000000)
    wanted = Ruleset({FILTER: Table({"hw-INPUT": (Rule((), DROP),)}, {"INPUT": Hook((Rule((), Jump("hw-INPUT")),))})})
    applier.bring(wanted, marks)
    kernel.chains[FILTER]["hw-INPUT"] = ()
    kernel._seen[FILTER] = kernel._content(FILTER)  # as if the commit itself had left it so
    assert not any(applier.looks())
    applier.distrust_tables()
    assert any(applier.looks())
    assert applier.repair().tables == {FILTER: 1}
    assert kernel.chains[FILTER]["hw-INPUT"] == (Rule((), DROP),)
    assert not any(applier.looks())


WEP = {"spec": {"node": "w1", "interfaceName": "cali1", "ipNetworks": ["10.0.1.5/32"], "profiles": ["kns.shop"]}}
PODS = LINKS | {name: Link(name, index, True) for index, name in enumerate(("cali1", "cali2"), 5)}


def test_what_was_written_is_read_back_unless_something_waits(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Callable[[], bool]] = []
    monkeypatch.setattr(kernel, "verify", asked.append)
    applier, wanted = Applier(kernel), Ruleset({FILTER: Table({"hw-INPUT": (Rule((), DROP),)}, {})})

    def hurry() -> bool:
        return True

    applier.bring(wanted, Marks.from_mask(0xFF000000), None, hurry)
    assert asked == [hurry]
    kernel.chains[FILTER].clear()
    assert any(applier.looks())
    applier.repair()
    assert not asked[1]()


def test_a_change_that_was_undone_at_once_is_made_again(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def undone(_: Callable[[], bool]) -> None:
        monkeypatch.undo()
        kernel.chains[FILTER].clear()
        raise KernelError("it is not as it was written", retry=True)

    monkeypatch.setattr(kernel, "verify", undone)
    wanted = Ruleset({FILTER: Table({"hw-INPUT": (Rule((), DROP),)}, {})})
    Applier(kernel).bring(wanted, Marks.from_mask(0xFF000000))
    assert kernel.chains[FILTER] == {"hw-INPUT": (Rule((), DROP),)}


def test_no_packet_waits_until_a_change_is_kept(agent: Agent, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    agent.snapshot(CLOSED)
    order: list[str] = []
    kernel.on_change = lambda: order.append("kernel")
    monkeypatch.setattr(agent.memory, "write", lambda: order.append("memory"))
    agent.put(globalnetworkpolicies__p=policy())
    until(lambda: "memory" in order)
    assert order[-1] == "memory"
    assert "kernel" in order


def test_workloads_are_told_of(agent: Agent) -> None:
    def states() -> list[str]:
        series = (line.partition('hostward_workload_interfaces{state="')[2] for line in agent.text().splitlines())
        return [one.replace('"}', "") for one in series if one]

    agent.mailbox.links(PODS)
    agent.snapshot(CLOSED)
    until(lambda: agent.beats > 1)  # so that there is a status
    until(lambda: agent.status().cut_off == ("cali1", "cali2"))
    assert states() == ["active 0.0", "isolated 0.0", "cut-off 2.0"]
    agent.put(
        workloadendpoints__shop__w=WEP, networkpolicies__shop__web=policy(selector=""), globalnetworkpolicies__all=policy()
    )
    agent.put(workloadendpoints__shop__x={"spec": WEP["spec"] | {"interfaceName": "cali9", "colour": 1}})
    until(lambda: len(agent.status().workloads) == 2)
    assert agent.status().cut_off == ("cali2",)
    assert [(one.name, one.endpoint, one.addresses, one.isolated) for one in agent.status().workloads] == [
        ("cali1", "shop/w", ("10.0.1.5",), False),
        ("cali9", "shop/x", ("10.0.1.5",), True),
    ]
    assert [hook.policies for one in agent.status().workloads for hook in one.hooks] == [("all", "shop/web")]
    assert states() == ["active 1.0", "isolated 1.0", "cut-off 1.0"]
    agent.put(workloadendpoints__shop__w=None)
    until(lambda: agent.status().cut_off == ("cali1", "cali2"))
    agent.mailbox.links(LINKS)
    until(lambda: agent.status().cut_off == ())


def test_before_anything_was_applied_nothing_is_known_to_be_cut_off(agent: Agent) -> None:
    agent.mailbox.links(PODS)
    beats = agent.beats
    until(lambda: agent.beats > beats + 1)
    assert agent.status().cut_off == ()


def test_the_stores_objects_are_counted_by_kind(agent: Agent) -> None:
    staged = {"stagednetworkpolicies/shop/a": b"whatever", "stagedglobalnetworkpolicies/b": {}}
    policies = {"networkpolicies/shop/web": policy(), "globalnetworkpolicies/web": policy(), "networkpolicies/shop/b": b"{"}
    agent.snapshot({**CLOSED, **staged, **policies, "workloadendpoints/shop/w": WEP, "hostendpoints/w2": HEP})
    for series in (
        'hostward_objects{kind="StagedNetworkPolicy"} 1.0',
        'hostward_objects{kind="StagedGlobalNetworkPolicy"} 1.0',
        'hostward_objects{kind="NetworkPolicy"} 1.0',
        'hostward_objects_set_aside{kind="NetworkPolicy"} 1.0',
        'hostward_objects{kind="WorkloadEndpoint"} 1.0',
        "felix_cluster_num_policies 2.0",
        "felix_cluster_num_workload_endpoints 1.0",
        "felix_active_local_endpoints 2.0",
    ):
        until(lambda series=series: series in agent.text())  # it is told only after it is in force
    assert agent.lets_in(80)  # by the global policy; the staged ones do nothing
