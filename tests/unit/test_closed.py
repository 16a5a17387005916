"""Without a set that the kernel refuses, nothing passes that any content of the set would keep out."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hostward.dataplane.fake import FakeKernel
from hostward.dataplane.kernel import CreateSet, KernelError, Step
from hostward.model.resolved import PolicyLists, Resolved, ResolvedEndpoint, TierPolicies
from hostward.model.resources import Policy
from hostward.model.rules import Action, Entity, PortRange, Ports, Rule
from hostward.model.sets import NamedPortSet
from hostward.render.closed import own_set, without_sets
from hostward.render.evaluate import Packet, evaluate, of_ruleset
from hostward.render.ruleset import Ruleset, TableId
from tests.unit import worlds
from tests.unit.engines import CLOSED, Agent, policy, to_port, until
from tests.unit.test_engine_trouble import send


def contents(packet: Packet, kind: str) -> Iterator[frozenset[str]]:
    """Every content of a set that this packet can tell from another."""
    sides = (packet.source, packet.source_port), (packet.destination, packet.destination_port)
    translated = packet.dnat or sides[1]
    names = [address if kind == "hash:net" else f"{address},tcp:{port}" for address, port in (*sides, translated)]
    for bits in range(1 << len(names)):
        yield frozenset(name for at, name in enumerate(names) if bits >> at & 1)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**48))
def test_what_passes_without_a_set_passes_with_any_content_of_it(seed: int) -> None:
    rng = random.Random(seed)
    whole = worlds.ruleset(worlds.world(rng))
    raw = whole.tables[TableId(4, "raw")]
    by_raw = {used for chain in raw.chains.values() for rule in chain for used in rule.uses_sets()}
    names = sorted(
        whole.sets.keys() - by_raw
    )  # what raw allows is untracked, and so meets other rules later than what it doesn't
    if not names:
        return
    name = rng.choice(names)
    closed = without_sets(whole, [name])
    assert name not in closed.sets
    assert not any(name in r.uses_sets() for t in closed.tables.values() for chain in t.chains.values() for r in chain)
    for _ in range(25):
        packet = worlds.packet(rng)
        if not evaluate(packet, of_ruleset(closed)).accepted:
            continue
        for members in contents(packet, whole.sets[name].type):
            sets = {**whole.sets, name: replace(whole.sets[name], members=members)}
            assert evaluate(packet, of_ruleset(Ruleset(whole.tables, sets))).accepted, (name, members, packet)


def test_a_plan_keeps_copies_of_sets_under_names_that_tell_whose_they_are() -> None:
    sets = next(held for seed in range(99) if (held := worlds.ruleset(worlds.world(random.Random(seed))).sets))
    name = sorted(sets)[0]
    assert own_set(name, sets) == own_set(name.replace("-", "~", 1), sets) == name
    assert own_set("hw4~0123", sets) is None


@pytest.mark.parametrize(("action", "passing"), [(Action.ALLOW, {80}), (Action.DENY, set())])
def test_a_port_name_among_ports_is_closed_too(action: Action, passing: set[int]) -> None:
    """D4: the Allow still lets its numbers in; the Deny keeps out what may have the name."""
    ports = Ports((PortRange(80, 80),), names=("http",))
    rules = (Rule(action, protocol=6, destination=Entity(ports=ports)), Rule(Action.ALLOW, protocol=17))
    key = worlds.key("p")
    judged = Policy(key, "p", "default", None, "all()", True, False, rules)
    lists = PolicyLists(normal=(TierPolicies("default", Action.DENY, (key,)),))
    named = NamedPortSet("all()", 6, "http")
    whole = worlds.ruleset(Resolved({"eth0": ResolvedEndpoint("eth0", "e", lists)}, {key: judged}, {}, {named: frozenset()}))
    assert len(whole.sets) == 1
    state = of_ruleset(without_sets(whole, whole.sets.keys()))
    found = {port for port in (80, 443) if evaluate(to_port(port), state).accepted}
    assert found == passing


def test_nothing_differs_where_the_set_is_not_used() -> None:
    whole = worlds.ruleset(worlds.world(random.Random(5)))
    assert without_sets(whole, ["hw4-other"]) == whole


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    found = Agent(tmp_path, FakeKernel())
    yield found
    found.end()


def from_set(action: str, ports: list[int], name: str, order: int) -> dict[str, object]:
    rule = {"action": action, "protocol": "TCP", "destination": {"ports": ports}, "source": {"selector": f"set == '{name}'"}}
    return policy(order=order, ingress=[rule])


def test_a_refused_set_holds_up_its_own_rules_and_nothing_else(agent: Agent) -> None:
    """A full set (issue: fails closed): its Allow lets nobody in, its Deny nobody through; all others are in force."""
    agent.snapshot(CLOSED)

    def refused(step: Step) -> KernelError | None:
        full = isinstance(step, CreateSet) and "198.51.100.0/24" in step.set.members
        return KernelError("set: it is full (error 4352)", step=step) if full else None

    agent.kernel.refuse = refused
    send(
        agent,
        "globalnetworksets/big",
        {"metadata": {"labels": {"set": "big"}}, "spec": {"nets": ["198.51.100.0/24", "192.0.2.0/24"]}},
    )
    send(agent, "globalnetworksets/small", {"metadata": {"labels": {"set": "small"}}, "spec": {"nets": ["192.0.2.0/24"]}})
    send(agent, "globalnetworkpolicies/a", from_set("Allow", [81, 83], "big", 1))
    send(agent, "globalnetworkpolicies/b", from_set("Deny", [82], "big", 2))
    send(agent, "globalnetworkpolicies/c", from_set("Allow", [83], "small", 3))
    send(agent, "globalnetworkpolicies/d", policy(port="82:84", order=4))

    def passing() -> set[int]:
        return {port for port in (81, 82, 83, 84, 85) if evaluate(to_port(port), agent.kernel.filter_state()).accepted}

    until(lambda: passing() == {83, 84})
    until(lambda: "it is full" in agent.health.readiness().text)
    assert f"hostward_applied_revision {float(agent.revision)}" not in agent.text(), "not every effect is in the kernel"
    agent.kernel.refuse = None
    agent.settled()
    assert passing() == {81, 83, 84}
    assert "it is full" not in agent.health.readiness().text
