"""`cutOpenConnections`: what a change newly denies ends, also what is open and pushes by itself; everything else goes on."""

from __future__ import annotations

import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO

import pytest

from tests.e2e import cluster as c
from tests.e2e import documents as d
from tests.e2e.conftest import Site
from tests.e2e.test_flows import PORT
from tests.e2e.test_flows import Site as OneNode
from tests.lab.probes import Listener

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
REDIRECTED = 9000
SOON = 20.0  # seconds; two on an idle machine
ALL = [{"action": "Allow"}]
PUSHING = """
import socket, sys, threading, time
def push(one):
    while True:
        one.sendall(b"x")
        time.sleep(0.02)
servers = [socket.create_server((host, 8000), family=family) for host, family in (("0.0.0.0", 2), ("::", 10))]
def serve(server):
    while True:
        threading.Thread(target=push, args=(server.accept()[0],), daemon=True).start()
for server in servers:
    threading.Thread(target=serve, args=(server,), daemon=True).start()
print("up", flush=True)
input()
"""
LISTENING = """
import socket, sys
one = socket.create_connection((sys.argv[1], 8000), 5)
one.settimeout(None)
while one.recv(4096):
    print("got", flush=True)
"""


def web(*ports: int) -> d.Document:
    """Who may come in; everything may go out."""
    return d.policy("web", 10, [d.to_ports("Allow", list(ports), "TCP")], egress=ALL, types=["Ingress", "Egress"])


def guard(site: Site, setting: str = "Enabled") -> None:
    """Port 80 open to all, 81 to a set with the client in it, 8000 to all; 9000 is translated to 81."""
    site.agent.env["HOSTWARD_CUT_OPEN_CONNECTIONS"] = setting
    site.guard()
    site.etcd.put(d.policy_key("web"), web(80, 8000))
    for tool in ("iptables-legacy", "ip6tables-legacy"):
        to_81 = ("-p", "tcp", "--dport", str(REDIRECTED), "-j", "REDIRECT", "--to-ports", "81")
        site.worker.run(tool, "-t", "nat", "-A", "PREROUTING", *to_81)
    site.agent.start()
    site.agent.wait_applied(site.etcd.revision())


def hold(site: Site) -> list[str]:
    names = []
    for version in (4, 6):
        for port in (80, 81, REDIRECTED):
            names.append(f"{port} v{version}")
            assert site.probers[0].hold(names[-1], site.WORKER[0][version == 6], port, 3.0) == "ok"
    return names


def carries(site: Site, names: list[str]) -> set[int]:
    """The ports whose held connections still carry data, the same for both IP versions."""
    found = {name for name in names if site.probers[0].still(name, 0.3) == "ok"}
    ports = {int(name.split()[0]) for name in found}
    assert found == {f"{port} v{version}" for port in ports for version in (4, 6)}
    return ports


def cut(site: Site, number: int) -> None:
    site.until(f"{number} are cut", lambda: site.agent.metric("hostward_connections_cut_total") >= number, SOON)


def test_of_a_host_endpoint(site: Site) -> None:
    guard(site)
    names = hold(site)
    assert carries(site, names) == {80, 81, REDIRECTED}
    site.agent.wait_applied(site.etcd.put(d.policy_key("web"), web(8000)))
    cut(site, 2)
    assert carries(site, names) == {81, REDIRECTED}
    assert site.agent.metric("hostward_connections_cut_total") == 2
    # A member that leaves its set: those that were translated, too. A new agent goes on where the last one was.
    site.agent.restart()
    site.agent.wait_applied(site.etcd.revision())
    assert carries(site, names) == {81, REDIRECTED}
    site.agent.wait_applied(site.etcd.delete(d.set_key("friends")))
    cut(site, 4)
    assert carries(site, names) == set()
    # What is allowed again goes on, where both ends still wait for it.
    for port in (80, 81):
        site.etcd.put(d.policy_key("web"), web(port, 8000))
        site.agent.wait_applied(site.etcd.revision())
    site.until("they aren't marked any more", lambda: marked_of(site, 81) == 0, SOON)
    assert marked_of(site, 80) > 0


def marked_of(site: Site, port: int) -> int:
    """How many connections to a port are marked as cut."""
    tables = [site.worker.run("conntrack", "-L", "-f", family, check=False) for family in ("ipv4", "ipv6")]
    lines = [line for table in tables for line in table.splitlines()]
    return sum("mark=1073741824" in line and f" dport={port} " in line for line in lines)


