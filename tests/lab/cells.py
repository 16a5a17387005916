"""Cells of a reachability table: who asks whom for what through a host, as a probe and as the oracle's packet.

A cell is a line such as `in tcp 80`, `routed udp 53 from=1 v6` or `out icmp type=13 v4`: the way, the protocol, the port, and
what differs from the usual. Without `v4` or `v6` it stands for both. The addresses are those of `matrix.MatrixLab`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from hostward.render.evaluate import Packet, Path
from tests.lab.oracle import Host as Oracle
from tests.lab.probes import Probe
from tests.lab.topology import WorkerLab

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}

Pair = tuple[str, str]
WORKLOAD: Pair = ("10.244.1.5", "fd00:244:1::5")
VIRTUAL: Pair = (
    "198.18.0.7",
    "2001:db8:18::7",
)  # nat makes of 8000 the internet client's port 80; of 8001 the peer's, of 8002 and 8003 the workloads'
INTERNET: tuple[Pair, ...] = tuple((f"203.0.113.{n}", f"2001:db8:5::{n}") for n in (5, 6, 7, 8))
PUBLIC: tuple[Pair, ...] = tuple((f"192.0.2.{n}", f"2001:db8:2::{n}") for n in (10, 11, 12))
PEER: tuple[Pair, ...] = tuple((f"10.0.20.{n}", f"fd00:20::{n}") for n in (5, 6, 7))
PRIVATE, POD = (WorkerLab.PRIVATE,), (WorkerLab.POD,)
GATEWAY: Pair = ("10.244.1.1", "fd00:244:1::1")
SECOND: Pair = ("10.244.2.5", "fd00:244:2::5")  # another workload of this host
SECOND_GATEWAY: Pair = ("10.244.2.1", "fd00:244:2::1")
LOOPBACK: Pair = ("127.0.0.1", "::1")


@dataclass(frozen=True)
class Way:
    """How packets of a kind cross the host: from which addresses to which, by which interfaces, and who hears them.

    `service`: port asked for to address and port that nat turns it into.
    """

    path: Path
    sender: str
    sources: tuple[Pair, ...]
    receiver: str
    targets: tuple[Pair, ...]
    enters: str = ""
    leaves: str = ""
    service: Mapping[int, tuple[Pair, int]] | None = field(default=None, compare=False)


SERVICES: Mapping[int, tuple[Pair, int]] = {
    30080: (WorkerLab.POD, 8080),
    30053: (WorkerLab.POD, 5353),
    30081: (WORKLOAD, 8080),
    30090: (WorkerLab.PEER, 8090),
}
WAYS: Mapping[str, Way] = {
    "in": Way("input", "internet", INTERNET, "worker", PUBLIC, enters="eth1"),
    "in-private": Way("input", "peer", PEER, "worker", PRIVATE, enters="eth0"),
    "out": Way("output", "worker", PUBLIC, "internet", INTERNET, leaves="eth1"),
    "out-private": Way("output", "worker", PRIVATE, "peer", PEER, leaves="eth0"),
    "out-dnat": Way("output", "worker", PUBLIC, "internet", (VIRTUAL,), "", "eth1", {8000: (WorkerLab.INTERNET, 80)}),
    "out-dnat-private": Way("output", "worker", PUBLIC, "peer", (VIRTUAL,), "", "eth0", {8001: (WorkerLab.PEER, 80)}),
    "node-port": Way("forward", "internet", INTERNET, "pod", PUBLIC, "eth1", "pods", SERVICES),
    "node-port-workload": Way("forward", "internet", INTERNET, "workload", PUBLIC, "eth1", "cali1", SERVICES),
    "balancer": Way("forward", "internet", INTERNET, "pod", (WorkerLab.LB,), "eth1", "pods", {80: (WorkerLab.POD, 8080)}),
    "dnat-routed": Way("forward", "internet", INTERNET, "peer", PUBLIC, "eth1", "eth0", SERVICES),
    "routed": Way("forward", "internet", INTERNET, "peer", PEER, "eth1", "eth0"),
    "routed-out": Way("forward", "peer", PEER, "internet", INTERNET, "eth0", "eth1"),
    "to-pod": Way("forward", "internet", INTERNET, "pod", POD, "eth1", "pods"),
    "workload-out": Way("forward", "workload", (WORKLOAD,), "internet", INTERNET, "cali1", "eth1"),
    "workload-dnat": Way(
        "forward", "workload", (WORKLOAD,), "internet", (VIRTUAL,), "cali1", "eth1", {8000: (WorkerLab.INTERNET, 80)}
    ),
    "to-workload": Way("forward", "internet", INTERNET, "workload", (WORKLOAD,), "eth1", "cali1"),
    "workload-in": Way("input", "workload", (WORKLOAD,), "worker", (GATEWAY,), enters="cali1"),
    "host-workload": Way("output", "worker", (GATEWAY,), "workload", (WORKLOAD,), leaves="cali1"),
    "host-service": Way("output", "worker", PUBLIC, "workload", (VIRTUAL,), "", "cali1", {8002: (WORKLOAD, 80)}),
    "pod-to-pod": Way("forward", "workload", (WORKLOAD,), "second", (SECOND,), "cali1", "cali2"),
    "pod-to-pod-back": Way("forward", "second", (SECOND,), "workload", (WORKLOAD,), "cali2", "cali1"),
    "pod-service": Way("forward", "workload", (WORKLOAD,), "second", (VIRTUAL,), "cali1", "cali2", {8003: (SECOND, 80)}),
    "to-second": Way("forward", "internet", INTERNET, "second", (SECOND,), "eth1", "cali2"),
    "second-out": Way("forward", "second", (SECOND,), "internet", INTERNET, "cali2", "eth1"),
    "second-in": Way("input", "second", (SECOND,), "worker", (SECOND_GATEWAY,), enters="cali2"),
    "host-second": Way("output", "worker", (SECOND_GATEWAY,), "second", (SECOND,), leaves="cali2"),
    "loop": Way("output", "worker", (LOOPBACK,), "worker", (LOOPBACK,), leaves="lo"),
}


class Cell(Struct, frozen=True):
    """One attempt. `source` and `target` count the way's addresses; `source_port` 0 is any."""

    text: str
    way: Way
    family: Literal[4, 6]
    proto: str | int
    port: int = 0
    source: int = 0
    target: int = 0
    source_port: int = 0
    icmp_type: int = 8
    mark: int = 0

    @property
    def index(self) -> int:
        """Of the family in pairs of addresses."""
        return 0 if self.family == 4 else 1

    def probe(self, timeout: float) -> Probe:
        """The attempt itself."""
        return Probe(
            self.way.targets[self.target][self.index],
            self.port,
            "sctp-init" if self.proto == "sctp" else self.proto,
            source=self.way.sources[self.source][self.index],
            source_port=self.source_port,
            timeout=timeout,
            icmp_type=self.icmp_type,
            mark=self.mark - (1 << 32) if self.mark >> 31 else self.mark,  # as setsockopt takes an int
        )

    def packet(self) -> Packet:
        """The first packet, for the oracle; from some high port where none is told."""
        way, index = self.way, self.index
        protocol = (1 if self.family == 4 else 58) if self.proto == "icmp" else PROTOCOLS.get(str(self.proto), self.proto)
        assert isinstance(protocol, int)
        has_ports = protocol in PROTOCOLS.values()
        service = way.service[self.port] if way.service else None
        return Packet(
            family=self.family,
            path=way.path,
            source=way.sources[self.source][index],
            destination=way.targets[self.target][index],
            protocol=protocol,
            source_port=(self.source_port or 40000) if has_ports else 0,
            destination_port=self.port if has_ports else 0,
            in_interface=way.enters,
            out_interface=way.leaves,
            icmp_type=(self.icmp_type if self.family == 4 else 128) if self.proto == "icmp" else 0,
            state="INVALID" if self.proto == 6 else "NEW",
            dnat=(service[0][index], service[1]) if service else None,
            mark=self.mark,
        )


