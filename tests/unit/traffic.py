"""Kinds of traffic, who judges each of them, and a small world in which every policy that there could be is (H-10).

Each policy is in a tier of its own that passes on what it doesn't decide, and profiles allow the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from hostward.calc.calculate import calculate
from hostward.model.keys import ResourceKey
from hostward.model.resolved import Inputs, Scope
from hostward.model.resources import (
    DEFAULT_ALLOW_PROFILE,
    HostEndpoint,
    Policy,
    Resource,
    Tier,
    WorkloadEndpoint,
)
from hostward.model.rules import Action, Rule
from hostward.model.selectors import canonical
from hostward.model.settings import Settings
from hostward.render.evaluate import FilterState, Packet, of_ruleset
from hostward.render.options import options
from hostward.render.renderer import Renderer

NODE = "worker"
NAMESPACE = "projectcalico.org/namespace"
Kind = Literal["untracked", "preDNAT", "normal", "forward", "workload"]
Judge = tuple[Kind, str, str]
"""A policy by its kind, the endpoint that it selects (`*`: that of all other interfaces), and one of its directions."""
ENDPOINTS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "untracked": ("eth0", "eth1", "*"),
    "preDNAT": ("eth0", "eth1", "*"),
    "normal": ("eth0", "eth1", "*"),
    "forward": ("eth0", "eth1", "*"),
    "workload": ("cali1", "cali2"),
}
JUDGES: Final[tuple[Judge, ...]] = tuple(
    (kind, name, direction)
    for kind, found in ENDPOINTS.items()
    for name in found
    for direction in ("ingress", "egress")
    if (kind, direction) != ("preDNAT", "egress")
)
HERE, FAR, BEHIND, POD, SECOND, SERVICE = "192.0.2.1", "203.0.113.5", "10.0.20.5", "10.244.1.5", "10.244.2.5", "198.18.0.7"


def packet(path: Literal["input", "forward", "output"], source: str, target: str, enters: str = "", leaves: str = "") -> Packet:
    return Packet(4, path, source, target, 6, 40000, 30080, enters, leaves)


class Row(Struct, frozen=True):
    """A kind of traffic; who judges it under both meanings of forwarding, and who only where hosts' forwarding is `All`."""

    packet: Packet
    judges: str
    only_all: str = ""

    def expected(self, forwarding: str) -> set[Judge]:
        text = f"{self.judges}, {self.only_all}" if self.only_all and forwarding == "All" else self.judges
        found = {tuple(each.split()) for each in text.split(", ") if each}
        assert found <= set(JUDGES), found - set(JUDGES)
        return {judge for judge in JUDGES if judge in found}


def to(address: str, original: Packet) -> Packet:
    """The packet where nat sends it on to an address."""
    return replace(original, dnat=(address, 8080))


