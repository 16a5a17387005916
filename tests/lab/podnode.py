"""A node with pods behind `cali` interfaces, a real agent with its etcd beside them, and what comes of packets between pods.

```
outside 192.0.2.7 ── eth0 NODE cali… ── pods, each a namespace with an address of either family or both
```

One process in each pod serves and asks. Knows nothing of what policies mean.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from hostward.convert.kubernetes_pods import interface_name
from tests.e2e import documents as d
from tests.lab import pipeline
from tests.lab.agent import Agent
from tests.lab.etcd import Etcd
from tests.lab.pod_model import Packet
from tests.lab.probes import Outcome, Probe, Prober, probe_all
from tests.lab.topology import Host, Network

OUTSIDE = ("192.0.2.7", "2001:db8:f::7")
UPLINK = ("192.0.2.1", "2001:db8:f::1")
SCTP = 132
PROBED = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp-init", "ICMP": "icmp"}
WINDOW, SECOND_WINDOW = 0.3, 3.0  # seconds; an answer takes some milliseconds, unless the machine is busy
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What came of a packet. `heard`: its question arrived, whether or not the answer got back. `again`: at the second try."""

    outcome: Outcome
    heard: bool
    again: bool = False

    @property
    def passed(self) -> bool:
        """Whether question and answer got through."""
        return bool(self.outcome)


class Party(Prober):
    """Who asks and answers in one namespace."""

    def __init__(self, host: Host, tcp: Sequence[int], udp: Sequence[int]) -> None:
        super().__init__(host)
        try:
            self.ask(10, do="listen", tcp=list(tcp), udp=list(udp), protocols=[SCTP])
        except BaseException:
            self.close()
            raise

    def heard(self) -> set[str]:
        """Tokens of the last questions that arrived."""
        return set(self.ask(20, do="heard")["heard"])


@dataclass
class Pod:
    """A pod's namespace, the node's end of its interface, and who is in it."""

    host: Host
    interface: str
    addresses: tuple[str, ...]
    party: Party


