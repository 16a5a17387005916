"""What the kernel makes of `ReversePath`, by packets of a workload's interface: sources that are routed back to it, and others.

The host has a default route through another interface, as nodes have; the workload's address is routed to its interface.
"""

from __future__ import annotations

import json
import socket
import struct

import pytest

from hostward.render.ruleset import DROP, RETURN, Family, Hook, Interface, Jump, Net, ReversePath, Rule, TableId
from tests.lab.netns import Namespace
from tests.lab.topology import Host, Network
from tests.lab.worker.packets import inet_checksum
from tests.lab.xtables import Lab

pytestmark = pytest.mark.kernel
INTERFACE = Interface("in", "cali", prefix=True)
ETHERTYPES = {4: 0x0800, 6: 0x86DD}
ALL_NODES, BROADCAST, NOBODY = "ff02::1", "255.255.255.255", "0.0.0.0"  # noqa: S104 # a source, not a server
HOST = {4: "10.244.1.1", 6: "fd00:244:1::1"}


@pytest.fixture(scope="module")
def network():
    with Network() as network:
        host, workload, router = network.host("host"), network.host("wl"), network.host("router")
        network.link(host, "eth0", ["192.0.2.10/24", "2001:db8:2::10/64"], router, "eth0", [])
        network.link(host, "cali1", ["10.244.1.1/32", "fd00:244:1::1/128"], workload, "eth0", [])
        host.ip(
            "route add default via 192.0.2.1", "route add ::/0 via 2001:db8:2::1",
            "route add 10.244.1.5/32 dev cali1", "route add fd00:244:1::5/128 dev cali1",
        )  # fmt: skip
        network.settle()
        yield network


@pytest.fixture
def lab(network, tmp_path):
    """The host's lab, which this thread is in."""
    host = network.hosts["host"]
    with host.entered():
        yield Lab(host, tmp_path / "xtables.lock")


def datagram(family: Family, source: str, target: str, port: int = 9) -> bytes:
    """A UDP datagram without a checksum of its own: nothing here reads it."""
    body = struct.pack("!HHHH", 68, port, 8, 0)
    if family == 6:
        head = struct.pack("!IHBB", 6 << 28, len(body), 17, 64)
        return head + socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target) + body
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 17, 0) + addresses
    return head[:10] + struct.pack("!H", inet_checksum(head)) + head[12:] + body


def send(workload: Host, host: Namespace, family: Family, packet: bytes) -> None:
    """Puts one packet on the workload's wire, whoever it says that it is from."""
    [link] = json.loads(host.run("ip", "-json", "link", "show", "cali1"))
    with workload.entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    with sock:
        sock.sendto(packet, ("eth0", ETHERTYPES[family], 0, 0, bytes.fromhex(link["address"].replace(":", ""))))


@pytest.mark.parametrize(
    ("family", "source", "target", "dropped"),
    [
        pytest.param(4, "10.244.1.5", HOST[4], False, id="v4-own"),
        pytest.param(4, "10.244.1.6", HOST[4], True, id="v4-neighbour"),
        pytest.param(4, "203.0.113.5", "192.0.2.10", True, id="v4-the-internet"),
        pytest.param(4, "192.0.2.10", HOST[4], True, id="v4-the-host-itself"),
        pytest.param(4, "10.244.1.1", "192.0.2.10", True, id="v4-the-gateway"),
        pytest.param(4, NOBODY, BROADCAST, False, id="v4-dhcp-discover"),
        pytest.param(4, NOBODY, HOST[4], True, id="v4-from-nobody"),
        pytest.param(6, "fd00:244:1::5", HOST[6], False, id="v6-own"),
        pytest.param(6, "fd00:244:1::6", HOST[6], True, id="v6-neighbour"),
        pytest.param(6, "2001:db8:5::5", "2001:db8:2::10", True, id="v6-the-internet"),
        pytest.param(6, "2001:db8:2::10", HOST[6], True, id="v6-the-host-itself"),
        pytest.param(6, "fe80::1234", ALL_NODES, False, id="v6-link-local"),
        pytest.param(6, "::", ALL_NODES, False, id="v6-unspecified"),
    ],
)
def test_a_spoofed_source_is_told_from_a_routed_one(
    network, lab, family: Family, source: str, target: str, dropped: bool
) -> None:
    raw = TableId(family, "raw")
    net = Net("src", f"{source}/{32 if family == 4 else 128}")
    rules = (Rule((INTERFACE, net, ReversePath()), DROP), Rule((INTERFACE, net), RETURN))
    lab.put({"hw-a": ()}, {}, raw)  # the same rules again would go on counting
    lab.put({"hw-a": rules}, {"PREROUTING": Hook((Rule((), Jump("hw-a")),))}, raw)
    packet = datagram(family, source, target)
    for _ in range(3):
        send(network.hosts["wl"], lab.ns, family, packet)
    assert list(lab.tables.counters(raw)["hw-a"][::2]) == ([3, 0] if dropped else [0, 3])
