"""States of a datastore in which a pod may send and get the same, each time by other means.

Its own labels, those of its namespace and of its peers change with most states, together with the selectors that find them.
Other pods come and go, also by themselves. Knows the cluster's names and nothing of our code.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from tests.e2e import cluster as c
from tests.e2e import documents as d
from tests.e2e.disturbance import State

# Ports: of the outside and of the neighbour to the pod, and of the pod to the outside.
GETS, NEVER_GETS = (7001, 7011), (7002, 7012)
SENDS, NEVER_SENDS = (7003,), (7004,)
UNWELCOME = 7021  # of the guest to the pod: denied by what the guest is labelled, or because nobody knows the guest
MEANS = ("namespaced", "global", "peers", "gate", "port-lists", "every-interface", "preDNAT", "preDNAT")


def rule(action: str, *ports: int | str, **source: str) -> c.Document:
    """One on UDP to ports."""
    return d.to_ports(action, ports, **source)


class PodShapes:
    """Draws states for the pod `web`, its neighbour `client` and a `guest`, all in the namespace red.

    `log` has the means of each.
    """

    def __init__(self, seed: int, web: c.Pod, client: c.Pod, guest: c.Pod) -> None:
        self.rng = random.Random(seed)
        self.web, self.client, self.guest = web, client, guest
        self.number = 0
        self.state: dict[str, c.Document] = {}
        self.others: list[int] = []
        self.log: list[tuple[str, str]] = []

    def draw(self) -> State:
        """The next state: keys and documents of everything but ClusterInformation."""
        if not self.state or self.rng.random() < 0.5:
            self.state = self._drawn()
        state = dict(self.state)
        if self.rng.random() < 0.5:
            state[self.guest.key] = self.guest.document()
        if self.rng.random() < 0.5:  # else the guest comes or goes alone, if anybody
            self.others = self.rng.sample(range(100, 140), self.rng.randrange(20))
        for number in self.others:
            other = c.Pod("red", f"other{number}", "one", c.pod_address("one", number), {"guest": "yes"})
            state[other.key] = other.document()
        return state

    def _drawn(self) -> dict[str, c.Document]:
        self.number += 1
        drawn = f"no{self.number}"
        gets, sends = self.rng.choice(MEANS), self.rng.choice(MEANS)
        self.log.append((gets, sends))
        labels = {"drawn": drawn, "friend": drawn}
        web, client = self.web.relabelled(app="web", **labels), self.client.relabelled(role="client", **labels)
        state: dict[str, c.Document] = {
            web.key: web.document(),
            client.key: client.document(),
            **c.namespace("red", team="red", drawn=drawn),
            d.tier_key("default"): d.tier("default", 1000000),
            d.tier_key("gate"): d.tier("gate", 100, "Pass"),
            d.set_key("friends"): d.network_set("friends", {"friend": drawn}, [*c.OUTSIDE, "10.77.0.0/16"]),
        }
        if "preDNAT" in (gets, sends) or self.rng.random() < 0.7:
            state |= c.host_endpoint("one", "*")
        guests = d.to_ports("Deny", [UNWELCOME], selector="guest == 'yes'", namespaceSelector="all()")
        state |= _in_tier("gate", c.global_policy("guests", "app == 'web'", order=1, ingress=[guests]))
        state |= self._policies("ingress", gets, drawn, GETS, NEVER_GETS)
        state |= self._policies("egress", sends, drawn, SENDS, NEVER_SENDS)
        return state

    def _policies(self, direction: str, means: str, drawn: str, allowed: tuple[int, ...], denied: tuple[int, ...]) -> State:
        """What allows some ports and denies others; all that isn't said is allowed by the namespace's profile."""
        name, on, fresh = f"{direction}-{self.rng.randrange(2)}", "app == 'web'", f"drawn == '{drawn}'"
        deny, rest = rule("Deny", *denied), {"action": "Allow"}
        match means:
            case "namespaced":
                return c.policy("red", name, f"{on} && {fresh}", **{direction: [rule("Allow", *allowed)]})
            case "global":
                scope = {"namespaceSelector": fresh, "order": 10}
                return c.global_policy(name, on, **scope, **{direction: [deny, rest]})
            case "peers" if direction == "ingress":
                peers = f"friend == '{drawn}'"
                mine = rule("Allow", *allowed, selector=peers)
                others = rule("Allow", *allowed, selector=peers, namespaceSelector="global()")
                return c.policy("red", name, on, ingress=[mine, others])
            case "gate":
                return _in_tier("gate", c.global_policy(name, f"{on} && {fresh}", **{direction: [deny]}))
            case "port-lists":
                listed: Iterable[int | str] = [*range(9000, 9060, 3), *allowed, "9100:9200"]
                return c.policy("red", name, on, **{direction: [rule("Allow", *listed)]})
            case "preDNAT":  # sees what enters by any interface, a pod's too
                return c.global_policy(name, "host == 'yes'", ingress=[deny], preDNAT=True, applyOnForward=True)
            case "every-interface":
                # Only hosts have these; where there is no `*` endpoint, the next policy denies.
                forward = c.global_policy(f"{name}-any", "host == 'yes'", ingress=[deny, rest], applyOnForward=True)
                return {**forward, **c.policy("red", name, on, **{direction: [deny, rest]})}
            case _:
                return c.policy("red", name, on, **{direction: [deny, rest]})


def _in_tier(tier: str, policies: State) -> State:
    """The same policies in another tier, under the name and key that it gives them."""
    moved = {}
    for key, document in policies.items():
        name = document["metadata"]["name"].replace("default.", f"{tier}.")
        spec = {**document["spec"], "tier": tier}
        moved[key.replace("default.", f"{tier}.")] = {**document, "metadata": {"name": name}, "spec": spec}
    return moved
