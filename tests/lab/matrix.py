"""Who can reach whom through a host under test: cells written in a few words, probed for real, held to the oracle.

A cell is a line such as `in tcp 80`, `routed udp 53 from=1 v6` or `out icmp type=13 v4`: the way, the protocol, the port, and
what differs from the usual. Without `v4` or `v6` it stands for both. `Matrix.judge` applies a state and compares every cell
with what it should be, with the oracle, and with the open host, where each must work: a cell that never works proves nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hostward.model.resources import Policy, Resource
from hostward.render.evaluate import Packet, Path
from tests.lab import kubeproxy
from tests.lab.host import Document, HostUnderTest, endpoint, policy
from tests.lab.oracle import Host as Oracle
from tests.lab.probes import Listener, Outcome, Probe, Prober, probe_all
from tests.lab.topology import WorkerLab

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
TCP_PORTS = (22, 80, 81, 443, 2379, 8080, 8090)
UDP_PORTS = (53, 67, 68, 80, 81, 546, 547, 5353, *range(7000, 7040))
LEAK_SECONDS = 0.15  # how long a cell that must be shut is watched; what gets through later is found at the server
PASS_SECONDS = 3.0

Pair = tuple[str, str]
WORKLOAD: Pair = ("10.244.1.5", "fd00:244:1::5")
VIRTUAL: Pair = ("198.18.0.7", "2001:db8:18::7")  # OUTPUT's DNAT turns its port 8000 into the internet client's port 80
INTERNET: tuple[Pair, ...] = tuple((f"203.0.113.{n}", f"2001:db8:5::{n}") for n in (5, 6, 7, 8))
PUBLIC: tuple[Pair, ...] = tuple((f"192.0.2.{n}", f"2001:db8:2::{n}") for n in (10, 11, 12))
PEER: tuple[Pair, ...] = tuple((f"10.0.20.{n}", f"fd00:20::{n}") for n in (5, 6, 7))
PRIVATE, POD = (WorkerLab.PRIVATE,), (WorkerLab.POD,)
GATEWAY: Pair = ("10.244.1.1", "fd00:244:1::1")
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
    "node-port": Way("forward", "internet", INTERNET, "pod", PUBLIC, "eth1", "pods", SERVICES),
    "node-port-workload": Way("forward", "internet", INTERNET, "workload", PUBLIC, "eth1", "cali1", SERVICES),
    "balancer": Way("forward", "internet", INTERNET, "pod", (WorkerLab.LB,), "eth1", "pods", {80: (WorkerLab.POD, 8080)}),
    "dnat-routed": Way("forward", "internet", INTERNET, "peer", PUBLIC, "eth1", "eth0", SERVICES),
    "routed": Way("forward", "internet", INTERNET, "peer", PEER, "eth1", "eth0"),
    "routed-out": Way("forward", "peer", PEER, "internet", INTERNET, "eth0", "eth1"),
    "to-pod": Way("forward", "internet", INTERNET, "pod", POD, "eth1", "pods"),
    "workload-out": Way("forward", "workload", (WORKLOAD,), "internet", INTERNET, "cali1", "eth1"),
    "to-workload": Way("forward", "internet", INTERNET, "workload", (WORKLOAD,), "eth1", "cali1"),
    "workload-in": Way("input", "workload", (WORKLOAD,), "worker", (GATEWAY,), enters="cali1"),
    "host-workload": Way("output", "worker", (GATEWAY,), "workload", (WORKLOAD,), leaves="cali1"),
    "loop": Way("output", "worker", (LOOPBACK,), "worker", (LOOPBACK,), leaves="lo"),
}


@dataclass(frozen=True)
class Cell:
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
    if not any(isinstance(r, Policy) and r.do_not_track for r in oracle.resources):
        return True
    return oracle.accepts(reply(packet, untracked=is_untracked(oracle, packet)))


class MatrixLab(WorkerLab):
    """The usual worker, with a workload behind `cali1`, several addresses on each side, and nat rules beside ours."""

    def build(self) -> None:
        """Makes every host and link."""
        super().build()
        self.workload = self.host("workload")
        self.link(
            self.worker, "cali1", [f"{GATEWAY[0]}/24", f"{GATEWAY[1]}/64"],
            self.workload, "eth0", [f"{WORKLOAD[0]}/24", f"{WORKLOAD[1]}/64"],
        )  # fmt: skip
        self.workload.ip(f"route add default via {GATEWAY[0]}", f"route add ::/0 via {GATEWAY[1]}")
        for host, device, pairs, lengths in (
            (self.internet, "eth0", INTERNET, (25, 64)),
            (self.worker, "eth1", PUBLIC, (24, 64)),
            (self.peer, "eth0", PEER, (24, 64)),
        ):
            more = [(f"{a}/{lengths[0]}", f"{b}/{lengths[1]}") for a, b in pairs[1:]]
            # Deprecated: packets leave from the first address unless told otherwise.
            host.ip(
                *(f"address add {a} dev {device}" for a, _ in more),
                *(f"address add {b} dev {device} nodad preferred_lft 0" for _, b in more),
            )
        self.public_router.ip(
            "route add 10.0.0.0/8 via 192.0.2.10", "route add 172.30.0.0/16 via 192.0.2.10",
            "route add fd00::/16 via 2001:db8:2::10",
        )  # fmt: skip
        self.settle()
        self.translate()

    def translate(self) -> None:
        """Services as kube-proxy writes them, and what else nat does on this host."""
        services = []
        for index in (0, 1):
            pod, workload, balancer = self.POD[index], WORKLOAD[index], self.LB[index]
            services += [
                kubeproxy.Service("T30080", "tcp", pod, 8080, 30080, load_balancer=balancer),
                kubeproxy.Service("T30053", "udp", pod, 5353, 30053),
                kubeproxy.Service("T30081", "tcp", workload, 8080, 30081),
            ]
        kubeproxy.install(self.worker, services, self.POD_RANGE)
        for index, tool in enumerate(("iptables-legacy", "ip6tables-legacy")):
            to = ("{}:{}", "[{}]:{}")[index]
            # Else it would be kube-proxy that drops what we must.
            self.worker.run(tool, "-D", "KUBE-FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
            self.worker.run(
                tool, "-t", "nat", "-A", "PREROUTING", "-i", "eth1", "-d", PUBLIC[0][index], "-p", "tcp", "--dport", "30090",
                "-j", "DNAT", "--to-destination", to.format(self.PEER[index], 8090),
            )  # fmt: skip
            self.worker.run(
                tool, "-t", "nat", "-A", "OUTPUT", "-d", VIRTUAL[index], "-p", "tcp", "--dport", "8000",
                "-j", "DNAT", "--to-destination", to.format(self.INTERNET[index], 80),
            )  # fmt: skip


class Matrix:
    """The lab, servers and probers in it, and the worker as the host under test. A context manager."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as stack:
            self.lab = stack.enter_context(MatrixLab())
            lab = self.lab
            places = {
                "internet": lab.internet,
                "worker": lab.worker,
                "peer": lab.peer,
                "pod": lab.pod,
                "workload": lab.workload,
            }
            self.servers = {
                name: stack.enter_context(Listener(place, TCP_PORTS, UDP_PORTS, (6, 112, 132)))
                for name, place in places.items()
            }
            self.probers = {name: stack.enter_context(Prober(place)) for name, place in places.items() if name != "pod"}
            self.host = stack.enter_context(HostUnderTest(lab.worker))
            self._works: set[Cell] = set()
            self._stack = stack.pop_all()

    def __enter__(self) -> Matrix:
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stack.close()

    def probe(self, wanted: Mapping[Cell, bool]) -> tuple[dict[Cell, Outcome], set[str]]:
        """Tries all cells at once, each as the beginning of something new; what came of them, and all that servers heard."""
        self.lab.worker.forget_flows()
        table: dict[Prober, list[Probe]] = {}
        asked: dict[Prober, list[Cell]] = {}
        for cell, passes in wanted.items():
            prober = self.probers[cell.way.sender]
            waits = passes and cell.proto != 6  # nobody need answer a broken segment
            table.setdefault(prober, []).append(cell.probe(PASS_SECONDS if waits else LEAK_SECONDS))
            asked.setdefault(prober, []).append(cell)
        results = probe_all(table)
        outcomes = {cell: outcome for prober, got in results.items() for cell, outcome in zip(asked[prober], got, strict=True)}
        heard = {token for name in {c.way.receiver for c in wanted} for token in self.servers[name].heard()}
        return outcomes, heard

    def open(self, wanted: Mapping[Cell, bool]) -> None:
        """Shows once for each cell that it works on the open host."""
        new = dict.fromkeys((cell for cell in wanted if cell not in self._works), True)
        if not new:
            return
        self.host.bring()
        outcomes, heard = self.probe(new)
        dead = [f"{c.text} v{c.family}: {o.result}" for c, o in outcomes.items() if not o and o.token not in heard]
        assert not dead, f"doesn't work even where nothing is guarded: {dead}"
        self._works |= new.keys()

    @contextlib.contextmanager
    def foreign(self, table: str, *rule: str) -> Iterator[None]:
        """Somebody else's rule, appended in both families: `matrix.foreign("filter", "INPUT", "-p", "tcp", "-j", "DROP")`."""
        tools = ("iptables-legacy", "ip6tables-legacy")
        for tool in tools:
            self.lab.worker.run(tool, "-w", "-t", table, "-A", *rule)
        try:
            yield
        finally:
            for tool in tools:
                self.lab.worker.run(tool, "-w", "-t", table, "-D", *rule)

    def judge(
        self, items: Sequence[Document | Resource], expected: Mapping[str, bool], *, oracle: bool = True, **settings: Any
    ) -> dict[tuple[str, int], Outcome]:
        """Applies a state, and compares every cell with what it should be; the outcomes by text and family.

        `oracle`: whether the oracle knows what this is about. A cell that policy shuts must not even be heard.
        """
        wanted = {cell: passes for text, passes in expected.items() for cell in cells(text)}
        self.open(wanted)
        self.host.bring(*items, **settings)
        return self.compare(wanted, oracle=oracle)

    def compare(self, wanted: Mapping[Cell, bool], *, oracle: bool = True) -> dict[tuple[str, int], Outcome]:
        """Compares cells with what they should be in the present state."""
        outcomes, heard = self.probe(wanted)
        says = self.host.oracle()
        wrong = []
        for cell, passes in wanted.items():
            outcome = outcomes[cell]
            arrived = outcome.token in heard
            if (arrived if cell.proto == 6 else bool(outcome)) != passes:
                wrong.append(f"{cell.text} v{cell.family}: should {'pass' if passes else 'be shut'}, was {outcome.result}")
            packet = cell.packet()
            if oracle and answered(says, packet) != passes:
                wrong.append(f"{cell.text} v{cell.family}: the oracle doesn't say {passes}")
            if not passes and arrived and not (oracle and says.accepts(packet)):
                wrong.append(f"{cell.text} v{cell.family}: was heard by the server")
        assert not wrong, "\n" + "\n".join(wrong)
        return {(cell.text, cell.family): outcome for cell, outcome in outcomes.items()}

    def shows(
        self, rule: Document, expected: Mapping[str, bool], others: Sequence[Document] = (), *, egress: bool = False
    ) -> None:
        """Holds one rule's criteria to cells that it matches: allowing where nothing else is, denying where all else is.

        On eth1, unless `others` have an endpoint.
        """
        direction = "egress" if egress else "ingress"
        endpoints = [] if any(item["kind"] == "HostEndpoint" for item in others) else [endpoint("eth1")]
        for action, more in (("Allow", []), ("Deny", [{"action": "Allow"}])):
            rules: dict[str, Any] = {direction: [{**rule, "action": action}, *more]}
            cells = {cell: matches is (action == "Allow") for cell, matches in expected.items()}
            self.judge([*endpoints, *others, policy("p", **rules)], cells)


def short(value: Document) -> str:
    """A rule as the id of a case; what is expected of it is in the table."""
    return "" if True in value.values() or False in value.values() else str(value)[:70]


def addresses(pairs: Sequence[tuple[str, str]], *indexes: int) -> list[str]:
    """CIDRs of both families of some of these addresses."""
    return [f"{address}/{length}" for n in indexes for address, length in zip(pairs[n], (32, 128), strict=True)]
