"""A cluster of one worker: real API server, etcd, `hostward kube-controller`, `hostward agent`, pods behind `cali` interfaces.

What Calico's network plugin does on a real node is done here: it wires a pod's namespace and writes its WorkloadEndpoint.

```
internet 203.0.113.5   ─┐                        ┌─ pods 10.244.1.x (one `cali…` each)
office   203.0.113.133 ─┴─ router ── eth1 WORKER ┤
                                                 └─ eth0 ── store 10.0.30.5: API server, controller, etcd
```
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from hostward.convert import kubernetes as convert
from tests.e2e import documents as d
from tests.lab.agent import COMMAND, ROOT, Agent, clean_environment
from tests.lab.etcd import Etcd
from tests.lab.kubernetes import ApiServer, Program
from tests.lab.probes import Listener, Probe, Prober, probe_all
from tests.lab.topology import Host, WorkerLab

NODE = "w1"
PODS = "10.244.0.0/16"
TOKEN = "lab-controller-token"
MANIFEST = Path(__file__).parents[2] / "deploy" / "kube-controller.yaml"
TCP, UDP = (80, 81, 8080), (53,)
CELLS = (*(("tcp", port) for port in TCP), *(("udp", port) for port in UDP))
EVERYTHING = frozenset(CELLS)
NOTHING: frozenset[tuple[str, int]] = frozenset()
ACCOUNT = "system:serviceaccount:kube-system:hostward-kube-controller"
Document = Mapping[str, Any]
Reached = dict[str, frozenset[tuple[str, int]]]


def until(what: str, condition: Callable[[], object], limit: float = 180) -> None:
    """Waits until something is true."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit} s: {what}")
        time.sleep(0.05)


def grants() -> list[Document]:
    """The controller's service account, and what its manifest lets it do at the API server."""
    documents = yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))
    return [document for document in documents if document["kind"] in {"ServiceAccount", "ClusterRole", "ClusterRoleBinding"}]


class Pod:
    """A pod's place in the network: its namespace, who asks there, who answers there."""

    def __init__(self, host: Host, namespace: str, name: str, address: str, stack: ExitStack) -> None:
        self.host, self.namespace, self.name, self.address = host, namespace, name, address
        self.prober = stack.enter_context(Prober(host))
        self.listener = stack.enter_context(Listener(host, tcp=TCP, udp=UDP))


