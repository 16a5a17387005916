"""Open connections as the kernel tells them, nat included, and their marks; and the ways to addresses."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from hostward.dataplane import flow_table
from hostward.dataplane.kernel import KernelError
from hostward.dataplane.ways import Ways
from hostward.model.flow import Flow
from tests.lab.probes import Listener, Prober
from tests.lab.topology import Host, Network

pytestmark = pytest.mark.kernel
SERVER, CLIENT = ("192.0.2.1", "2001:db8::1"), ("192.0.2.5", "2001:db8::5")


@pytest.fixture
def server() -> Iterator[tuple[Host, Prober]]:
    """Port 80 listens, 9000 is translated to it; everything is tracked."""
    with Network() as network:
        server, client = network.host("server"), network.host("client")
        network.link(
            server, "eth0", [f"{SERVER[0]}/24", f"{SERVER[1]}/64"], client, "eth0", [f"{CLIENT[0]}/24", f"{CLIENT[1]}/64"]
        )
        for tool in ("iptables-legacy", "ip6tables-legacy"):
            server.run(tool, "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED")
            redirect = ("-p", "tcp", "--dport", "9000", "-j", "REDIRECT", "--to-ports", "80")
            server.run(tool, "-t", "nat", "-A", "PREROUTING", *redirect)
        network.settle()
        with Listener(server, tcp=(80,), udp=(53,)), Prober(client) as prober:
            yield server, prober


def listed(server: Host) -> dict[tuple[str, int, int], Flow]:
    with server.entered():
        found = flow_table.flows()
    return {(flow.destination, flow.protocol, flow.destination_port): flow for flow in found if flow.source in CLIENT}


def test_as_they_are(server: tuple[Host, Prober]) -> None:
    host, prober = server
    for version in (0, 1):
        for port in (80, 9000):
            assert prober.hold(f"{version} {port}", SERVER[version], port, 3.0) == "ok"
        assert prober.can_connect(SERVER[version], 53, "udp", timeout=3.0)
        assert prober.can_connect(SERVER[version], proto="icmp", timeout=3.0, icmp_type=128 if version else 8)
    found = listed(host)
    for version, (address, client) in enumerate(zip(SERVER, CLIENT, strict=True)):
        plain, translated = found[address, 6, 80], found[address, 6, 9000]
        assert (plain.answer, plain.answer_port, plain.answered_to) == (address, 80, client)
        assert (translated.answer, translated.answer_port, translated.answered_to) == (address, 80, client)
        assert plain.source_port != translated.source_port
        assert found[address, 17, 53].answer_port == 53
        echo = found[address, (1, 58)[version], 0]
        assert (echo.icmp_type, echo.icmp_code, echo.source_port, echo.answer_port) == ((8, 128)[version], 0, 0, 0)
        assert not plain.related


def test_only_what_is_wanted(server: tuple[Host, Prober]) -> None:
    host, prober = server
    assert prober.hold("one", SERVER[0], 80, 3.0) == prober.hold("two", SERVER[1], 80, 3.0) == "ok"
    with host.entered():
        (found,) = flow_table.flows(lambda flow: flow.destination == SERVER[1])
    assert found.source == CLIENT[1]


def test_marks_in_their_mask_alone(server: tuple[Host, Prober]) -> None:
    host, prober = server
    for version in (0, 1):
        assert prober.hold(str(version), SERVER[version], 80, 3.0) == "ok"
        host.run("conntrack", "-U", "-f", ("ipv4", "ipv6")[version], "-d", SERVER[version], "--mark", "5")
    with host.entered():
        found = [flow for flow in flow_table.flows() if flow.destination_port == 80]
        assert [flow.mark for flow in found] == [5, 5]
        assert flow_table.mark(found, 0x40000000, 0x40000000) == 2
        marked = [flow for flow in flow_table.flows() if flow.destination_port == 80]
        assert [flow.mark for flow in marked] == [0x40000005] * 2
        assert flow_table.mark(marked, 0, 0x40000000) == 2
        assert [flow.mark for flow in flow_table.flows() if flow.destination_port == 80] == [5, 5]
        for family in ("ipv4", "ipv6"):
            host.run("conntrack", "-F", "-f", family)
        assert flow_table.mark(marked, 0x40000000, 0x40000000) == 0  # gone: no trouble, and none is made


def test_the_way_to_an_address(server: tuple[Host, Prober]) -> None:
    host, _ = server
    with host.entered(), Ways() as ways:
        assert [ways.to(address) for address in (*CLIENT, "198.51.100.1", "2001:db8:9::1")] == ["eth0", "eth0", "", ""]
    host.ip("route add 198.51.100.0/24 via 192.0.2.5", "route add 2001:db8:9::/64 via 2001:db8::5")
    with host.entered(), Ways() as ways:
        assert [ways.to(address) for address in ("198.51.100.1", "2001:db8:9::1")] == ["eth0", "eth0"]


def test_a_kernel_that_cannot_be_asked_is_no_missing_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what nobody knows the way of is left open, until the next change."""
    with Ways() as ways:
        ways._netlink.close()
        with pytest.raises(KernelError, match="can't be asked"):
            ways.to(CLIENT[0])

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(KernelError, match="too many open files"):
        Ways()
