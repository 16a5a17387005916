"""Who tries to reach what, and in which steps of the story it must succeed."""

from __future__ import annotations

from dataclasses import dataclass

from tests.lab.probes import Probe
from tests.lab.topology import WorkerLab as Lab

PATIENCE = 1.3  # seconds: one lost SYN is sent again after 1 s, so a busy machine doesn't look like a blocked port
ETCD_PORT = 30001
SERVERS: dict[str, dict[str, list[int]]] = {
    "worker": {"tcp": [22, 80, 10250, 52311], "udp": [52311], "protocols": [112]},
    "pod": {"tcp": [8080], "udp": [5353]},
    "internet": {"tcp": [443], "udp": [53]},
    "peer": {"tcp": [8443]},
    "store": {"tcp": [30002]},
}


@dataclass(frozen=True)
class Cell:
    """One line of the table: from where, to what, and the steps, as digits, in which it must get through.

    `addresses` are the IPv4 and the IPv6 target, "" where there is none. `held`: a TCP connection that is opened in the
    first of those steps and kept.
    """

    source: str
    target: str
    addresses: tuple[str, str]
    port: int
    proto: str | int
    passes_in: str
    knock: bool = False
    held: bool = False

    def expected(self, step: int) -> bool:
        """Whether it must get through in this step."""
        return str(step) in self.passes_in

    def probe(self, family: int) -> Probe:
        """The attempt; family 0 for IPv4, 1 for IPv6."""
        return Probe(self.addresses[family], self.port, self.proto, timeout=PATIENCE, knock=self.knock)


ALWAYS, UNLESS_BARE = "1234567", "134567"
CELLS = [
    Cell("internet", "worker: ssh, tcp 22 (failsafe)", Lab.PUBLIC, 22, "tcp", ALWAYS),
    Cell("internet", "worker: a web server, tcp 80", Lab.PUBLIC, 80, "tcp", "1"),
    Cell("internet", "worker: kubelet, tcp 10250", Lab.PUBLIC, 10250, "tcp", "1"),
    Cell("internet", "worker: BigFix, tcp 52311", Lab.PUBLIC, 52311, "tcp", UNLESS_BARE),
    Cell("internet", "worker: BigFix, udp 52311", Lab.PUBLIC, 52311, "udp", UNLESS_BARE),
    Cell("internet", "worker: ping", Lab.PUBLIC, 0, "icmp", UNLESS_BARE),
    Cell("internet", "worker: VRRP, protocol 112", Lab.PUBLIC, 0, 112, UNLESS_BARE),
    Cell("manager", "worker: kubelet, tcp 10250", Lab.PUBLIC, 10250, "tcp", UNLESS_BARE),
    Cell("internet", "pod by NodePort, tcp 30080", Lab.PUBLIC, 30080, "tcp", "13"),
    Cell("internet", "pod by NodePort, udp 30053", Lab.PUBLIC, 30053, "udp", "13"),
    Cell("office", "pod by NodePort, tcp 30080", Lab.PUBLIC, 30080, "tcp", "13567"),
    Cell("internet", "pod by load balancer, tcp 80", Lab.LB, 80, "tcp", UNLESS_BARE),
    Cell("internet", "pod by NodePort, opened in step 3", Lab.PUBLIC, 30080, "tcp", "34567", held=True),
    Cell("worker", "internet: https, tcp 443", Lab.INTERNET, 443, "tcp", UNLESS_BARE),
    Cell("worker", "internet: DNS, udp 53 (failsafe)", Lab.INTERNET, 53, "udp", ALWAYS),
    Cell("pod", "internet: https, tcp 443", Lab.INTERNET, 443, "tcp", UNLESS_BARE),
    Cell("peer", "worker: ssh, private address", Lab.PRIVATE, 22, "tcp", ALWAYS),
    Cell("peer", "worker: kubelet, private address", Lab.PRIVATE, 10250, "tcp", UNLESS_BARE),
    Cell("peer", "pod by NodePort, private address", Lab.PRIVATE, 30080, "tcp", UNLESS_BARE),
    Cell("worker", "peer: tcp 8443", Lab.PEER, 8443, "tcp", UNLESS_BARE),
    Cell("worker", f"etcd, tcp {ETCD_PORT} (the agent's own)", (Lab.STORE[0], ""), ETCD_PORT, "tcp", ALWAYS, knock=True),
    Cell("worker", "etcd's host: tcp 30002", Lab.STORE, 30002, "tcp", UNLESS_BARE),
]
