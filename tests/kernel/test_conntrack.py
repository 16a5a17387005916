"""Connections are forgotten by address, wherever in an entry it stands; all others stay. The system's tool loads and lists."""

from __future__ import annotations

import os

import pytest

from hostward.dataplane import conntrack
from hostward.dataplane.conntrack import forget_flows
from hostward.dataplane.kernel import KernelError
from hostward.dataplane.netlink import NETLINK_NETFILTER, Netlink, RefusedError
from tests.lab.netns import Namespace

pytestmark = pytest.mark.kernel
POD = {4: "10.244.1.5", 6: "fd00:244:1::5"}
OTHER = {4: "10.244.1.55", 6: "fd00:244:1::55"}
HERE = {4: "192.0.2.10", 6: "2001:db8:2::10"}
THERE = {4: "203.0.113.5", 6: "2001:db8:5::5"}


@pytest.fixture
def ns():
    namespace = Namespace("ct")
    try:
        with namespace.entered():
            yield namespace
    finally:
        namespace.close()


def load(ns, directory, lines):
    """Entries by the options of `conntrack -I`."""
    file = directory / "entries"
    file.write_text("".join(f"-I -t 600 {line}\n" for line in lines))
    ns.run("conntrack", "-R", str(file))


def held(ns):
    """The source ports of the entries that are there: each entry of a test has its own."""
    words = [ns.run("conntrack", "-L", "-f", f"ipv{family}").split() for family in (4, 6)]
    words = [[word for line in found for word in line.splitlines()] for found in words]
    return sorted({int(word.removeprefix("sport=")) for found in words for word in found if word.startswith("sport=1")})


def roles(family, pod):
    """An address in every place of an entry; the tuple's second half is what SNAT and DNAT change."""
    here, there = HERE[family], THERE[family]
    return (
        f"-s {pod} -d {there}",
        f"-s {there} -d {pod}",
        f"-s {there} -d {here} -r {pod} -q {there}",  # a NodePort
        f"-s {pod} -d {there} -r {there} -q {here}",  # masqueraded
        f"-s {here} -d {there} -r {there} -q {pod}",  # only the answer goes there
    )


@pytest.mark.parametrize("family", [4, 6])
def test_an_address_is_found_in_every_place(ns, tmp_path, family):
    port = 10000
    lines, gone = [], []
    for transport in ("udp", "tcp --state ESTABLISHED"):
        for address in (POD[family], OTHER[family]):
            for role in roles(family, address):
                port += 1
                ports = f"--sport {port} --dport 80 --reply-port-src 80 --reply-port-dst {port}" if "-r" in role else ""
                lines.append(f"-p {transport} {role} {ports or f'--sport {port} --dport 80'}")
                gone += [port] if address == POD[family] else []
    load(ns, tmp_path, lines)
    assert len(held(ns)) == len(lines)
    assert forget_flows([POD[family]]) == len(gone)
    assert held(ns) == [number for number in range(10001, port + 1) if number not in gone]
    assert forget_flows([POD[family]]) == 0


def test_both_families_zones_and_protocols_without_ports_in_one_go(ns, tmp_path):
    load(
        ns,
        tmp_path,
        [
            f"-p udp -s {POD[4]} -d {THERE[4]} --sport 10001 --dport 53",
            f"-p udp -s {POD[6]} -d {THERE[6]} --sport 10002 --dport 53",
            f"-p udp -s {POD[4]} -d {THERE[4]} --sport 10001 --dport 53 --zone 7",
            f"-p udp -s {POD[4]} -d {THERE[4]} --sport 10003 --dport 53 --orig-zone 9",
            f"-p icmp -s {POD[4]} -d {THERE[4]} --icmp-type 8 --icmp-code 0 --icmp-id 5",
            f"-p sctp -s {THERE[4]} -d {POD[4]} --state ESTABLISHED --orig-vtag 1 --reply-vtag 2 --sport 10004 --dport 5",
            f"-p udp -s {OTHER[4]} -d {THERE[4]} --sport 10005 --dport 53 --zone 7",
        ],
    )
    assert ns.run("conntrack", "-C").strip() == "7"
    assert forget_flows([POD[4], POD[6]]) == 6
    assert held(ns) == [10005]


def test_the_place_of_addresses_is_as_the_library_of_attributes_finds_it(ns, tmp_path):
    entries = [f"-p udp {role} --sport {port} --dport 80" for f in (4, 6) for port, role in enumerate(roles(f, POD[f])[:2], 1)]
    load(ns, tmp_path, entries)
    with Netlink(NETLINK_NETFILTER) as netlink:
        found = netlink.dump(conntrack._GET, conntrack._header(0))
    assert len(found) == 4
    for entry in found:
        assert len(set(conntrack._addresses(entry))) == 2
        assert conntrack._addresses(entry) == conntrack._addresses_anywhere(entry)


def test_ten_thousand_entries_of_many_addresses_are_one_dump(ns, tmp_path, monkeypatch):
    pods = [f"10.244.1.{number}" for number in range(1, 201)]
    load(ns, tmp_path, [f"-p udp -s {pods[n % 200]} -d {THERE[4]} --sport {n + 1} --dport 53" for n in range(10_000)])
    load(ns, tmp_path, [f"-p udp -s {OTHER[6]} -d {THERE[6]} --sport {n} --dport 53" for n in range(10001, 10101)])
    dumps = []
    once = Netlink._dump_once
    monkeypatch.setattr(Netlink, "_dump_once", lambda self, *arguments: dumps.append(1) or once(self, *arguments))
    assert forget_flows(pods) == 10_000
    assert len(dumps) == 1
    assert ns.run("conntrack", "-C").strip() == "100"


def test_an_entry_that_has_gone_is_no_trouble(ns, tmp_path):
    load(ns, tmp_path, [f"-p udp -s {POD[4]} -d {THERE[4]} --sport 10001 --dport 53"])
    with Netlink(NETLINK_NETFILTER) as netlink:
        [entry] = netlink.dump(conntrack._GET, conntrack._header(0))
        assert [conntrack._delete(netlink, entry) for _ in range(2)] == [True, False]


def test_another_entry_in_its_place_stays(ns, tmp_path):
    load(ns, tmp_path, [f"-p udp -s {POD[4]} -d {THERE[4]} --sport {port} --dport 53" for port in (10001, 10002)])
    with Netlink(NETLINK_NETFILTER) as netlink:
        one, other = netlink.dump(conntrack._GET, conntrack._header(0))
        ids = [dict(conntrack.attributes(entry, 4))[conntrack._ID] for entry in (one, other)]
        assert not conntrack._delete(netlink, one.replace(*ids))
    assert held(ns) == [10001, 10002]


def test_nothing_asked_for_is_nothing_done():
    assert forget_flows([]) == 0


def test_a_refusal_is_a_kernel_error():
    """In a child without privileges: the kernel tells nobody else of connections."""
    child = os.fork()
    if not child:
        try:
            os.setuid(65534)
            forget_flows([POD[4]])
        except KernelError as error:
            os._exit(0 if error.retry and isinstance(error.__cause__, RefusedError) else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
