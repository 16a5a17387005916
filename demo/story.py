"""The seven steps, in namespaces that are made for them and removed after: nothing of the machine's own network is touched."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from pathlib import Path

from tests.lab.agent import COMMAND, Agent, clean_environment
from tests.lab.etcd import Etcd
from tests.lab.kubeproxy import Service, install
from tests.lab.probes import Listener, Probe, Prober, probe_all
from tests.lab.topology import WorkerLab

from demo import table
from demo.cells import CELLS, ETCD_PORT, PATIENCE, SERVERS, Cell

MANIFESTS = Path(__file__).with_name("manifests")
ATTACKS = ["-F", "-t mangle -F", "-t raw -F"]
REPAIR_WITHIN = 10.0  # seconds until the story stops waiting; the table then shows what was not repaired


class Story:
    """The network, etcd, the agent and the probers; one method a step. A context manager."""

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()
        self.before: dict[Cell, table.Row] = {}
        self.wrong: list[str] = []
        self.told: set[str] = set()

    def __enter__(self) -> Story:
        try:
            self.build()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def build(self) -> None:
        """Network, servers, kube-proxy's rules, etcd, agent."""
        enter = self.stack.enter_context
        self.lab = enter(WorkerLab())
        for name, ports in SERVERS.items():
            enter(Listener(self.lab.hosts[name], **ports))
        self.probers = {name: enter(Prober(self.lab.hosts[name])) for name in dict.fromkeys(cell.source for cell in CELLS)}
        services = [
            service
            for family in (0, 1)
            for service in (
                Service("WEB", "tcp", self.lab.POD[family], 8080, 30080, self.lab.LB[family]),
                Service("DNS", "udp", self.lab.POD[family], 5353, 30053),
            )
        ]
        install(self.lab.worker, services, self.lab.POD_RANGE)
        self.etcd = enter(Etcd(self.lab.store, self.lab.STORE[0], ports=(ETCD_PORT, ETCD_PORT + 79)))
        self.home = Path(enter(tempfile.TemporaryDirectory(prefix="hostward-demo-")))
        self.config = self.home / "calicoctl.cfg"
        self.config.write_text(
            f"apiVersion: v1\nkind: calicoApiConfig\nmetadata:\nspec:\n    etcdEndpoints: {self.etcd.url}\n", encoding="utf-8"
        )
        self.agent = enter(Agent(self.lab.worker, env=self.etcd.env, start=False))

    # --- what the steps are made of

    def run(self, *arguments: str, shown: str | None = None) -> None:
        """A `hostward` command on the operator's machine, which is the private peer."""
        table.command(f"hostward {shown or ' '.join(arguments)} --config=calicoctl.cfg")
        done = subprocess.run(
            ["ip", "netns", "exec", self.lab.peer.name, *COMMAND, *arguments, f"--config={self.config}"],
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL, env=clean_environment(),
        )  # fmt: skip
        table.output(done.stdout)
        if done.stderr not in self.told:  # the same notice once is enough
            table.output(done.stderr)
        self.told.add(done.stderr)
        if done.returncode:
            raise RuntimeError(f"hostward {' '.join(arguments)}: exit {done.returncode}")

    def apply(self, name: str) -> None:
        """Applies a manifest and waits until the kernel has it."""
        begun = time.monotonic()
        self.run("apply", "-f", str(MANIFESTS / name), shown=f"apply -f {name}")
        self.agent.wait_applied(self.etcd.revision())
        table.say(f"  in the worker's kernel {time.monotonic() - begun:.1f} s after the command was started")

    def attempt(self, step: int) -> dict[Cell, table.Row]:
        """Every cell, both families, all at once."""
        # Protocols without ports are one flow for ever to conntrack: without this, VRRP once let in would stay let in.
        self.lab.worker.run("conntrack", "-D", "-p", "112", check=False)
        self.lab.worker.run("conntrack", "-D", "-f", "ipv6", "-p", "112", check=False)
        results: dict[tuple[Cell, int], str] = {}
        asked = {name: [(c, n) for c in CELLS for n in (0, 1) if c.source == name and c.addresses[n]] for name in self.probers}
        once = {name: [(cell, n) for cell, n in pairs if not cell.held] for name, pairs in asked.items()}
        outcomes = probe_all({self.probers[name]: [cell.probe(n) for cell, n in pairs] for name, pairs in once.items()})
        for name, pairs in once.items():
            results.update(zip(pairs, (outcome.result for outcome in outcomes[self.probers[name]]), strict=True))
        for cell, n in (pair for pairs in asked.values() for pair in pairs if pair[0].held):
            results[cell, n] = self.held(cell, n, step)
        return {cell: (results.get((cell, 0), ""), results.get((cell, 1), "")) for cell in CELLS}

    def held(self, cell: Cell, family: int, step: int) -> str:
        """A connection that stays open: opened in the first step that lets it through, then asked in each."""
        first = int(cell.passes_in[0])
        if step < first:
            return ""
        name, prober = f"{cell.target} {family}", self.probers[cell.source]
        if step == first:
            return prober.hold(name, cell.addresses[family], cell.port, PATIENCE)
        return prober.still(name, PATIENCE)

    def look(self, step: int) -> None:
        """Makes all attempts, prints the table, notes what differs from what it should be."""
        rows = self.attempt(step)
        table.show(list(rows.items()), step, self.before)
        for cell, row in rows.items():
            for family, result in enumerate(row):
                if result and not table.right(cell, step, result):
                    wanted = "get through" if cell.expected(step) else "be blocked"
                    self.wrong.append(
                        f"step {step}: {cell.source} -> {cell.target}, IPv{6 if family else 4}: should {wanted}, was: {result}"
                    )
        self.before = rows

    def shut_again(self, since: float) -> str:
        """Knocks at a port that filter shuts and at one that mangle shuts, until all are shut; how long that took."""
        knocks = [Probe(address, port, timeout=0.3) for address in self.lab.PUBLIC for port in (80, 30080)]
        while (started := time.monotonic()) < since + REPAIR_WITHIN:
            if not any(self.probers["internet"].probe(knocks)):
                return f"at most {started - since:.1f} s"
        return f"not even {REPAIR_WITHIN:.0f} s"

    # --- the steps

    def open(self) -> None:
        """No host endpoint: no interface is touched."""
        table.heading("1  Open: the agent runs, and guards nothing yet")
        self.agent.start()
        self.apply("node.yaml")
        self.run("get", "nodes")
        self.look(1)

    def endpoints(self) -> None:
        """Fail-closed."""
        table.heading("2  Host endpoints: everything is blocked but the failsafe ports")
        self.apply("host-endpoints.yaml")
        table.say(f"  etcd's port, {ETCD_PORT}, is in no failsafe list: the agent adds its own etcd endpoints by itself")
        self.look(2)

    def defaults(self) -> None:
        """What the default policies promise, line by line."""
        table.heading("3  The default worker policies")
        self.apply("default-policies.yaml")
        self.run("get", "policy", "-o", "wide")
        self.look(3)

    def node_ports(self) -> None:
        """The v1 manifest, as printed in the documentation of its time."""
        table.heading("4  A preDNAT policy shuts the node ports; the load balancer stays open")
        self.apply("deny-kube-node-port-services.yaml")
        table.say("  a connection that was open before stays open; the private interface's node ports are not selected")
        self.look(4)

    def office(self) -> None:
        """An allow with a lower order, before DNAT."""
        table.heading("5  One source may use the node ports")
        self.apply("allow-office-node-ports.yaml")
        table.command("hostward status")
        table.output(self.agent.command("status").stdout)
        self.look(5)

    def killed(self) -> None:
        """The rules are the kernel's."""
        table.heading("6  The agent is killed: everything is still enforced")
        table.command(f"kill -9 {self.agent.pid}    # the agent")
        self.agent.kill()
        self.look(6)

    def flushed(self) -> None:
        """Everybody's rules are gone from three tables; ours come back."""
        table.heading("7  A new agent takes over; then someone flushes the chains")
        self.agent.start()
        self.agent.wait_applied(self.etcd.revision())
        table.say("  a new agent has found its own rules in the kernel")
        for tool in ("iptables", "ip6tables"):
            for attack in ATTACKS:
                table.command(f"{tool} {attack}")
                self.agent.iptables(*attack.split(), family=6 if tool == "ip6tables" else 4)
        table.say(f"  tcp 80 and the node ports are shut again {self.shut_again(time.monotonic())} after that")
        self.look(7)

    def tell(self) -> None:
        """All steps in order."""
        for step in (self.open, self.endpoints, self.defaults, self.node_ports, self.office, self.killed, self.flushed):
            step()