OPTIONS = {"from": "source", "to": "target", "sport": "source_port", "type": "icmp_type", "mark": "mark"}


def cells(text: str) -> Iterator[Cell]:
    """The cells of one line, one per family. Protocol 6 as a number is a segment that conntrack finds INVALID."""
    way, proto, *words = text.split()
    families: list[Literal[4, 6]] = [4] if "v4" in words else [6] if "v6" in words else [4, 6]
    fields: dict[str, int] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            fields[OPTIONS[name]] = int(value, 0)
        elif word not in ("v4", "v6"):
            fields["port"] = int(word)
    for family in families:
        yield Cell(text, WAYS[way], family, int(proto) if proto.isdigit() else proto, **fields)


def reply(packet: Packet, *, untracked: bool) -> Packet:
    """The answer: part of an open connection, or without its beginning seen what conntrack makes of it alone."""
    paths: dict[Path, Path] = {"input": "output", "output": "input", "forward": "forward"}
    alone: Literal["NEW", "INVALID"] = "NEW" if packet.protocol in (17, 112) else "INVALID"
    return replace(
        packet,
        path=paths[packet.path],
        source=packet.destination,
        destination=packet.source,
        source_port=packet.destination_port,
        destination_port=packet.source_port,
        in_interface=packet.out_interface,
        out_interface=packet.in_interface,
        state=alone if untracked else "ESTABLISHED",
        mark=0,
    )


def is_untracked(oracle: Oracle, packet: Packet) -> bool:
    """Whether an untracked policy allows the packet, so that conntrack doesn't see it."""
    ingress = packet.path != "output"
    endpoint = oracle.governor(packet.in_interface if ingress else packet.out_interface)
    if endpoint is None or endpoint.interface == "*":
        return False
    policies = [p for p in oracle.policies(endpoint) if p.do_not_track]
    direction: Literal["ingress", "egress"] = "ingress" if ingress else "egress"
    there = (packet.destination, packet.destination_port)
    if oracle.failsafe(direction, packet, there, raw=True):
        return False
    return oracle.tiers_answer(policies, direction, packet, there, tier_end=False) == "allow"


def answered(oracle: Oracle, packet: Packet) -> bool:
    """Whether a question gets an answer through the host: both packets pass."""
    if not oracle.accepts(packet):
        return False
    return oracle.accepts(reply(packet, untracked=is_untracked(oracle, packet)))


def addresses(pairs: Sequence[Pair], *indexes: int) -> list[str]:
    """CIDRs of both families of some of these addresses."""
    return [f"{address}/{length}" for n in indexes for address, length in zip(pairs[n], (32, 128), strict=True)]
