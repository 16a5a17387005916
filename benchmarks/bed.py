"""The namespaces that a benchmark runs in: a store with etcd, a worker with the agent, its twin with the floor, a client.

Worker and twin are guarded on `eth0`, where the client is, and reach the store by `store0`. Made anew for each repetition.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

from tests.lab.etcd import Etcd
from tests.lab.netns import Namespace
from tests.lab.topology import Network

import hostward.datastore.etcd  # noqa: F401 # chooses protobuf's mode before etcd3 is imported
from benchmarks import workload
from benchmarks.flow import Flow

STORE = "10.90.0.1"
WORKER, TWIN = "192.0.2.1", "198.51.100.1"
EMPTY = "".join(f"*{table}\nCOMMIT\n" for table in ("raw", "mangle", "filter"))
FAMILIES = (("iptables-legacy", 4), ("ip6tables-legacy", 6))


class Bed(Network):
    """Use it in a `with`. `put` writes to etcd by its raw stub."""

    def __init__(self, policies: int) -> None:
        super().__init__()
        self.policies = policies
        self._stack = contextlib.ExitStack()
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        self.store, self.worker, self.twin, self.sender = map(self.host, ("store", "worker", "twin", "client"))
        self.store.ip(f"address add {STORE}/32 dev lo")
        for number, (host, address) in enumerate(((self.worker, WORKER), (self.twin, TWIN))):
            name = f"to-{number}"
            self.link(self.sender, name, [f"{address}0/24"], host, "eth0", [f"{address}/24"])
            self.link(self.store, name, [f"10.91.{number}.1/24"], host, "store0", [f"10.91.{number}.2/24"])
            host.ip(f"route add {STORE}/32 via 10.91.{number}.1")
            host.run("iptables-legacy", "-t", "filter", "-N", "conntrack-is-loaded")
            host.run("iptables-legacy", "-A", "conntrack-is-loaded", "-m", "conntrack", "--ctstate", "INVALID")
            # Each datagram is a new flow: they are forgotten at once, lest conntrack's table fills up and drops them.
            host.sysctl({"net/netfilter/nf_conntrack_udp_timeout": "1", "net/netfilter/nf_conntrack_udp_timeout_stream": "1"})
            wipe(host)
        self.settle()
        # Everything from here on that opens a socket in this thread, or starts a thread, is in the store's namespace.
        self._stack.enter_context(self.store.entered())
        self.etcd = self._stack.enter_context(Etcd(self.store, STORE))
        self.worker_flow = self._stack.enter_context(Flow(self.sender, self.worker, WORKER, workload.PORT))
        self.twin_flow = self._stack.enter_context(Flow(self.sender, self.twin, TWIN, workload.PORT))
        self.put = self._putter()
        self.revision = 0
        for key, document in workload.documents(self.policies):
            self.revision = self.put(key, json.dumps(document).encode())

    def _putter(self) -> Callable[[str, bytes], int]:
        import grpc  # noqa: PLC0415 # in the store's namespace: gRPC's threads stay where they were started
        from etcd3 import etcdrpc  # noqa: PLC0415 # the same

        channel = grpc.insecure_channel(f"{STORE}:{self.etcd.port}", options=[("grpc.use_local_subchannel_pool", 1)])
        self._stack.callback(channel.close)
        stub = etcdrpc.KVStub(channel)

        def put(key: str, value: bytes) -> int:
            """Writes a key; its revision."""
            return int(stub.Put(etcdrpc.PutRequest(key=key.encode(), value=value), timeout=10).header.revision)

        return put

    def close(self) -> None:
        """Ends everything."""
        self._stack.close()
        super().close()


def wipe(host: Namespace) -> None:
    """No rules, no sets."""
    for tool, _ in FAMILIES:
        host.run(f"{tool}-restore", data=EMPTY)
    host.run("ipset", "destroy")


def dump(host: Namespace) -> tuple[str, str, str]:
    """What a host holds, for the restore tools: IPv4 tables, IPv6 tables, sets."""
    four, six = (host.run(f"{tool}-save") for tool, _ in FAMILIES)
    return four, six, host.run("ipset", "save")


def restore(host: Namespace, held: tuple[str, str, str]) -> None:
    """What `dump` read, by the system's tools: three processes."""
    four, six, sets = held
    host.run("ipset", "restore", data=sets)
    host.run("iptables-legacy-restore", data=four)
    host.run("ip6tables-legacy-restore", data=six)
