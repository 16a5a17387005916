"""Who else filters packets in a namespace, and by which bits of the mark: read from a real kernel."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from hostward.dataplane import neighbours, sockets
from hostward.dataplane.kernel import KernelError
from hostward.model.neighbours import recognise
from hostward.render.ruleset import Hook
from tests.lab.netns import Namespace
from tests.lab.probes import Listener, Prober
from tests.lab.xtables import Lab, entered_lab

pytestmark = pytest.mark.kernel
BOTH = (4, 6)


@pytest.fixture
def lab(tmp_path) -> Iterator[Lab]:
    with entered_lab(tmp_path) as lab:
        yield lab


def names() -> list[str]:
    return [found.check for found in recognise(neighbours.look(BOTH))]


def test_nobody_is_there_and_looking_loads_no_table(lab):
    assert names() == []
    assert lab.ns.run("cat", "/proc/net/ip_tables_names") == ""
    lab.put({"hw-a": ()}, {"INPUT": Hook()})
    assert names() == []


def test_the_other_iptables_is_noticed_when_it_has_rules(lab):
    lab.ns.run("iptables-nft", "-N", "MINE")
    assert names() == []
    lab.ns.run("ip6tables-nft", "-A", "INPUT", "-j", "ACCEPT")
    assert names() == ["iptables variants"]
    assert neighbours.look(BOTH).nft_rules == 1
    lab.ns.run("iptables-nft", "-N", "KUBE-FORWARD")
    assert names() == ["kube-proxy", "iptables variants"]


def test_chains_of_both_versions_and_all_tables(lab):
    lab.ns.run("ip6tables-legacy", "-t", "nat", "-N", "KUBE-SERVICES")
    lab.ns.run("iptables-legacy", "-N", "cali-INPUT")
    lab.ns.run("iptables-legacy", "-N", "ufw-before-input")
    assert names() == ["Felix", "kube-proxy", "ufw"]
    assert "iptables-legacy nat" in recognise(neighbours.look(BOTH))[1].finding
    lab.ns.run("iptables-legacy", "-X", "cali-INPUT")
    assert names() == ["kube-proxy", "ufw"]


def test_what_cannot_be_listed_is_told_and_ends_nobody(lab, monkeypatch):
    def refuse() -> list[tuple[int, str]]:
        raise OSError(errno.ENOBUFS, "no room")

    monkeypatch.setattr(socket, "if_nameindex", refuse)
    with pytest.raises(KernelError, match="no room"):
        names()


def test_interfaces(lab):
    lab.ns.run("ip", "link", "add", "kube-ipvs0", "type", "veth", "peer", "name", "docker0")
    assert names() == ["IPVS", "Docker"]


def test_bits_of_the_mark(lab):
    assert list(neighbours.marks(BOTH)) == []
    lab.ns.run("iptables-legacy", "-t", "nat", "-N", "KUBE-MARK-MASQ")
    lab.ns.run("iptables-legacy", "-t", "nat", "-A", "KUBE-MARK-MASQ", "-j", "MARK", "--set-xmark", "0x4000/0x4000")
    lab.ns.run("ip6tables-legacy", "-A", "INPUT", "-m", "mark", "--mark", "0x1000000/0x3000000", "-j", "ACCEPT")
    lab.ns.run("ip", "rule", "add", "fwmark", "0x2000000/0x2000000", "table", "7")
    lab.ns.run("ip", "-6", "rule", "add", "fwmark", "0x5", "table", "7")
    lab.put({"hw-a": ()}, {"INPUT": Hook()})
    lab.ns.run("iptables-legacy", "-A", "hw-a", "-m", "mark", "--mark", "0x10/0x10", "-j", "ACCEPT")
    found = {use.where: use.mask for use in neighbours.marks(BOTH)}
    assert found == {
        "chain KUBE-MARK-MASQ of nat/v4": 0x4000,
        "chain INPUT of filter/v6": 0x3000000,
        "a rule of IPv4 routing for mark 0x2000000/0x2000000": 0x2000000,
        "a rule of IPv6 routing for mark 0x5/0xffffffff": 0xFFFFFFFF,
    }


def test_who_listens_and_who_is_connected():
    namespace = Namespace("listen")
    try:
        namespace.run("ip", "address", "add", "192.0.2.1/32", "dev", "lo")
        with Listener(namespace, tcp=(80,)), Prober(namespace) as prober:
            assert prober.hold("one", "192.0.2.1", 80) == "ok"
            assert prober.hold("two", "127.0.0.1", 80) == "ok"
            with namespace.entered():
                listening, connected = sockets.listening(), sockets.connected()
        assert {(one.port, one.process.startswith("python")) for one in listening} == {(80, True)}
        assert {one.address for one in connected} == {"192.0.2.1"}
        assert 80 in {one.port for one in connected}
    finally:
        namespace.close()
