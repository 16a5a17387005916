"""The kernel's names are any bytes: interfaces and sets whose names no tool would choose stop nothing and are guarded."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from hostward.render.names import endpoint_chain
from hostward.render.ruleset import TableId
from tests.lab.host import HostUnderTest, document
from tests.lab.netns import Namespace

pytestmark = pytest.mark.kernel

HERE, THERE = "10.7.7.1", "10.7.7.2"


@pytest.fixture
def namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    pair = Namespace("odd"), Namespace("peer")
    yield pair
    for namespace in pair:
        namespace.close()


def run(namespace: Namespace, *command: str | bytes) -> None:
    words = [os.fsencode(word) for word in ("ip", "netns", "exec", namespace.name, *command)]
    subprocess.run(words, check=True, capture_output=True, timeout=20)


@pytest.mark.parametrize("name", [b"tun+", b"nic\xff\xfe", b"a\"'\\", b"\x1b[31m", "å".encode()])
def test_an_interface_of_any_name_is_guarded(namespaces: tuple[Namespace, Namespace], name: bytes) -> None:
    here, there = namespaces
    run(here, "ip", "link", "add", name, "type", "veth", "peer", "name", "out", "netns", there.name)
    run(here, "ip", "address", "add", f"{HERE}/24", "dev", name)
    run(here, "ip", "link", "set", name, "up")
    run(there, "ip", "address", "add", f"{THERE}/24", "dev", "out")
    run(there, "ip", "link", "set", "out", "up")
    with HostUnderTest(here) as host:
        interface = os.fsdecode(name)
        assert HERE in host.links[interface].addresses
        host.bring(document("HostEndpoint", "by-address", node="worker", expectedIPs=[HERE]))
        again = host.bring(document("HostEndpoint", "by-address", node="worker", expectedIPs=[HERE]))
        assert (again.commits, again.set_steps) == (0, 0)

        def dropped() -> int:
            counted = host.counted(TableId(4, "filter"), endpoint_chain(interface, "ingress"))
            return sum(packets for rule, packets in counted if rule.counter.endswith("no-policy"))

        with there.entered():
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            for _ in range(100):
                sender.sendto(b"x", (HERE, 9))
                if dropped():
                    break
                time.sleep(0.05)
        assert dropped()


def test_sets_of_any_name_stop_nothing_and_ours_go(namespaces: tuple[Namespace, Namespace]) -> None:
    here, _ = namespaces
    run(here, "ipset", "create", b"\xff\xfetheirs", "hash:ip")
    run(here, "ipset", "create", b"hw4-\xff\xfe", "hash:net")
    with HostUnderTest(here) as host:
        host.bring(document("HostEndpoint", "x", node="worker", interfaceName="eth0"))
    listed = subprocess.run(
        ["ip", "netns", "exec", here.name, "ipset", "list", "-n"], capture_output=True, check=True, timeout=20
    )
    assert listed.stdout.splitlines() == [b"\xff\xfetheirs"]


def test_what_no_set_can_hold_stops_nothing(namespaces: tuple[Namespace, Namespace]) -> None:
    """A port named on an address that hash:ip,port refuses."""
    here, _ = namespaces
    port = {"name": "web", "protocol": "TCP", "port": 80}
    addresses = ["0.0.0.0", "::", "10.0.0.1"]  # noqa: S104 # not to bind to
    rule = {"action": "Allow", "protocol": "TCP", "destination": {"ports": ["web"]}}
    with HostUnderTest(here) as host:
        host.bring(
            document("HostEndpoint", "x", labels={"a": "b"}, node="worker", expectedIPs=addresses, ports=[port]),
            document("HostEndpoint", "y", node="worker", interfaceName="eth0"),
            document("GlobalNetworkPolicy", "p", selector="all()", types=["Ingress"], ingress=[rule]),
        )
        assert {m for held in host.ruleset.sets.values() for m in held.members} == {"10.0.0.1,tcp:80"}


@pytest.mark.parametrize(("rate", "burst"), [("1/day", 5), ("1/day", 0), ("7/hour", 9999), ("9999/second", 9999)])
def test_any_log_limit_is_one_that_the_kernel_takes(namespaces: tuple[Namespace, Namespace], rate: str, burst: int) -> None:
    here, _ = namespaces
    with HostUnderTest(here) as host:
        host.bring(
            document("HostEndpoint", "x", node="worker", interfaceName="eth0"),
            document("GlobalNetworkPolicy", "p", selector="all()", types=["Ingress"], ingress=[{"action": "Log"}]),
            log_action_rate_limit=rate,
            log_action_rate_limit_burst=burst,
        )
