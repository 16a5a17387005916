"""Reachability tables through a host under test: probed for real, and held to the oracle.

`Matrix.judge` applies a state and compares every cell with what it should be, with the oracle, and with the open host, where
each must work: a cell that never works proves nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hostward.model.resources import Resource
from tests.lab import kubeproxy
from tests.lab.cells import (
    GATEWAY,
    INTERNET,
    PEER,
    PUBLIC,
    SECOND,
    SECOND_GATEWAY,
    VIRTUAL,
    WORKLOAD,
    Cell,
    answered,
    cells,
)
from tests.lab.host import Document, HostUnderTest, endpoint, policy, workload
from tests.lab.probes import Listener, Outcome, Probe, Prober, probe_all
from tests.lab.topology import WorkerLab

TCP_PORTS = (22, 80, 81, 443, 2379, 8080, 8090)
UDP_PORTS = (53, 67, 68, 80, 81, 546, 547, 4789, 5353, *range(7000, 7040))
PODS = (workload("cali1", WORKLOAD), workload("cali2", SECOND))  # all that they send and get is allowed
Item = Document | Resource
UNGUARDED: Mapping[str, Any] = {  # nothing is kept from workloads either
    "disable_conntrack_invalid_check": True,
    "allow_vxlan_packets_from_workloads": True,
    "allow_ipip_packets_from_workloads": True,
}
LEAK_SECONDS = 0.15  # how long a cell that must be shut is watched; what gets through later is found at the server
PASS_SECONDS = 3.0
AGAIN_SECONDS = (3.0, 10.0)


def came(cell: Cell, outcome: Outcome, heard: set[str], *, unanswered: bool = False) -> bool:
    """Whether an attempt got through: by its answer, but nobody need answer a broken segment, nor what is `unanswered`."""
    arrived = outcome.token in heard
    return arrived if cell.proto == 6 else bool(outcome) or (unanswered and arrived)


class MatrixLab(WorkerLab):
    """The usual worker, with workloads behind `cali1` and `cali2`, several addresses on each side, and nat beside us."""

    def build(self) -> None:
        """Makes every host and link."""
        super().build()
        self.workload, self.second = self.host("workload"), self.host("second")
        for pod, device, near, far in (
            (self.workload, "cali1", GATEWAY, WORKLOAD),
            (self.second, "cali2", SECOND_GATEWAY, SECOND),
        ):
            self.link(self.worker, device, [f"{near[0]}/24", f"{near[1]}/64"], pod, "eth0", [f"{far[0]}/24", f"{far[1]}/64"])
            pod.ip(f"route add default via {near[0]}", f"route add ::/0 via {near[1]}")
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
            for chain, port, pair in (
                ("PREROUTING", "8000", self.INTERNET), ("OUTPUT", "8000", self.INTERNET), ("OUTPUT", "8001", self.PEER),
                ("OUTPUT", "8002", WORKLOAD), ("PREROUTING", "8003", SECOND),
            ):  # fmt: skip
                self.worker.run(
                    tool, "-t", "nat", "-A", chain, "-d", VIRTUAL[index], "-p", "tcp", "--dport", port,
                    "-j", "DNAT", "--to-destination", to.format(pair[index], 80),
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
                "second": lab.second,
            }
            self.servers = {
                name: stack.enter_context(Listener(place, TCP_PORTS, UDP_PORTS, (4, 6, 112, 132)))
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

    def probe(self, wanted: Mapping[Cell, bool], *, unanswered: bool = False) -> tuple[dict[Cell, Outcome], set[str]]:
        """Tries all cells at once, each as the beginning of something new; what came of them, and all that servers heard.

        A busy machine loses a packet now and then: what passes and didn't is tried again, alone and with more time.
        `unanswered`: for what passes it's enough to be heard.
        """
        outcomes, heard = self._probe(wanted, PASS_SECONDS, LEAK_SECONDS)
        for seconds in AGAIN_SECONDS:
            lost = {
                cell: True
                for cell, passes in wanted.items()
                if passes and not came(cell, outcomes[cell], heard, unanswered=unanswered)
            }
            if not lost:
                break
            again, more = self._probe(lost, seconds, seconds)
            outcomes, heard = outcomes | again, heard | more
        return outcomes, heard

    def _probe(self, wanted: Mapping[Cell, bool], passing: float, silent: float) -> tuple[dict[Cell, Outcome], set[str]]:
        """`passing`: seconds for an answer; `silent`: for what needn't be answered."""
        self.lab.worker.forget_flows()
        table: dict[Prober, list[Probe]] = {}
        asked: dict[Prober, list[Cell]] = {}
        for cell, passes in wanted.items():
            prober = self.probers[cell.way.sender]
            table.setdefault(prober, []).append(cell.probe(passing if passes and cell.proto != 6 else silent))
            asked.setdefault(prober, []).append(cell)
        results = probe_all(table)
        outcomes = {cell: outcome for prober, got in results.items() for cell, outcome in zip(asked[prober], got, strict=True)}
        heard = {token for name in {c.way.receiver for c in wanted} for token in self.servers[name].heard()}
        return outcomes, heard

    def bring(self, items: Sequence[Item], *, pods: Sequence[Item] = PODS, **settings: Any) -> None:
        """Applies a state. Unless `pods` and settings say otherwise, workloads are none of the case's business."""
        self.host.bring(*items, *pods, **{"default_endpoint_to_host_action": "Return", **settings})

    def open(self, wanted: Mapping[Cell, bool]) -> None:
        """Shows once for each cell that it works on the open host."""
        new = dict.fromkeys((cell for cell in wanted if cell not in self._works), True)
        if not new:
            return
        self.bring([], **UNGUARDED)
        outcomes, heard = self.probe(new, unanswered=True)
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
        self,
        items: Sequence[Item],
        expected: Mapping[str, bool],
        *,
        pods: Sequence[Item] = PODS,
        oracle: bool = True,
        **settings: Any,
    ) -> dict[tuple[str, int], Outcome]:
        """Applies a state, and compares every cell with what it should be; the outcomes by text and family.

        `pods`: the workload endpoints; usually all of their traffic is allowed. `oracle`: whether the oracle knows what this
        is about. A cell that policy shuts must not even be heard.
        """
        wanted = {cell: passes for text, passes in expected.items() for cell in cells(text)}
        self.open(wanted)
        self.bring(items, pods=pods, **settings)
        return self.compare(wanted, oracle=oracle)

    def compare(self, wanted: Mapping[Cell, bool], *, oracle: bool = True) -> dict[tuple[str, int], Outcome]:
        """Compares cells with what they should be in the present state."""
        outcomes, heard = self.probe(wanted)
        says = self.host.oracle()
        wrong = []
        for cell, passes in wanted.items():
            outcome = outcomes[cell]
            arrived = outcome.token in heard
            if came(cell, outcome, heard) != passes:
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