FROM_ETH0 = "untracked eth0 ingress, preDNAT eth0 ingress"
INTO_HOST = f"{FROM_ETH0}, normal eth0 ingress, forward eth0 ingress"
OUT_OF_HOST = "untracked eth0 egress, normal eth0 egress, forward eth0 egress"
ROUTED = Row(
    packet("forward", FAR, BEHIND, "eth0", "eth1"),
    f"{FROM_ETH0}, forward eth0 ingress, forward eth1 egress",
    "normal eth0 ingress, normal eth1 egress",
)
POD_IN = f"{FROM_ETH0}, forward eth0 ingress, workload cali1 ingress, forward * egress"
POD_OUT = "preDNAT * ingress, forward * ingress, workload cali1 egress"
TABLE: Final[Mapping[str, Row]] = {
    # As H-10 has them, row by row.
    "remote to local process": Row(packet("input", FAR, HERE, "eth0"), INTO_HOST),
    "local process to remote": Row(packet("output", HERE, FAR, "", "eth0"), OUT_OF_HOST),
    "local process to remote, DNATed": Row(to(FAR, packet("output", HERE, SERVICE, "", "eth0")), OUT_OF_HOST),
    "remote to pod": Row(packet("forward", FAR, POD, "eth0", "cali1"), POD_IN),
    "remote by DNAT to pod": Row(to(POD, packet("forward", FAR, HERE, "eth0", "cali1")), POD_IN),
    "remote by DNAT to other host": replace(ROUTED, packet=to(BEHIND, packet("forward", FAR, HERE, "eth0", "eth1"))),
    "pod to remote": Row(packet("forward", POD, FAR, "cali1", "eth0"), f"{POD_OUT}, forward eth0 egress"),
    "pod by DNAT to remote": Row(to(FAR, packet("forward", POD, SERVICE, "cali1", "eth0")), f"{POD_OUT}, forward eth0 egress"),
    "pod to local process": Row(packet("input", POD, HERE, "cali1"), "preDNAT * ingress, workload cali1 egress"),
    "local process to local pod": Row(packet("output", HERE, POD, "", "cali1"), ""),
    "local process by DNAT to local pod": Row(to(POD, packet("output", HERE, SERVICE, "", "cali1")), ""),
    "eth0 to eth1 routed": ROUTED,
    # What follows from its notes: H-17, H-18, D7.
    "pod to pod": Row(
        packet("forward", POD, SECOND, "cali1", "cali2"), f"{POD_OUT}, workload cali2 ingress, forward * egress"
    ),
    "pod by DNAT to itself": Row(
        to(POD, packet("forward", POD, SERVICE, "cali1", "cali1")), f"{POD_OUT}, workload cali1 ingress, forward * egress"
    ),
    "remote to local process by another interface": Row(
        packet("input", FAR, HERE, "eth9"), "preDNAT * ingress, normal * ingress, forward * ingress"
    ),
    "local process to remote by another interface": Row(
        packet("output", HERE, FAR, "", "eth9"), "normal * egress, forward * egress"
    ),
    "pod to remote by another interface": Row(
        packet("forward", POD, FAR, "cali1", "eth9"), f"{POD_OUT}, forward * egress"
    ),
    "other interface to eth1 routed": Row(
        packet("forward", FAR, BEHIND, "eth9", "eth1"),
        "preDNAT * ingress, forward * ingress, forward eth1 egress",
        "normal * ingress, normal eth1 egress",
    ),
    "loopback in": Row(packet("input", HERE, HERE, "lo"), ""),
    "loopback out": Row(packet("output", HERE, HERE, "", "lo"), ""),
}  # fmt: skip


def policy(judge: Judge, within: tuple[Rule, ...]) -> Policy:
    kind, name, direction = judge
    ingress, namespace = direction == "ingress", "default" if kind == "workload" else ""
    title = f"{kind.lower()}-{'any' if name == '*' else name}-{direction}"
    selector = f"name == '{name}'" + (f" && {NAMESPACE} == 'default'" if namespace else "")
    return Policy(
        ResourceKey("NetworkPolicy" if namespace else "GlobalNetworkPolicy", namespace, title),
        title,
        title,
        None,
        canonical(selector),
        ingress,
        not ingress,
        within if ingress else (),
        () if ingress else within,
        do_not_track=kind == "untracked",
        pre_dnat=kind == "preDNAT",
        apply_on_forward=kind not in ("normal", "workload"),
    )


def world(settled: Mapping[Judge, Action | None]) -> dict[ResourceKey, Resource]:
    """Every policy; those of `settled` with a rule for everything, or with None, at the end of a tier that denies."""
    found: dict[ResourceKey, Resource] = {}
    for name in ("eth0", "eth1", "*"):
        own = HostEndpoint(f"on-{'any' if name == '*' else name}", NODE, name, (), (DEFAULT_ALLOW_PROFILE,), (), {"name": name})
        found[ResourceKey("HostEndpoint", "", own.name)] = own
    for name, address in (("cali1", POD), ("cali2", SECOND)):
        labels = {"name": name, NAMESPACE: "default"}
        pod = WorkloadEndpoint("default", name, NODE, name, (address,), (DEFAULT_ALLOW_PROFILE,), labels=labels)
        found[ResourceKey("WorkloadEndpoint", "default", name)] = pod
    for judge in JUDGES:
        action = settled.get(judge)
        each = policy(judge, (Rule(action),) if action is not None else ())
        ends = judge in settled and action is None
        found[each.key] = each
        found[ResourceKey("Tier", "", each.tier)] = Tier(each.tier, None, Action.DENY if ends else Action.PASS)
    return found


def rules(choice: Settings, resources: Mapping[ResourceKey, Resource]) -> FilterState:
    """What a world asks of the kernel."""
    return of_ruleset(Renderer(options(choice, ())).render(calculate(Inputs(Scope(NODE), resources, {}))))
