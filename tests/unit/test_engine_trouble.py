"""The engine when the kernel, the store and the settings misbehave at the same time: nothing opens, spins, is lost or lies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostward.dataplane.fake import FakeKernel, Foreign
from hostward.dataplane.kernel import KernelError, Step, TableEdit
from hostward.datastore.feed import Changes
from hostward.engine.applier import Applier
from hostward.engine.schedule import Checks, Every, Retry
from hostward.model.keys import ROOT
from hostward.model.links import Link
from hostward.render.evaluate import Packet, evaluate
from hostward.render.marks import Marks
from hostward.render.ruleset import ACCEPT, FAMILIES, TABLES, InSet, Rule, Ruleset, TableId
from tests.unit.engines import CLOSED, FILTER, HEP, LINKS, READY, Agent, policy, until


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


@pytest.fixture
def agent(tmp_path: Path, kernel: FakeKernel) -> Iterator[Agent]:
    found = Agent(tmp_path, kernel)
    yield found
    found.end()


def refused_edits(step: Step) -> KernelError | None:
    return KernelError("no memory", step=step) if isinstance(step, TableEdit) else None


def send(agent: Agent, path: str, value: object) -> None:
    """A change that needn't be applied."""
    agent.revision += 1
    agent.mailbox.changes(Changes(agent.revision, {ROOT + path: agent.stored(value)}))


def is_closed(agent: Agent, family: int, interface: str = "eth0") -> bool:
    source, target = ("192.0.2.9", "10.0.0.1") if family == 4 else ("2001:db8::9", "fd00::1")
    packet = Packet(4 if family == 4 else 6, "input", source, target, 6, 4000, 81, in_interface=interface)
    return not evaluate(packet, agent.kernel.filter_state()).accepted


# --- idleness ----------------------------------------------------------------------------------------------------------
def test_waiting_takes_no_processor(agent: Agent, kernel: FakeKernel) -> None:
    def rounds_while(seconds: float) -> int:
        before = agent.beats
        time.sleep(seconds)
        return agent.beats - before

    assert rounds_while(0.3) < 10  # before there is a snapshot
    agent.snapshot(CLOSED)
    kernel.refuse = refused_edits
    send(agent, "globalnetworkpolicies/web", policy())
    until(lambda: "no memory" in agent.health.readiness().text)
    assert rounds_while(1) < 40  # a check each 0.1 s, and retries that become rare
    kernel.refuse = None
    agent.settled()
    agent.snapshot({})
    kernel.unreadable.add(FILTER)
    until(lambda: "cannot read table filter/v4" in agent.health.readiness().text)
    assert rounds_while(1) < 20


def test_a_kernel_that_only_cannot_be_asked_is_not_counted_as_exposed(agent: Agent, kernel: FakeKernel) -> None:
    def exposed() -> float:
        return next(float(line.split()[1]) for line in agent.text().splitlines() if line.startswith("hostward_exposure_"))

    agent.snapshot(CLOSED)
    until(lambda: "hostward_drift_check_seconds_count 0" not in agent.text())
    kernel.refuse = refused_edits  # after a refusal nothing is remembered: a look has nothing to compare with
    kernel.unreadable.add(FILTER)
    send(agent, "globalnetworkpolicies/web", policy())
    until(lambda: "cannot read table filter/v4" in agent.health.readiness().text)
    time.sleep(0.5)
    assert exposed() == 0
    kernel.unreadable.clear()
    kernel.refuse = None
    agent.settled()
    assert exposed() == 0
    kernel.builtins[FILTER]["INPUT"] = ()
    until(lambda: exposed() > 0)


def test_other_intervals_count_from_now() -> None:
    checks, sets = Checks(3600.0), Every(0.0)
    checks.done(100.0, 0.0)
    assert checks.due == 3700.0
    checks.follow(1.0, 200.0)
    assert checks.due == 201.0
    checks.follow(3600.0, 200.5)
    assert checks.due == 201.0
    sets.follow(90.0, 100.0)
    assert not sets.is_due(189.0)
    assert sets.is_due(190.0)


def test_a_failed_check_is_made_again_long_before_an_interval_of_an_hour() -> None:
    checks = Checks(3600.0)
    for now in range(20):
        checks.failed(float(now))
    assert checks.due - 19 == 10.0
    checks.done(30.0, 0.0)
    assert (checks.due, checks.delay) == (3630.0, 0.1)


def test_who_is_kept_waiting_by_somebody_else_tries_again_soon() -> None:
    """A lock that is free again must not stay unused for ten seconds (docs/reliability.md L1)."""
    refused, waiting = Retry(), Retry()
    for now in range(20):
        refused.failed(float(now))
        waiting.failed(float(now), soon=True)
    assert (refused.due, waiting.due) == (29.0, 20.0)


# --- refusals ----------------------------------------------------------------------------------------------------------
def test_tampering_is_repaired_while_the_kernel_refuses_a_change(agent: Agent, kernel: FakeKernel) -> None:
    agent.snapshot(CLOSED)
    web = policy(port="web-port")
    kernel.refuse = lambda step: None if isinstance(step, TableEdit) else KernelError("no memory", step=step)
    send(agent, "globalnetworkpolicies/web", web)
    until(lambda: "no memory" in agent.health.readiness().text)
    kernel.builtins[FILTER]["INPUT"] = ()
    until(lambda: is_closed(agent, 4))
    assert f"hostward_applied_revision {float(agent.revision)}" not in agent.text()
    assert not agent.health.readiness().ok


