"""The namespaces of the control plane's benchmarks: a store with etcd, a worker with the agent, its twin, a client.

Worker and twin are guarded on `eth0`, where the client is, and reach the store by `store0`; their other host interfaces lead
nowhere, and of workloads there are only the documents, which is all that rules are made from. Made anew for each repetition.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable

from tests.lab.agent import Agent
from tests.lab.etcd import Etcd
from tests.lab.netns import Namespace
from tests.lab.topology import Host, Network

from benchmarks import workload
from benchmarks.documents import Stored
from benchmarks.flow import Flow
from benchmarks.sizes import Size
from benchmarks.store import Store

STORE = "10.90.0.1"
WORKER, TWIN = "192.0.2.1", "198.51.100.1"
EMPTY = "".join(f"*{table}\nCOMMIT\n" for table in ("raw", "mangle", "filter"))
FAMILIES = (("iptables-legacy", 4), ("ip6tables-legacy", 6))
STARTS_WITHIN = 240.0
Held = tuple[str, str, str]


class Bed(Network):
    """Use it in a `with`. `store` writes to etcd; `revision` is that of the last document that was put by `put`.

    `documents`: what is stored, if not the workload of the size.
    """

    def __init__(self, size: Size, documents: Iterable[Stored] | None = None) -> None:
        super().__init__()
        self.size = size
        self.documents = workload.documents(size) if documents is None else documents
        self._stack = contextlib.ExitStack()
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        self.server, self.worker, self.twin, self.sender = map(self.host, ("store", "worker", "twin", "client"))
        self.server.ip(f"address add {STORE}/32 dev lo")
        self.sender.ip(f"address add {workload.CLIENT}/32 dev lo")
        for number, (host, address) in enumerate(((self.worker, WORKER), (self.twin, TWIN))):
            self._wire(number, host, address)
        self.settle()
        # Everything from here on that opens a socket in this thread, or starts a thread, is in the store's namespace.
        self._stack.enter_context(self.server.entered())
        self.etcd = self._stack.enter_context(Etcd(self.server, STORE))
        ports = (workload.PORT, workload.MEMBER_PORT)
        self.worker_flow = self._stack.enter_context(Flow(self.sender, self.worker, WORKER, workload.CLIENT, ports))
        self.twin_flow = self._stack.enter_context(Flow(self.sender, self.twin, TWIN, workload.CLIENT, ports))
        self.store = self._stack.enter_context(Store(STORE, self.etcd.port))
        self.revision = self.store.fill(self.documents)

    def _wire(self, number: int, host: Host, address: str) -> None:
        name = f"to-{number}"
        self.link(self.sender, name, [f"{address}0/24"], host, "eth0", [f"{address}/24"])
        self.link(self.server, name, [f"10.91.{number}.1/24"], host, "store0", [f"10.91.{number}.2/24"])
        for other in range(1, self.size.hosts):
            self.link(self.sender, f"other-{number}-{other}", [], host, f"eth{other}", [])
        host.ip(
            f"route add {STORE}/32 via 10.91.{number}.1",
            f"route add {workload.CLIENT}/32 via {address}0",
        )
        host.run("iptables-legacy", "-t", "filter", "-N", "conntrack-is-loaded")
        host.run("iptables-legacy", "-A", "conntrack-is-loaded", "-m", "conntrack", "--ctstate", "INVALID")
        # Each datagram is a new flow: they are forgotten at once, lest conntrack's table fills up and drops them.
        host.sysctl({"net/netfilter/nf_conntrack_udp_timeout": "1", "net/netfilter/nf_conntrack_udp_timeout_stream": "1"})
        wipe(host)

    def put(self, stored: Stored) -> int:
        """Writes a document; its revision."""
        key, document = stored
        self.revision = self.store.put(key, json.dumps(document).encode())
        return self.revision

    def start(self) -> Agent:
        """A new agent in the worker, in sync."""
        agent = Agent(self.worker, env=self.etcd.env)
        try:
            agent.wait_applied(self.revision, STARTS_WITHIN)
        except BaseException:
            agent.close()
            raise
        return agent

    def close(self) -> None:
        """Ends everything."""
        self._stack.close()
        super().close()


def wipe(host: Namespace) -> None:
    """No rules, no sets."""
    for tool, _ in FAMILIES:
        host.run(f"{tool}-restore", data=EMPTY)
    host.run("ipset", "destroy")


def dump(host: Namespace) -> Held:
    """What a host holds, for the restore tools: IPv4 tables, IPv6 tables, sets."""
    four, six = (host.run(f"{tool}-save") for tool, _ in FAMILIES)
    return four, six, host.run("ipset", "save")


def restore(host: Namespace, held: Held) -> None:
    """What `dump` read, by the system's tools: three processes."""
    four, six, sets = held
    host.run("ipset", "restore", data=sets)
    host.run("iptables-legacy-restore", data=four)
    host.run("ip6tables-legacy-restore", data=six)
