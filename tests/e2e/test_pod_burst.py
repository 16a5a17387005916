"""Two hundred pods in a burst: each link is tried from its first moment on, and nothing passes that policy denies."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from tests.e2e import cluster as c
from tests.e2e import documents as d
from tests.lab.netns import Namespace, run
from tests.lab.probes import Listener
from tests.lab.topology import POD_GATEWAY4, POD_GATEWAY6, Host

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
COUNT, AT_ONCE = 200, 10
ALLOWED, DENIED = 7001, 7002
HERE = range(COUNT)
ANNOUNCED = 100  # seconds until the test stops waiting for what must arrive

# Sends to every target over and over until its stdin ends; by a certain device as soon as there is one.
KNOCK = """
import json, select, socket, sys
targets = [tuple(t) for t in json.loads(sys.stdin.readline())]
open_sockets, sent = {}, 0
def sock(device, family):
    found = open_sockets.get((device, family))
    if found is None:
        found = socket.socket(family, socket.SOCK_DGRAM)
        found.setblocking(False)
        if device:
            try:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            except OSError:
                found.close()
                return None
        open_sockets[device, family] = found
    return found
while not select.select([sys.stdin], [], [], 0.1)[0]:
    for device, address, port, text in targets:
        found = sock(device, socket.AF_INET6 if ":" in address else socket.AF_INET)
        if found is not None:
            try:
                found.sendto(text.encode(), (address, port))
                sent += 1
            except OSError:
                pass  # no route yet, or refused
print(sent)
"""


@contextmanager
def knocking(namespace: Namespace, targets: Sequence[tuple[str, str, int, str]]) -> Iterator[None]:
    """Datagrams from a namespace to (device or "", address, port) with a text, all the while."""
    process = namespace.popen(sys.executable, "-S", "-E", "-c", KNOCK, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(targets) + "\n")
        process.stdin.flush()
        yield
        output, _ = process.communicate("\n", timeout=30)
        assert int(output) > 0
    finally:
        process.kill()
        process.wait(20)


def pod(number: int) -> c.Pod:
    return c.Pod("burst", f"pod{number}", "one", c.pod_address("one", number + 10))


def wire(node: Host, home: Host, numbers: Sequence[int]) -> None:
    """The links of many pods that live in one namespace, `eth7` being the seventh's."""
    pods = {number: pod(number) for number in numbers}
    run(
        *("ip", "-netns", node.name, "-force", "-batch", "-"),
        data="".join(f"link add {p.interface} type veth peer name eth{n} netns {home.name}\n" for n, p in pods.items()),
    )
    home.ip(
        *(f"address add {p.addresses[0]}/32 dev eth{n}" for n, p in pods.items()),
        *(f"address add {p.addresses[1]}/128 dev eth{n} nodad" for n, p in pods.items()),
        *(f"link set eth{n} up" for n in pods),
        *(f"route add default via {POD_GATEWAY4} dev eth{n} onlink metric {n + 1}" for n in pods),
        *(f"route add ::/0 via {POD_GATEWAY6} dev eth{n} metric {n + 1}" for n in pods),
    )
    node.ip(
        *(f"address add {POD_GATEWAY6}/64 dev {p.interface} nodad" for p in pods.values()),
        *(f"link set {p.interface} up" for p in pods.values()),
        *(f"route add {address} dev {p.interface}" for p in pods.values() for address in p.addresses),
    )


class Burst(c.Cluster):
    """One node, and one namespace in which all the pods live; who hears what is allowed, and who hears what is denied."""

    def __init__(self, stack: ExitStack) -> None:
        super().__init__(stack, ("one",))
        self.agent, self.node = self.agents["one"], self.nodes["one"]
        self.node.sysctl({"net/ipv4/conf/default/proxy_arp": "1"})
        self.home, self.outside = self.host("home"), self.hosts["outside"]
        self.allowed = {host: stack.enter_context(Listener(host, udp=[ALLOWED])) for host in (self.home, self.outside)}
        self.denied = {host: stack.enter_context(Listener(host, udp=[DENIED])) for host in (self.home, self.outside)}
        self.arrived: dict[Host, set[str]] = {self.home: set(), self.outside: set()}

    def everybody_knocks(self, stack: ExitStack) -> None:
        """From each pod to the outside and from the outside to each pod, by both IP versions."""
        from_pods, to_pods = [], []
        for number in HERE:
            for version, address, outside in zip((4, 6), pod(number).addresses, c.OUTSIDE, strict=True):
                for port in (ALLOWED, DENIED):
                    from_pods.append((f"eth{number}", outside, port, f"{number}-{version}"))
                    to_pods.append(("", address, port, f"{number}-{version}"))
        stack.enter_context(knocking(self.home, from_pods))
        stack.enter_context(knocking(self.outside, to_pods))

    def all_allowed(self) -> bool:
        """Whether what is allowed has arrived from and at every pod since the start."""
        for host, listener in self.allowed.items():
            self.arrived[host] |= set(listener.heard())
        return all(len(found) == 2 * COUNT for found in self.arrived.values())

    def leaked(self) -> dict[str, list[str]]:
        """What arrived of what is denied."""
        return {host.name: heard for host, listener in self.denied.items() if (heard := sorted(set(listener.heard())))}


def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ANNOUNCED
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_every_pod_of_a_burst_is_closed_from_its_first_packet() -> None:
    """H-52: before its endpoint is known, while it's being written, and after; open is what policy allows, for all of them."""
    only = [d.to_ports("Allow", [ALLOWED])]
    rules = c.policy("burst", "only", "all()", ingress=only, egress=only)
    with ExitStack() as stack:
        site = Burst(stack)
        site.bring(c.namespace("burst"), rules)
        site.start()
        with ExitStack() as knocks:
            site.everybody_knocks(knocks)
            for first in range(0, COUNT, AT_ONCE):
                numbers = range(first, first + AT_ONCE)
                wire(site.node, site.home, numbers)
                pods = [pod(number) for number in numbers]
                revision = site.etcd.transaction({p.key: json.dumps(p.document()) for p in pods})
                assert not site.leaked()
            site.agent.wait_applied(revision, limit=60)
            until("everything that is allowed arrives", site.all_allowed)
            assert not site.leaked()
            # Nobody guards: what was denied arrives, so it would have been seen.
            site.agent.stop()
            assert site.agent.command("cleanup").returncode == 0
            seen: dict[str, set[str]] = {}

            def all_seen() -> bool:
                for name, heard in site.leaked().items():
                    seen.setdefault(name, set()).update(heard)
                return sorted(map(len, seen.values())) == [2 * COUNT] * 2

            until("everything that is denied arrives", all_seen)