def test_tampering_is_repaired_in_a_frozen_state_after_a_check_failed(agent: Agent, kernel: FakeKernel) -> None:
    agent.snapshot(CLOSED)
    agent.snapshot({})
    kernel.unreadable.add(FILTER)
    until(lambda: "cannot read table filter/v4" in agent.health.readiness().text)
    kernel.builtins[FILTER]["INPUT"] = ()
    kernel.unreadable.clear()
    until(lambda: is_closed(agent, 4))
    until(lambda: "cannot read table" not in agent.health.readiness().text)


@pytest.mark.parametrize("missing", ["spoken", "unreadable"])
def test_one_family_is_guarded_without_the_other(tmp_path: Path, kernel: FakeKernel, missing: str) -> None:
    if missing == "spoken":
        kernel.spoken = (4,)
    else:
        kernel.unreadable = {TableId(6, name) for name in TABLES}
    agent = Agent(tmp_path, kernel)
    agent.snapshot_without_waiting({**CLOSED, "globalnetworkpolicies/web": policy(), "hostendpoints/w1-eth1": {"spec": {}}})
    until(lambda: is_closed(agent, 4))
    kernel.builtins[FILTER]["INPUT"] = ()
    until(lambda: is_closed(agent, 4))
    if missing == "spoken":
        agent.settled()
        assert agent.health.readiness().ok
    else:
        assert "hostward_applied_revision 0.0" in agent.text()
        assert "v6" in agent.health.readiness().text
        kernel.unreadable.clear()
        until(lambda: is_closed(agent, 6), 20)
        agent.settled()
    agent.end()


def test_a_set_that_somebody_else_uses_holds_nothing_up(agent: Agent, kernel: FakeKernel) -> None:
    """I-24: and no change of IPv6 waits behind it."""
    source = {"action": "Allow", "source": {"selector": "a == 'b'"}}
    agent.snapshot({**CLOSED, "globalnetworkpolicies/web": {"spec": {"selector": "all()", "ingress": [source]}}})
    (name,) = (name for name in kernel.sets if name.startswith("hw4-"))
    kernel.builtins[FILTER]["INPUT"] += (Foreign(b"theirs", Rule((InSet(name, ("src",)),), ACCEPT)),)
    agent.put(globalnetworkpolicies__web=None)
    assert list(kernel.sets) == [name]
    assert agent.health.readiness().ok
    kernel.builtins[FILTER]["INPUT"] = kernel.builtins[FILTER]["INPUT"][:-1]
    until(lambda: not kernel.sets, 5)


def test_our_own_half_done_change_is_no_tampering(agent: Agent, kernel: FakeKernel) -> None:
    agent.snapshot(CLOSED)
    source = {"action": "Allow", "source": {"selector": "a == 'b'"}}
    kernel.refuse = refused_edits
    send(agent, "globalnetworkpolicies/web", {"spec": {"selector": "all()", "ingress": [source]}})
    until(lambda: "no memory" in agent.health.readiness().text)
    time.sleep(0.3)
    kernel.refuse = None
    agent.settled()
    repairs = [line for line in agent.text().splitlines() if line.startswith("hostward_repairs_total{")]
    assert all(line.endswith(" 0.0") for line in repairs)


def test_nothing_is_wanted_of_a_family_that_can_not_be_read() -> None:
    kernel = FakeKernel()
    kernel.unreadable = {TableId(family, name) for family in FAMILIES for name in TABLES}
    with pytest.raises(KernelError, match=r"raw/v4.*raw/v6"):
        Applier(kernel).bring(Ruleset(), Marks.from_mask(0xFF000000))


# --- settings and interfaces -------------------------------------------------------------------------------------------
def test_other_interfaces_to_leave_alone_are_followed_at_once(agent: Agent) -> None:
    agent.snapshot(CLOSED)
    agent.put(felixconfigurations__default={"spec": {"interfaceExclude": "eth0"}})
    assert not is_closed(agent, 4)
    agent.put(felixconfigurations__default=None)
    assert is_closed(agent, 4)


def test_interfaces_that_came_while_the_store_was_in_doubt_are_guarded_then(agent: Agent) -> None:
    by_address = {"spec": {"node": "w1", "expectedIPs": ["10.9.9.9"]}}
    objects = {**CLOSED, "hostendpoints/by-address": by_address}
    agent.snapshot(objects)
    agent.snapshot({})
    agent.mailbox.links({**LINKS, "eth1": Link("eth1", 3, True, frozenset({"10.9.9.9"}))})
    time.sleep(0.2)
    agent.snapshot(objects)
    assert is_closed(agent, 4, "eth1")


def test_a_kernel_that_may_not_be_touched_is_not(tmp_path: Path, kernel: FakeKernel) -> None:
    asked = threading.Event()

    def ready() -> bool:
        asked.set()
        return False

    agent = Agent(tmp_path, kernel, ready=ready)
    try:
        agent.snapshot_without_waiting({"clusterinformations/default": READY, "hostendpoints/w1-eth0": HEP})
        assert asked.wait(10)
        assert not kernel.read_table(FILTER).chains
    finally:
        agent.end()


def test_settings_that_need_a_restart_have_effect_after_it(agent: Agent, tmp_path: Path, kernel: FakeKernel) -> None:
    agent.snapshot({**CLOSED, "felixconfigurations/default": {"spec": {"healthPort": 9999}}})
    assert agent.loop._settings.health_port == 9999
    agent.end()
    again = Agent(tmp_path, kernel)
    assert again.loop._settings.health_port == 9999
    again.end()


# --- the store ---------------------------------------------------------------------------------------------------------
def test_a_cluster_without_a_guid_is_not_the_trusted_one(agent: Agent) -> None:
    """D12."""
    agent.snapshot(CLOSED)
    agent.snapshot({"clusterinformations/default": {"spec": {"datastoreReady": True}}})
    assert is_closed(agent, 4)
    assert agent.intake.frozen_kind == "other-cluster"
