"""The namespaces of the packet benchmarks: one client, one server, and between them routers that differ in nothing but rules.

```
client ──┬─ cali… (first, middle, last of all interfaces) ── ROUTER eth0 ── server
         └─ host0 ────────────────────────────────────────── ROUTER
```

Each router has links of its own. Two are empty: one is the base, the other the control. One has the rules of an agent, which
stands still from when they are there; one the hand-written optimum, one the same with the mangle table, which egress policy
needs for what nat OUTPUT redirects; one Felix-shaped chains. All are made anew for each repetition, in another order, for a
namespace that lives longer than its rivals has its memory elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from random import Random

from tests.lab.agent import Agent
from tests.lab.etcd import Etcd
from tests.lab.topology import Host, Network

from benchmarks import documents as d
from benchmarks import packet_chains, packet_peer, workload
from benchmarks import packet_policies as p
from benchmarks.bed import STARTS_WITHIN, STORE
from benchmarks.packet_policies import Shape
from benchmarks.sizes import Size
from benchmarks.store import Store
from hostward.render.ruleset import Family

EMPTY, AGAIN, OURS, OPTIMUM, PEER = "empty", "empty again", "ours", "optimum", "Felix-shaped"
MANGLING = "optimum with mangle"
KINDS = (EMPTY, AGAIN, OURS, OPTIMUM, MANGLING, PEER)
MIDDLE = "middle interface"
PLACES = {"first interface": "cali00000000000", MIDDLE: "cali80000000000", "last interface": "califfffffffff1"}
"""Interfaces that come first, in the middle and last among those of any workload."""
HOSTS = ("host0", "host1")
NOTHING, NO_MANGLE = "*raw\nCOMMIT\n*filter\nCOMMIT\n", "*mangle\nCOMMIT\n"
RESTORE: Mapping[Family, str] = {4: "iptables-legacy-restore", 6: "ip6tables-legacy-restore"}
Link = tuple[str, str]
"""Source and destination address."""


class Routers(Network):
    """Use it in a `with`. `fill` gives every router its rules."""

    def __init__(self, size: Size, number: int) -> None:
        super().__init__()
        self.size = size
        self._stack = contextlib.ExitStack()
        try:
            self._build(number)
        except BaseException:
            self.close()
            raise

    def _build(self, number: int) -> None:
        self.client, self.server, self.store = self.host("client"), self.host("server"), self.host("store")
        order = list(KINDS)
        Random(number).shuffle(order)
        self.routers: dict[str, Host] = {}
        for kind in order:
            self.routers[kind] = self._router(kind)
        self.store.ip(f"address add {STORE}/32 dev lo")
        self.link(self.store, "to-ours", ["10.91.0.1/24"], self.routers[OURS], "store0", ["10.91.0.2/24"])
        self.routers[OURS].ip(f"route add {STORE}/32 via 10.91.0.1")
        self.settle()
        self._stack.enter_context(self.store.entered())
        self.etcd = self._stack.enter_context(Etcd(self.store, STORE))
        self.writer = self._stack.enter_context(Store(STORE, self.etcd.port))
        self.writer.fill(self._base())
        self._agent = self._stack.enter_context(Agent(self.routers[OURS], env=self.etcd.env, start=False))

    def _router(self, kind: str) -> Host:
        k = KINDS.index(kind) + 1
        router = self.host(f"router-{k}", router=True)
        server, near_server = [f"10.61.{k}.2/24", f"fd61:{k}::2/64"], [f"10.61.{k}.1/24", f"fd61:{k}::1/64"]
        self.link(self.server, f"to-{k}", server, router, "eth0", near_server)
        for place, interface in enumerate(PLACES.values()):
            near, far = f"10.60.{k}.{4 * place + 1}", f"10.60.{k}.{4 * place + 2}"
            self.link(self.client, f"c{k}-{place}", [f"{far}/30"], router, interface, [f"{near}/30"])
            for address in (f"10.70.{k}.{place}", f"10.71.{k}.{place}"):
                self.server.ip(f"address add {address}/32 dev lo")
                router.ip(f"route add {address}/32 via 10.61.{k}.2")
                self.client.ip(f"route add {address}/32 via {near} src {far}")
        self.server.ip(f"route add 10.60.{k}.0/24 via 10.61.{k}.1")
        client = [f"10.80.{k}.2/24", f"10.80.{k}.3/24", f"fd80:{k}::2/64"]
        self.link(self.client, f"h{k}", client, router, HOSTS[0], [f"10.80.{k}.1/24", f"fd80:{k}::1/64"])
        self._six(k, router)
        return router

    def _six(self, k: int, router: Host) -> None:
        """IPv6 by the interface in the middle."""
        (near, far), to = (f"fd60:{k}::1", f"fd60:{k}::2"), f"fd70:{k}::1"
        router.ip(f"address add {near}/64 dev {PLACES[MIDDLE]} nodad", f"route add {to}/128 via fd61:{k}::2")
        self.client.ip(f"address add {far}/64 dev c{k}-{list(PLACES).index(MIDDLE)} nodad", f"route add {to}/128 via {near}")
        self.server.ip(f"address add {to}/128 dev lo", f"route add fd60:{k}::/64 via fd61:{k}::1")

    def _base(self) -> list[d.Stored]:
        """The workload with its pods and their policies; of host endpoints those that are measured."""
        own = [found for found in workload.documents(self.size) if found[1]["kind"] != "HostEndpoint"]
        k = KINDS.index(OURS) + 1
        pods = [
            d.workload_endpoint(
                p.NAMESPACE,
                f"pod-{number}",
                [f"10.60.{k}.{4 * number + 2}", *([f"fd60:{k}::2"] if place == MIDDLE else [])],
                {"place": place.partition(" ")[0]},
                interface=interface,
            )
            for number, (place, interface) in enumerate(PLACES.items())
        ]
        hosts = [
            d.host_endpoint(name, {"role": "packets" if name == HOSTS[0] else "other"}, interfaceName=name) for name in HOSTS
        ]
        return [*own, d.profile(p.NAMESPACE), *pods, *hosts]

    # --- where packets go ------------------------------------------------------------------------------------------------
    @staticmethod
    def through(kind: str, place: str, family: Family = 4, *, allowed: bool = True) -> Link:
        """From the client by a workload's interface to the server; IPv6 by the one in the middle, and allowed."""
        k, number = KINDS.index(kind) + 1, list(PLACES).index(place)
        if family == 6:
            return f"fd60:{k}::2", f"fd70:{k}::1"
        return f"10.60.{k}.{4 * number + 2}", f"10.{70 if allowed else 71}.{k}.{number}"

    @staticmethod
    def into(kind: str, family: Family = 4, *, allowed: bool = True) -> Link:
        """From the client to the router itself; by IPv6 allowed."""
        k = KINDS.index(kind) + 1
        if family == 6:
            return f"fd80:{k}::2", f"fd80:{k}::1"
        return f"10.80.{k}.{2 if allowed else 3}", f"10.80.{k}.1"

    def _allowed(self) -> tuple[str, ...]:
        found = []
        for kind in KINDS:
            found += [self.through(kind, place)[1] for place in PLACES]
            found += [self.into(kind)[0], self.through(kind, MIDDLE, 6)[1], self.into(kind, 6)[0]]
        return tuple(found)

    # --- rules -----------------------------------------------------------------------------------------------------------
    def fill(self, policies: Sequence[Shape]) -> None:
        """Gives every router but the empty ones its rules, in place of those before."""
        allowed = self._allowed()
        revision = self.writer.fill(p.stored(list(policies), allowed))
        if self._agent.alive:
            os.kill(self._agent.pid, signal.SIGCONT)
        else:
            self._agent.start()
        self._agent.wait_applied(revision, STARTS_WITHIN)
        os.kill(self._agent.pid, signal.SIGSTOP)
        pods = [doc["spec"]["interfaceName"] for _, doc in workload.endpoints(self.size) if doc["kind"] == "WorkloadEndpoint"]
        interfaces = sorted([*pods, *PLACES.values()])
        layouts = ((OPTIMUM, packet_chains.chains), (MANGLING, packet_chains.with_mangle), (PEER, packet_peer.chains))
        for kind, chains in layouts:
            router = self.routers[kind]
            for program in RESTORE.values():
                router.run(program, data=NOTHING + (NO_MANGLE if kind == MANGLING else ""))
            router.run("ipset", "destroy")
            for family, program in RESTORE.items():
                lines = []
                for name, members in p.sets(list(policies), allowed, family).items():
                    lines += [f"create {name} hash:net family {'inet' if family == 4 else 'inet6'}"]
                    lines += [f"add {name} {member}" for member in members]
                router.run("ipset", "restore", data="".join(f"{line}\n" for line in lines))
                router.run(program, data=chains(interfaces, list(PLACES.values()), HOSTS, policies, family))
        for kind in KINDS:
            self.routers[kind].forget_flows()

    def close(self) -> None:
        """Ends everything."""
        self._stack.close()
        super().close()