class Cluster(WorkerLab):
    """The cluster with everything running. What it started ends with `stack`."""

    def __init__(self, stack: ExitStack) -> None:
        super().__init__()
        self.stack = stack
        stack.callback(self.close)
        self.pods: dict[str, Pod] = {}
        self.public_router.ip(f"route add {PODS} via {self.PUBLIC[0]}")
        self.outside = {name: stack.enter_context(Prober(self.hosts[name])) for name in ("internet", "office")}
        self.answering = stack.enter_context(Listener(self.internet, tcp=TCP, udp=UDP))
        self.etcd = stack.enter_context(Etcd(self.store, self.STORE[0]))
        self.etcd.put(d.CLUSTER, d.cluster())
        self.api = stack.enter_context(ApiServer(self.store, self.STORE[0], users={TOKEN: ACCOUNT}))
        self.api.apply(*grants())
        self.api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
        addresses = [{"type": "InternalIP", "address": self.PRIVATE[0]}, {"type": "Hostname", "address": NODE}]
        self.api.set_status(f"/api/v1/nodes/{NODE}", {"addresses": addresses})
        self.agent = stack.enter_context(Agent(self.worker, env=self.etcd.env, node=NODE))
        self.controller = stack.enter_context(Program("kube-controller", self.store))

    def start_controller(self) -> None:
        """Starts `hostward kube-controller` as its Deployment does, but for where it finds the server."""
        env = clean_environment() | self.etcd.env | {"PYTHONPATH": str(ROOT / "agent")}
        self.controller.run([*COMMAND, "kube-controller", "--kubeconfig", str(self.api.kubeconfig(TOKEN))], env)
        until("the controller is alive", lambda: self.health("liveness") == 200)

    def health(self, page: str) -> int:
        """Status of the controller's /liveness or /readiness; 0 while it doesn't answer."""
        assert self.controller.alive, f"the controller ended: {self.controller.log_end()}"
        with self.store.entered():
            connection = http.client.HTTPConnection("127.0.0.1", 9098, timeout=10)
            try:
                connection.request("GET", f"/{page}")
                return connection.getresponse().status
            except OSError:
                return 0
            finally:
                connection.close()

    # --- pods ----------------------------------------------------------------------------------------------------------
    def namespace(self, name: str, **labels: str) -> None:
        """Applies a Namespace and waits until its profile is stored."""
        self.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        self.enforced(f"the profile of {name} is stored", lambda: self.stored(f"profiles/kns.{name}"))

    def label_namespace(self, name: str, **labels: str) -> None:
        """Changes labels of a Namespace and waits until they are in force."""
        self.api.kubectl("label", "--overwrite", "namespace", name, *(f"{key}={value}" for key, value in labels.items()))
        wanted = {f"pcns.{key}": value for key, value in labels.items()}.items()

        def lent() -> bool:
            profile = self.stored(f"profiles/kns.{name}")
            return profile is not None and wanted <= profile["spec"]["labelsToApply"].items()

        self.enforced(f"the labels of {name} are stored", lent)

    def schedule_pod(self, namespace: str, name: str, **labels: str) -> Pod:
        """A pod with container ports `http` (8080) and `dns` (53/UDP): applied, wired, written as an endpoint."""
        address = f"10.244.1.{10 + len(self.pods)}"
        ports = [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]
        container = {"name": "main", "image": "none.invalid/none", "ports": ports}
        self.api.apply({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"nodeName": NODE, "containers": [container]},
        })  # fmt: skip
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        self.api.set_status(path, {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]})
        endpoint = self.plug(namespace, name)
        host = self.host(f"{namespace}-{name}")
        interface = endpoint["spec"]["interfaceName"]
        self.link(self.worker, interface, [], host, "eth0", [f"{address}/32"])
        self.worker.sysctl({f"net/ipv4/conf/{interface}/proxy_arp": "1", f"net/ipv4/neigh/{interface}/proxy_delay": "0"})
        self.worker.ip(f"route add {address} dev {interface}")
        host.ip("route add 169.254.1.1 dev eth0", "route add default via 169.254.1.1")
        pod = self.pods[name] = Pod(host, namespace, name, address, self.stack)
        return pod

    def plug(self, namespace: str, name: str) -> dict[str, Any]:
        """Writes the WorkloadEndpoint of a pod as it is at the API server, as the network plugin does; the document."""
        done = convert.to_v3(self.api.get("pod", name, "-n", namespace))
        assert not done.problems, done.problems
        (endpoint,) = done.documents
        self.etcd.put(f"{d.ROOT}workloadendpoints/{namespace}/{endpoint['metadata']['name']}", endpoint)
        return dict(endpoint)

    # --- waiting -------------------------------------------------------------------------------------------------------
    def stored(self, path: str) -> dict[str, Any] | None:
        """A stored document by its path, as `profiles/kns.shop`."""
        value = self.etcd.get(f"{d.ROOT}{path}")
        return json.loads(value) if value else None

    def everything_stored(self) -> dict[str, bytes]:
        """All of Calico's resources, by key."""
        return self.etcd.list(d.ROOT)

    def enforced(self, what: str, condition: Callable[[], object]) -> None:
        """Waits until the controller has stored something, and the agent has all of it in the kernel."""
        until(what, lambda: self.health("liveness") == 200 and condition())
        self.agent.wait_applied(self.last_change())

    def last_change(self) -> int:
        """The newest revision of what is stored now."""
        answer = json.loads(self.etcd.ctl("-w", "json", "get", "--prefix", d.ROOT, "--keys-only"))
        return max(int(kv["mod_revision"]) for kv in answer["kvs"])

    # --- policies ------------------------------------------------------------------------------------------------------
    def apply_policy(self, name: str, namespace: str = "shop", **spec: Any) -> None:
        """Applies a NetworkPolicy and waits until it is in force."""
        path = f"networkpolicies/{namespace}/knp.default.{name}"
        before = self.stored(path)
        self.api.apply({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"podSelector": {}, **spec},
        })  # fmt: skip
        self.enforced(f"{path} is stored", lambda: (found := self.stored(path)) and found != before)

    def delete_policy(self, name: str, namespace: str = "shop") -> None:
        """Deletes a NetworkPolicy and waits until it isn't in force any more."""
        self.api.kubectl("delete", "networkpolicy", name, "-n", namespace)
        path = f"networkpolicies/{namespace}/knp.default.{name}"
        self.enforced(f"{path} is gone", lambda: self.stored(path) is None)

    def delete_policies(self) -> None:
        """Deletes all NetworkPolicies and waits until none is in force."""
        self.api.kubectl("delete", "networkpolicy", "--all", "--all-namespaces")
        self.enforced("no policy is stored", lambda: not self.etcd.list(f"{d.ROOT}networkpolicies/"))

    def write(self, *documents: Document) -> None:
        """`hostward apply` of v3 documents; waits until they are in force."""
        text = "\n---\n".join(json.dumps(document) for document in documents)
        file = self.controller.home / "manifest.yaml"
        file.write_text(text, encoding="utf-8")
        done = self.agent.command("apply", "-f", str(file))
        assert done.returncode == 0, done.stderr
        self.agent.wait_applied(self.last_change())

    def remove(self, *paths: str) -> None:
        """Deletes stored documents by their paths and waits until they aren't in force any more."""
        self.agent.wait_applied(max(self.etcd.delete(f"{d.ROOT}{path}") for path in paths))

    # --- packets -------------------------------------------------------------------------------------------------------
    def reached(self, target: str = "web", sources: Sequence[str] = ("front", "guest", "internet", "office")) -> Reached:
        """Which ports of a pod each source reaches."""
        return self._reached(self.pods[target].address, sources)

    def reached_outside(self, sources: Iterable[str]) -> Reached:
        """Which ports of the host on the internet each pod reaches."""
        return self._reached(self.INTERNET[0], sources)

    def prober(self, source: str) -> Prober:
        """Who asks from a pod or from an outside host."""
        return self.outside[source] if source in self.outside else self.pods[source].prober

    def _reached(self, address: str, sources: Iterable[str]) -> Reached:
        by_prober = {self.prober(source): source for source in sources}
        probes = [Probe(address, port, proto, timeout=1) for proto, port in CELLS]
        outcomes = probe_all(dict.fromkeys(by_prober, probes))
        return {
            source: frozenset(cell for cell, outcome in zip(CELLS, outcomes[prober], strict=True) if outcome)
            for prober, source in by_prober.items()
        }
