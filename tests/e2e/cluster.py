"""A small cluster: worker nodes with pods on them, a client outside, one etcd, a real agent per node.

```
                     ┌─ eth0 node one: pods 10.244.1.0/24
 outside ── fabric ──┤
 203.0.113.5  (etcd) └─ eth0 node two: pods 10.244.2.0/24
```

Pods are wired and their documents made as Calico's network plugin does it. IPv6 twins throughout. Nothing is guarded but what
a test says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from hostward.convert import kubernetes_pods, kubernetes_profiles
from hostward.model import keys
from hostward.model.keys import ResourceKey
from tests.e2e import documents as d
from tests.lab.agent import Agent
from tests.lab.etcd import Etcd
from tests.lab.probes import Listener, Probe, Prober, probe_all
from tests.lab.topology import Host, Network

Document = dict[str, Any]
Pair = tuple[str, str]
Cell = tuple[str, int]
"""A way and an IP version."""
FABRIC: Pair = ("192.0.2.1", "2001:db8:2::1")
OUTSIDE: Pair = ("203.0.113.5", "2001:db8:5::5")
NODES: Mapping[str, int] = {"one": 1, "two": 2, "w1": 1, "w2": 2, "w3": 3}
PORTS = (80, 81, 8080, 9090)
OPEN_SECONDS, SHUT_SECONDS, AGAIN_SECONDS = 3.0, 0.2, (3.0, 10.0)


def node_addresses(node: str) -> Pair:
    """A node's own addresses."""
    number = NODES[node]
    return f"198.18.{number}.2", f"2001:db8:18:{number}::2"


def pod_address(node: str, number: int) -> Pair:
    """The addresses of a node's n-th pod."""
    return f"10.244.{NODES[node]}.{number}", f"fd00:244:{NODES[node]}::{number:x}"


@dataclass(frozen=True)
class Pod:
    """A pod as Kubernetes knows it. `ports`: name to TCP port. `account`: its service account; "" for none."""

    namespace: str
    name: str
    node: str
    addresses: Pair
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    ports: Mapping[str, int] = field(default_factory=dict, hash=False)
    account: str = ""

    @property
    def label(self) -> str:
        """What tests call it."""
        return f"{self.namespace}/{self.name}"

    @property
    def interface(self) -> str:
        """The node's end of its link."""
        return kubernetes_pods.interface_name(self.namespace, self.name, "cali")

    def document(self) -> Document:
        """Its workload endpoint, as Calico's network plugin writes it."""
        named = [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in self.ports.items()]
        manifest = {
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": dict(self.labels)},
            "spec": {"nodeName": self.node, "containers": [{"ports": named}], "serviceAccountName": self.account},
            "status": {"podIPs": [{"ip": address} for address in self.addresses]},
        }
        converted = kubernetes_pods.to_v3(manifest, self.namespace, "cali")
        (document,) = converted.documents
        assert not converted.problems
        return document

    @property
    def key(self) -> str:
        """Where it is stored."""
        return keys.path(ResourceKey("WorkloadEndpoint", self.namespace, self.document()["metadata"]["name"]))

    def relabelled(self, **labels: str) -> Pod:
        """The same pod with other labels."""
        return replace(self, labels=labels)


def namespace(name: str, **labels: str) -> dict[str, Document]:
    """A namespace's profile, by key."""
    (document,) = kubernetes_profiles.namespace_to_v3({"metadata": {"name": name, "labels": labels}}).documents
    return {keys.path(ResourceKey("Profile", "", f"kns.{name}")): document}


def service_account(where: str, name: str, **labels: str) -> dict[str, Document]:
    """A service account's profile, by key."""
    manifest = {"metadata": {"name": name, "namespace": where, "labels": labels}}
    (document,) = kubernetes_profiles.service_account_to_v3(manifest, where).documents
    return {keys.path(ResourceKey("Profile", "", document["metadata"]["name"])): document}


