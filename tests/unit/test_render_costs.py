"""What a packet pays: with how many rules it is compared on its whole way, exactly. docs/chains.md says which they are."""

from __future__ import annotations

from typing import Final

import pytest
from msgspec.structs import replace

from hostward.model.keys import ResourceKey
from hostward.model.resolved import PolicyLists, Resolved, ResolvedEndpoint, ResolvedWorkload, TierPolicies
from hostward.model.resources import Policy
from hostward.model.rules import Action, Entity, PortRange, Ports, Rule
from hostward.model.settings import BUILT_IN
from hostward.render.evaluate import Packet, evaluate, of_ruleset
from hostward.render.options import options
from hostward.render.renderer import Renderer

POLICIES: Final = 20
HERE, FAR, BEHIND, POD = "192.0.2.1", "203.0.113.5", "10.0.20.5", "10.244.1.5"
OPTIONS = options(BUILT_IN, ())


def policy(number: int, rules: int) -> Policy:
    """For TCP to one port, the last one for 8080; in each direction. Of several rules, each for another network."""
    key = ResourceKey("GlobalNetworkPolicy", "", f"policy-{number}")
    port = 8080 if number == POLICIES - 1 else 1000 + number
    ports = Entity(ports=Ports((PortRange(port, port),)))
    made = tuple(
        Rule(Action.ALLOW, protocol=6, source=Entity(nets=(f"198.51.100.{n}/32",)), destination=ports) for n in range(rules - 1)
    )
    made += (Rule(Action.ALLOW, protocol=6, destination=ports),)
    return Policy(key, key.name, "default", float(number), "all()", True, True, made, made)


def world(rules: int, pods: int = 1) -> Resolved:
    policies = [policy(number, rules) for number in range(POLICIES)]
    keys = tuple(found.key for found in policies)
    tiers = (TierPolicies("default", Action.DENY, keys, keys),)
    hosts = {name: ResolvedEndpoint(name, name, PolicyLists(normal=tiers)) for name in ("eth0", "eth1")}
    names = [f"cali{n:011x}" for n in range(pods)]
    workloads = {name: ResolvedWorkload(name, name, (POD,), tiers) for name in names}
    return Resolved(hosts, {found.key: found for found in policies}, {}, {}, workloads)


FLOWS: Final = {
    "to this host": Packet(4, "input", FAR, HERE, 6, 40000, 8080, "eth0"),
    "from this host": Packet(4, "output", HERE, FAR, 6, 40000, 8080, "", "eth0"),
    "between hosts": Packet(4, "forward", FAR, BEHIND, 6, 40000, 8080, "eth0", "eth1"),
    "to a pod": Packet(4, "forward", FAR, POD, 6, 40000, 8080, "eth0", "cali00000000000"),
    "from a pod": Packet(4, "forward", POD, FAR, 6, 40000, 8080, "cali00000000000", "eth0"),
    "between pods": Packet(4, "forward", POD, POD, 6, 40000, 8080, "cali00000000000", "cali00000000001"),
    "ungoverned": Packet(4, "input", FAR, HERE, 6, 40000, 8080, "eth9"),
}


def compared(packet: Packet, resolved: Resolved) -> tuple[int, bool]:
    outcome = evaluate(packet, of_ruleset(Renderer(OPTIONS).render(resolved)))
    return outcome.compared, outcome.accepted


@pytest.mark.parametrize(
    ("flow", "pods", "established", "new", "denied", "udp"),
    [
        ("ungoverned", 1, 5, 5, 5, 5),
        ("to this host", 1, 5, 37, 37, 17),
        ("from this host", 1, 6, 39, 38, 18),
        ("between hosts", 1, 12, 73, 36, 16),
        ("to a pod", 500, 11, 40, 36, 16),
        ("from a pod", 500, 11, 42, 37, 17),
        ("between pods", 500, 15, 75, 37, 17),
    ],
)
def test_small_policies(flow: str, pods: int, established: int, new: int, denied: int, udp: int) -> None:
    """Twenty policies of one rule a side, for TCP, of which the last one matches or none."""
    packet, resolved = FLOWS[flow], world(1, pods)
    passes = flow == "ungoverned"
    assert compared(replace(packet, state="ESTABLISHED"), resolved) == (established, True)
    assert compared(packet, resolved) == (new, True)
    assert compared(replace(packet, destination_port=9), resolved) == (denied, passes)
    assert compared(replace(packet, protocol=17), resolved) == (udp, passes)


@pytest.mark.parametrize(
    ("flow", "new", "udp"), [("to this host", 114, 17), ("between hosts", 227, 16), ("from a pod", 117, 15)]
)
def test_policies_with_a_chain_of_their_own(flow: str, new: int, udp: int) -> None:
    """Twenty policies of three rules: packets of another protocol don't enter them."""
    assert compared(FLOWS[flow], world(3)) == (new, True)
    assert compared(replace(FLOWS[flow], protocol=17), world(3)) == (udp, False)


def test_the_number_of_interfaces_hardly_matters() -> None:
    few, many = (compared(replace(FLOWS["from a pod"], state="ESTABLISHED"), world(1, pods))[0] for pods in (8, 1000))
    assert many - few <= 2 * 16


def test_many_host_interfaces_are_a_tree() -> None:
    resolved = world(1)
    many = {f"eth{n}": replace(resolved.endpoints["eth0"], interface=f"eth{n}") for n in range(64)}
    open_ = replace(FLOWS["to this host"], state="ESTABLISHED")
    costs = [compared(replace(open_, in_interface=name), replace(resolved, endpoints=many))[0] for name in many]
    assert max(costs) <= 8 + 9 + 10
