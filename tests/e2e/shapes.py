"""States of a datastore in which the same traffic is allowed and the same is denied, each time by other means.

A transition between any two of them must not be felt by anybody: what both deny never passes, what both allow always does.
`Shapes` draws them at random from a seed. Knows the worker lab's addresses and nothing of our code.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from tests.e2e import documents as d
from tests.e2e.disturbance import State
from tests.lab.topology import WorkerLab

CLIENTS = WorkerLab.INTERNET
OTHERS = ("10.9.0.0/16", "172.20.0.0/14", "fd99::/16", "192.0.2.200", "fd98::7")


@dataclass(frozen=True)
class Traffic:
    """One class of traffic: its port before DNAT, and after it. `forwarded`: to a pod."""

    name: str
    port: int
    inner: int
    allowed: bool
    forwarded: bool


TRAFFIC = (
    Traffic("pass", 7001, 7001, allowed=True, forwarded=False),
    Traffic("deny", 7002, 7002, allowed=False, forwarded=False),
    Traffic("nodeport-shut", 30080, 8080, allowed=False, forwarded=True),
    Traffic("nodeport-open", 30081, 8081, allowed=True, forwarded=True),
)
FAILSAFE_PORT = 7003
DENIALS = (
    "normal",
    "preDNAT",
    "untracked",
    "set",
    "relabelled-set",
    "not-set",
    "tier",
    "end-of-tier",
    "preDNAT-set",
    "many-ports",
)
ALLOWANCES = ("rest", "normal", "set", "relabelled-set", "preDNAT", "untracked", "nets")


class Shapes:
    """Draws states. `log` has the means of each."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.label = 0
        self.log: list[dict[str, str]] = []

    def draw(self) -> State:
        """The next state: keys and documents of everything but ClusterInformation."""
        rng = self.rng
        self.label += 1
        means = {}
        for traffic in TRAFFIC:
            choices = ALLOWANCES if traffic.allowed else DENIALS
            means[traffic.name] = rng.choice(
                [m for m in choices if not (traffic.forwarded and traffic.allowed and m == "untracked")]
            )
        self.log.append(means)
        state: dict[str, d.Document] = {
            d.endpoint_key("public"): d.endpoint("public", "eth1"),
            d.endpoint_key("private"): d.endpoint("private", "eth0"),
            d.tier_key("default"): d.tier("default", 1000000),
            d.tier_key("gate"): d.tier("gate", 100, "Pass"),
        }
        # The label moves with every state, so that a selector and the set that it finds change together.
        labels = {"side": "client", "drawn": f"no{self.label}"}
        some = rng.sample(OTHERS, rng.randrange(len(OTHERS)))
        state[d.set_key("clients")] = d.network_set("clients", labels, [*CLIENTS, *some])
        state[d.set_key("trusted")] = d.network_set("trusted", {"trusted": "yes"}, rng.sample(OTHERS, 2))
        for traffic in TRAFFIC:
            state.update(self._policy(traffic, means[traffic.name]))
        state.update(self._rest(means))
        return state

    def _policy(self, traffic: Traffic, means: str) -> State:
        """The policy that decides on one class; it may change its kind under the same name, or its name."""
        name = f"{traffic.name}-{self.rng.randrange(2)}"
        action = "Allow" if traffic.allowed else "Deny"
        order = 20 if traffic.allowed else 10
        inner, outer = [traffic.inner], [traffic.port]
        drawn = f"drawn == 'no{self.label}'"
        early = {"applyOnForward": True}
        kinds: dict[str, tuple[list[d.Document], dict[str, bool]]] = {
            "normal": ([d.to_ports(action, inner)], {}),
            "set": ([d.to_ports(action, inner, selector="side == 'client'")], {}),
            "relabelled-set": ([d.to_ports(action, inner, selector=drawn)], {}),
            "not-set": ([d.to_ports(action, inner, notSelector="trusted == 'yes'")], {}),
            "nets": ([d.to_ports(action, inner, nets=[*CLIENTS, "10.77.0.0/16", "fd77::/16"])], {}),
            "many-ports": ([d.to_ports(action, [*range(9000, 9060, 3), *inner, "9100:9200"])], {}),
            "preDNAT": ([d.to_ports(action, outer)], {"preDNAT": True, **early}),
            "preDNAT-set": ([d.to_ports(action, outer, selector=drawn)], {"preDNAT": True, **early}),
            "untracked": ([d.to_ports(action, outer)], {"doNotTrack": True, **early}),
        }
        if means in ("rest", "end-of-tier"):
            return {}
        if means == "tier":
            # No Pass rule at its end: it would skip what the tier says of other classes. The tier itself passes on.
            return {d.policy_key(name, "gate"): d.policy(name, order, [d.to_ports(action, inner)], tier="gate")}
        rules, flags = kinds[means]
        document = d.policy(name, order, rules)
        document["spec"] |= flags
        return {d.policy_key(name): document}

    def _rest(self, means: Mapping[str, str]) -> State:
        """The last policy: it allows everything that others must deny, so that it leaks as soon as they don't."""
        if "end-of-tier" in means.values() or self.rng.random() < 0.3:
            open_ports = [
                t.inner for t in TRAFFIC if means[t.name] != "end-of-tier" and (not t.allowed or means[t.name] == "rest")
            ]
            rules = [d.to_ports("Allow", open_ports)] if open_ports else []
        else:
            rules = [{"action": "Allow"}]
        return {d.policy_key("rest"): d.policy("rest", 1000, rules)}