def global_policy(name: str, selector: str, **spec: Any) -> dict[str, Document]:
    """A GlobalNetworkPolicy by key; its `types` are the directions given."""
    return _policy("GlobalNetworkPolicy", "", name, selector, spec)


def policy(where: str, name: str, selector: str, **spec: Any) -> dict[str, Document]:
    """A NetworkPolicy of a namespace by key; its `types` are the directions given."""
    return _policy("NetworkPolicy", where, name, selector, spec)


def _policy(kind: str, where: str, name: str, selector: str, spec: Document) -> dict[str, Document]:
    types = [way.capitalize() for way in ("ingress", "egress") if way in spec]
    metadata = {"name": f"default.{name}", **({"namespace": where} if where else {})}
    fields = {"tier": "default", "selector": selector, "types": types, **spec}
    document = {"kind": kind, "apiVersion": keys.API_VERSION, "metadata": metadata, "spec": fields}
    return {keys.path(ResourceKey(kind, where, f"default.{name}")): document}


def host_endpoint(node: str, interface: str, **labels: str) -> dict[str, Document]:
    """A host endpoint of a node by key, labelled with the node."""
    name = f"{node}-{'any' if interface == '*' else interface}"
    document = d.endpoint(name, interface, node=node)
    document["metadata"]["labels"] = {"node": node, "host": "yes", **labels}
    return {d.endpoint_key(name): document}


