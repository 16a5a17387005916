"""Workers with a public side: clients, a load balancer and managers reach each worker's `eth1`; `eth0` is the cluster's fabric.

```
client   198.51.100.5   ─┐                eth1 WORKER eth0
balancer 198.51.100.69  ─┼── public ──────  (w1, w2, w3)  ────── fabric ── outside (a private peer), etcd, the controller
manager  198.51.100.133 ─┘  VIP → one of them
```

And the Kubernetes around them: an API server that knows nodes and namespaces, the controller, kube-proxy's rules. Commands of
the operator run at the fabric. IPv6 twins throughout.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.e2e import cluster as c
from tests.lab import kubeproxy
from tests.lab.agent import COMMAND, clean_environment
from tests.lab.controller import Controller, kubeconfig
from tests.lab.kubeapi import FakeApi
from tests.lab.probes import Listener, Prober
from tests.lab.topology import Host

WORKERS = ("w1", "w2", "w3")
VIP: c.Pair = ("198.51.100.250", "2001:db8:5f::80")
BIGFIX, KUBELET, VRRP = 52311, 10250, 112
NODE_PORT, NEAR_PORT, DNS_PORT = 30080, 30081, 30053
ROLE = {"node-role": "worker"}
FOLLOWED = "node,namespace,serviceaccount,workloadendpoint,service"
"""The controllers that run: all but `policy`, so that NetworkPolicies are the operator's to write, and `admin`."""


def public_address(node: str) -> c.Pair:
    """A worker's address on the public side."""
    number = c.NODES[node]
    return f"198.51.100.{192 + 8 * number + 2}", f"2001:db8:5{3 + number}::2"


class EdgeSite(c.Cluster):
    """The workers as targets: `w1` by its private address, `w1-public` by its public one; `vip`. Agents aren't started yet."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        super().__init__(stack, WORKERS)
        self.public = self.host("public", router=True)
        for number, name in enumerate(("client", "balancer", "manager")):
            self._speaks(name, self.client(name, self.public, f"198.51.100.{64 * number}/26", f"2001:db8:5{1 + number}::/64"))
            self.targets[name] = f"198.51.100.{64 * number + 5}", f"2001:db8:5{1 + number}::5"
        for name, worker in self.nodes.items():
            self._face_the_public(name, worker)
        self.targets["vip"] = VIP
        self.send_vip_to("w1")
        with self.fabric.entered():  # the server's and the controller's sockets belong there
            self.api = stack.enter_context(FakeApi())
        self.kubeconfig = kubeconfig(folder, self.api.url, self.api.token)

    def _face_the_public(self, name: str, worker: Host) -> None:
        number, (v4, v6) = c.NODES[name], public_address(name)
        near = f"198.51.100.{192 + 8 * number + 1}", f"2001:db8:5{3 + number}::1"
        ends = [f"{v4}/29", f"{v6}/64"], [f"{near[0]}/29", f"{near[1]}/64"]
        self.link(worker, "eth1", ends[0], self.public, f"to-{name}", ends[1])
        worker.ip(f"route add 198.51.100.0/24 via {near[0]}", f"route add 2001:db8:50::/44 via {near[1]}")
        self.targets[f"{name}-public"] = v4, v6

    def _speaks(self, name: str, host: Host) -> None:
        ports = (*c.PORTS, BIGFIX, KUBELET)
        self.servers[name] = self.stack.enter_context(Listener(host, ports, c.PORTS, [VRRP]))
        self.probers[name] = self.stack.enter_context(Prober(host))

    def send_vip_to(self, node: str) -> None:
        """Has the public side bring the load balancer's address to a worker, as VRRP would."""
        self.public.ip(*(f"route replace {vip} via {via}" for vip, via in zip(VIP, public_address(node), strict=True)))

    def serve(self, pod: str, near: str) -> None:
        """kube-proxy's rules on all workers: two services of `pod`; on its own worker, `near` as a Local one."""
        ranges = ("10.244.0.0/16", "fd00:244::/32")
        for name, worker in self.nodes.items():
            services = []
            for version, vip, address, local in zip(
                (4, 6), VIP, self.pods[pod].addresses, self.pods[near].addresses, strict=True
            ):
                services += [
                    kubeproxy.Service(f"WEB{version}", "tcp", address, 8080, NODE_PORT, vip),
                    kubeproxy.Service(f"DNS{version}", "udp", address, 8080, DNS_PORT),
                ]
                if self.pods[near].node == name:
                    services.append(kubeproxy.Service(f"NEAR{version}", "tcp", local, 8080, NEAR_PORT, local=True))
            kubeproxy.install(worker, services, ranges)

    # --- Kubernetes
    def register(self) -> None:
        """The API server's nodes and namespaces, and what the network plugin stores about nodes."""
        for name in WORKERS:
            self.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": ROLE}})
            node = {"orchRefs": [{"nodeName": name, "orchestrator": "k8s"}]}
            key = c.ResourceKey("Node", "", name)
            metadata = {"name": name}
            document = {"apiVersion": c.keys.API_VERSION, "kind": "Node", "metadata": metadata, "spec": node}
            self.etcd.put(c.keys.path(key), document)
        for where in sorted({pod.namespace for pod in self.pods.values()}):
            self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": where}})

    def relabel(self, node: str, **labels: str) -> None:
        """What `kubectl label node` does."""
        self.api.update({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": ROLE | labels}})

    def control(self) -> None:
        """Starts the controller and waits until it is ready."""
        with self.fabric.entered():
            self.controller = self.stack.enter_context(Controller(self.etcd.env, self.kubeconfig, "--controllers", FOLLOWED))
            self.controller.wait_ready()

    def labels(self, node: str) -> dict[str, str]:
        """The labels of a worker's public host endpoint as stored; {} while there is none."""
        stored = self.etcd.get(c.keys.path(c.ResourceKey("HostEndpoint", "", f"{node}-worker-public-auto-hep")))
        return {} if stored is None else dict(json.loads(stored)["metadata"]["labels"])

    def until_edge(self, *nodes: str) -> None:
        """Waits until these are the edge nodes in the labels of host endpoints, and in every kernel."""
        self.until(
            f"the edge nodes are {nodes}", lambda: {n for n in WORKERS if self.labels(n).get("dedicated") == "edge"} == {*nodes}
        )

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Waits until something holds in the store, then until the agents have applied it."""
        self.agents["w1"].wait(what, condition, 60)
        self.applied(self.etcd.revision())

    # --- the operator
    def operate(self, arguments: Sequence[str], data: str, folder: Path) -> tuple[str, str]:
        """Runs a `hostward` command in a folder; its stdout and stderr."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.fabric.name, *COMMAND, *arguments], input=data, cwd=folder,
            env=clean_environment() | self.etcd.env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout, done.stderr