@contextmanager
def process(site: Site, client: bool, script: str, *arguments: str) -> Iterator[IO[str]]:
    """A script in the client's or the worker's namespace; what it prints."""
    where = site.hosts["client0"] if client else site.worker
    running = where.popen(sys.executable, "-S", "-c", script, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert running.stdout is not None
        yield running.stdout
    finally:
        running.kill()
        running.wait(10)
        for pipe in (running.stdin, running.stdout):
            assert pipe is not None
            pipe.close()


def silent(stream: IO[str], seconds: float) -> bool:
    """Whether nothing comes for so long, once what had come is read."""
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        if not select.select([stream], [], [], seconds)[0]:
            return True
        stream.buffer.read1(1 << 16)  # type: ignore[attr-defined] # a text stream's own bytes
    return False


def test_a_server_that_pushes_is_cut_though_it_might_open_a_connection_that_way(site: Site) -> None:
    """If the entry were deleted, the server's next packet would be a new connection from it, which policy allows."""
    guard(site)
    with process(site, False, PUSHING) as up:
        assert up.readline() == "up\n"
        with (
            process(site, True, LISTENING, site.WORKER[0][0]) as four,
            process(site, True, LISTENING, site.WORKER[0][1]) as six,
        ):
            assert four.readline() == six.readline() == "got\n"
            site.agent.wait_applied(site.etcd.put(d.policy_key("web"), web(80)))
            cut(site, 2)
            assert silent(four, 0.5)
            assert silent(six, 0.5)


def test_of_what_is_forwarded_and_by_policy_before_dnat(site: Site) -> None:
    site.worker.forward()
    for number, client in enumerate((site.hosts["client0"], site.hosts["client1"])):
        client.ip(*(f"route add default via {address}" for address in site.WORKER[number]))
    guard(site)
    site.agent.wait_applied(site.etcd.put(d.policy_key("web"), web(80, 8443)))
    names = hold(site)
    with Listener(site.hosts["client1"], tcp=(81, 8443)):
        for version, address in ((4, site.CLIENT[1][0]), (6, site.CLIENT[1][1])):
            names.append(f"8443 v{version}")
            assert site.probers[0].hold(names[-1], address, 8443, 3.0) == "ok"
        early = d.policy("early", 5, [d.to_ports("Deny", [80], "TCP")], preDNAT=True, applyOnForward=True)
        site.agent.wait_applied(site.etcd.put(d.policy_key("early"), early))
        cut(site, 2)
        assert carries(site, names) == {81, REDIRECTED, 8443}
        site.agent.wait_applied(site.etcd.put(d.policy_key("web"), web(80)))
        cut(site, 4)
        assert carries(site, names) == {81, REDIRECTED}


def test_not_unless_it_is_asked_for(site: Site) -> None:
    """Then from FelixConfiguration, while the agent runs: what changed before stays, what changes from now on is cut."""
    guard(site, "")
    names = hold(site)
    site.agent.wait_applied(site.etcd.put(d.policy_key("web"), web(8000)))
    time.sleep(1.5)
    assert carries(site, names) == {80, 81, REDIRECTED}
    assert "connmark" not in str(site.everything())
    spec = {"metadata": {"name": "default"}, "spec": {"cutOpenConnections": "Enabled"}}
    configuration = {"apiVersion": "projectcalico.org/v3", "kind": "FelixConfiguration"} | spec
    site.agent.wait_applied(site.etcd.put(f"{d.ROOT}felixconfigurations/default", configuration))
    site.until("its rule is there", lambda: "connmark" in str(site.everything()), SOON)
    site.agent.wait_applied(site.etcd.delete(d.policy_key("friends")))
    cut(site, 4)
    assert carries(site, names) == {80}


def test_of_pods() -> None:
    with ExitStack() as stack:
        CutNode(stack).check()


class CutNode(OneNode):
    """The node of `test_flows`, whose agent cuts; node port 30080 is translated to the pod that stays open."""

    def start(self) -> None:
        self.agent.env["HOSTWARD_CUT_OPEN_CONNECTIONS"] = "Enabled"
        super().start()

    def check(self) -> None:
        node = c.node_addresses("one")
        for version, tool in enumerate(("iptables-legacy", "ip6tables-legacy")):
            pod = self.other.addresses[version]
            target = f"[{pod}]:{PORT}" if version else f"{pod}:{PORT}"
            dnat = ("-p", "tcp", "--dport", "30080", "-j", "DNAT", "--to-destination", target)
            self.nodes["one"].run(tool, "-t", "nat", "-A", "PREROUTING", *dnat)
            assert self.outside.hold(f"translated {version}", node[version], 30080, c.OPEN_SECONDS) == "ok"
        shut = {**self.endpoints(), self.old.key: self.old.relabelled(app="shut").document()}
        self.bring(self.base, shut)
        count = "hostward_connections_cut_total"
        self.agent.wait("they are cut", lambda: self.agent.metric(count) >= 4, SOON)  # TCP and UDP of both versions
        for version, address in enumerate(self.old.addresses):
            assert self.outside.still(f"old {address}") != "ok"
            assert self.datagram(address).result == "timeout"
            assert self.outside.still(f"other {self.other.addresses[version]}", c.OPEN_SECONDS) == "ok"
            assert self.outside.still(f"translated {version}", c.OPEN_SECONDS) == "ok"
            assert self.datagram(self.other.addresses[version], c.OPEN_SECONDS)
        self.bring(self.base, self.endpoints())
        for address in self.old.addresses:
            self.agent.wait("they may go on", lambda at=address: bool(self.datagram(at)), SOON)