class Cluster(Network):
    """`nodes` by name; `pods` by namespace/name; `etcd`; `agents`, not started yet; probers and listeners everywhere."""

    def __init__(self, stack: ExitStack, nodes: Sequence[str] = ("one", "two"), env: Mapping[str, str] | None = None) -> None:
        super().__init__()
        stack.callback(self.close)
        self.stack = stack
        self.pods: dict[str, Pod] = {}
        self.servers: dict[str, Listener] = {}
        self.probers: dict[str, Prober] = {}
        self.targets: dict[str, Pair] = {"outside": OUTSIDE}
        self.stored: dict[str, Document] = {}
        self.fabric = self.host("fabric", router=True)
        self.fabric.ip(f"address add {FABRIC[0]}/32 dev lo", f"address add {FABRIC[1]}/128 dev lo")
        self.nodes = {name: self._node(name) for name in nodes}
        outside = self.client("outside", self.fabric, "203.0.113.0/24", "2001:db8:5::/64")
        self.etcd = stack.enter_context(Etcd(self.fabric, FABRIC[0]))
        for name, host in (("outside", outside), *self.nodes.items()):
            self._speaks(name, host)
        self.agents = {
            name: stack.enter_context(Agent(host, env=self.etcd.env | dict(env or {}), node=name, start=False))
            for name, host in self.nodes.items()
        }
        self.etcd.put(d.CLUSTER, d.cluster())

    def _node(self, name: str) -> Host:
        host = self.host(name, router=True)
        (v4, v6), number = node_addresses(name), NODES[name]
        near4, near6 = f"198.18.{number}.1", f"2001:db8:18:{number}::1"
        self.link(host, "eth0", [f"{v4}/24", f"{v6}/64"], self.fabric, f"to-{name}", [f"{near4}/24", f"{near6}/64"])
        host.ip(f"route add default via {near4}", f"route add ::/0 via {near6}")
        self.fabric.ip(f"route add 10.244.{number}.0/24 via {v4}", f"route add fd00:244:{number}::/64 via {v6}")
        self.targets[name] = v4, v6
        return host

    def _speaks(self, name: str, host: Host) -> None:
        self.servers[name] = self.stack.enter_context(Listener(host, PORTS, PORTS))
        self.probers[name] = self.stack.enter_context(Prober(host))

    def pod(self, where: str, name: str, node: str, number: int, ports: Mapping[str, int] | None = None, **labels: str) -> Pod:
        """Wires a new pod and starts its servers; nothing is written about it."""
        pod = Pod(where, name, node, pod_address(node, number), labels, ports or {})
        host = self.add_pod(pod.label.replace("/", "-"), self.nodes[node], pod.interface, *pod.addresses)
        self.pods[pod.label], self.targets[pod.label] = pod, pod.addresses
        self._speaks(pod.label, host)
        return pod

    def host_of(self, pod: Pod) -> Host:
        """A pod's namespace."""
        return self.hosts[pod.label.replace("/", "-")]

    # --- what is stored --------------------------------------------------------------------------------------------------
    def bring(self, *groups: Mapping[str, Document]) -> int:
        """Makes these documents, and no others, what is stored, at one revision; waits until every agent that runs has it."""
        wanted = {key: document for group in groups for key, document in group.items()}
        puts = {key: json.dumps(document) for key, document in wanted.items() if self.stored.get(key) != document}
        deletes = [key for key in self.stored if key not in wanted]
        self.stored = wanted
        revision = self.etcd.transaction(puts, deletes) if puts or deletes else self.etcd.revision()
        self.applied(revision)
        return revision

    def put(self, key: str, document: str | bytes | Document) -> int:
        """Writes one document and waits for the agents; `bring` forgets it again if it knew the key."""
        self.stored.setdefault(key, {})
        revision = self.etcd.put(key, document)
        self.applied(revision)
        return revision

    def applied(self, revision: int) -> None:
        """Waits until every agent that runs has a revision in the kernel."""
        for agent in self.agents.values():
            if agent.alive:
                agent.wait_applied(revision)

    def endpoints(self, *pods: Pod) -> dict[str, Document]:
        """The workload endpoints of pods by key; of all where none are given."""
        return {pod.key: pod.document() for pod in pods or self.pods.values()}

    def start(self) -> None:
        """Starts every agent and waits until what is stored is in force."""
        revision = self.etcd.revision()
        for agent in self.agents.values():
            agent.start()
        self.applied(revision)

    # --- what is reached -------------------------------------------------------------------------------------------------
    def judge(self, expected: Mapping[str, bool], protocol: str | int = "tcp") -> None:
        """Compares what is reached, by both IP versions, with what should be.

        A cell is "SENDER > TARGET PORT", each a node, a pod's namespace/name or "outside". What must be shut isn't heard.
        What must be open and wasn't is tried again with more time, because a busy machine loses a packet now and then.
        """
        cells = {(text, version): passes for text, passes in expected.items() for version in (4, 6)}
        for seconds in (OPEN_SECONDS, *AGAIN_SECONDS):
            wrong = self._differences(cells, protocol, seconds)
            if not wrong or not all(cells[cell] for cell in wrong):
                break
            cells = dict.fromkeys(wrong, True)
        assert not wrong, "\n" + "\n".join(f"{text} v{version}: {what}" for (text, version), what in wrong.items())

    def _differences(self, cells: Mapping[Cell, bool], protocol: str | int, seconds: float) -> dict[Cell, str]:
        """What is reached otherwise than it should be, and how; `seconds` for what should."""
        table: dict[Prober, list[Probe]] = {}
        asked: dict[Prober, list[Cell]] = {}
        for (text, version), passes in cells.items():
            sender, _, target, port = text.split()
            prober, address = self.probers[sender], self.targets[target][version == 6]
            table.setdefault(prober, []).append(
                Probe(address, int(port), protocol, timeout=seconds if passes else SHUT_SECONDS)
            )
            asked.setdefault(prober, []).append((text, version))
        outcomes = probe_all(table)
        heard = {token for server in self.servers.values() for token in server.heard()}
        wrong = {}
        for prober, mine in asked.items():
            for cell, outcome in zip(mine, outcomes[prober], strict=True):
                passes = cells[cell]
                if bool(outcome) is not passes:
                    wrong[cell] = f"should {'pass' if passes else 'be shut'}, was {outcome.result}"
                elif not passes and outcome.token in heard:
                    wrong[cell] = "was heard by the server"
        return wrong


def only(ways: Iterable[str], *open_ways: str) -> dict[str, bool]:
    """These ways, of which only some are open."""
    found = {way: way in open_ways for way in ways}
    assert sum(found.values()) == len(open_ways), "an open way isn't among them"
    return found