class PodNode(Network):
    """The node. What it starts ends with `stack`. `tcp` and `udp`: the ports that everybody serves; all answer SCTP INITs."""

    def __init__(self, stack: ExitStack, *, tcp: Sequence[int] = (80, 81), udp: Sequence[int] = (80, 81)) -> None:
        super().__init__()
        stack.callback(self.close)
        self.stack, self.tcp, self.udp = stack, tcp, udp
        self.pods: dict[str, Pod] = {}
        self.stored: dict[str, bytes] = {}
        self.node = self.host("node", router=True)
        outside = self.host("outside")
        self.link(
            self.node, "eth0", [f"{UPLINK[0]}/24", f"{UPLINK[1]}/64"],
            outside, "eth0", [f"{OUTSIDE[0]}/24", f"{OUTSIDE[1]}/64"],
        )  # fmt: skip
        outside.ip(f"route add default via {UPLINK[0]}", f"route add ::/0 via {UPLINK[1]}")
        self.node.ip(f"route add default via {OUTSIDE[0]}", f"route add ::/0 via {OUTSIDE[1]}")
        self.outside = stack.enter_context(Party(outside, tcp, udp))
        self.etcd = stack.enter_context(Etcd(self.node))
        self.etcd.put(d.CLUSTER, d.cluster())
        self.agent = stack.enter_context(Agent(self.node, env=self.etcd.env, node=pipeline.NODE))

    # --- pods ----------------------------------------------------------------------------------------------------------
    def have(self, pods: Mapping[str, Sequence[str]]) -> None:
        """Makes these the pods, each `namespace/name` with its addresses; others are unplugged."""
        for name in [name for name, pod in self.pods.items() if tuple(pods.get(name, ())) != pod.addresses]:
            self.unplug(name)
        for name, addresses in pods.items():
            if name not in self.pods:
                self.plug(name, tuple(addresses))

    def plug(self, name: str, addresses: tuple[str, ...]) -> None:
        """A new pod."""
        namespace, _, own = name.partition("/")
        interface = interface_name(namespace, own, "cali")
        host = self.add_pod(f"{namespace}-{own}", self.node, interface, *addresses)
        self.pods[name] = Pod(host, interface, addresses, Party(host, self.tcp, self.udp))
        self.stack.callback(self.pods[name].party.close)

    def unplug(self, name: str) -> None:
        """Ends a pod: its process, its interface, its routes."""
        pod = self.pods.pop(name)
        pod.party.close()
        self.node.ip(f"link del {pod.interface}")
        pod.host.close()

    # --- what is stored ------------------------------------------------------------------------------------------------
    def enforce(self, objects: Iterable[Document]) -> None:
        """Makes these objects, of Kubernetes or v3, all that the store holds, in one transaction; waits until it is applied.

        Nothing may be set aside. No flow is open then.
        """
        content = pipeline.stored(objects)
        puts = {path: value.decode() for path, value in content.items() if self.stored.get(path) != value}
        gone = [path for path in self.stored if path not in content]
        if puts or gone:
            self.stored = content
            self.agent.wait_applied(self.etcd.transaction(puts, gone), 60)
        status = self.agent.status()
        assert status["setAsideCount"] == 0, json.dumps(status["setAside"], indent=1)
        self.node.forget_flows()

    # --- packets -------------------------------------------------------------------------------------------------------
    def party(self, address: str) -> Party:
        """Who has an address."""
        for pod in self.pods.values():
            if address in pod.addresses:
                return pod.party
        assert address in OUTSIDE, address
        return self.outside

    def ask(self, packets: Sequence[Packet], expected: Sequence[bool]) -> list[Verdict]:
        """All at once, each as a new flow. One that was expected to pass and didn't is tried once more, with all the time that
        a busy machine may need; one that wasn't is never tried again."""
        first = self._ask(packets, WINDOW)
        lost = [place for place, verdict in enumerate(first) if expected[place] and not verdict.passed]
        second = self._ask([packets[place] for place in lost], SECOND_WINDOW)
        for place, verdict in zip(lost, second, strict=True):
            first[place] = Verdict(verdict.outcome, verdict.heard, again=True)
        return first

    def _ask(self, packets: Sequence[Packet], window: float) -> list[Verdict]:
        table: dict[Prober, list[Probe]] = {}
        places: dict[Prober, list[int]] = {}
        for place, packet in enumerate(packets):
            asker: Prober = self.party(packet.source)
            source = packet.source if packet.protocol != "ICMP" else None
            probe = Probe(packet.destination, packet.port, PROBED[packet.protocol], source, timeout=window)
            table.setdefault(asker, []).append(probe)
            places.setdefault(asker, []).append(place)
        found: dict[int, Outcome] = {}
        for asker, outcomes in probe_all(table).items():
            found.update(zip(places[asker], outcomes, strict=True))
        heard = {id(party): party.heard() for party in {self.party(packet.destination) for packet in packets}}
        return [
            Verdict(found[place], found[place].token in heard[id(self.party(packet.destination))])
            for place, packet in enumerate(packets)
        ]

    def drops(self) -> Counter[tuple[str, str]]:
        """Packets dropped so far by the chains of pods, by the pod's first address and the direction of the policies."""
        chains = {}
        for pod in self.pods.values():
            for direction, prefix in (("egress", "hw-fw-"), ("ingress", "hw-tw-")):
                chains[f"{prefix}{pod.interface}"] = (pod.addresses[0], direction)
        found: Counter[tuple[str, str]] = Counter()
        for line in self.node.run("iptables-legacy-save", "-c", "-t", "filter").splitlines():
            words = line.split()
            if line.startswith("[") and words[-1] == "DROP" and words[2] in chains:
                found[chains[words[2]]] += int(words[0][1:].partition(":")[0])
        return found
