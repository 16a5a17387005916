"""What is closed at boot where no rules were kept, packet by packet."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hostward.dataplane.saved_rules import of_ruleset
from hostward.model.settings import BUILT_IN, Settings
from hostward.render.evaluate import Packet, evaluate
from hostward.render.evaluate import of_ruleset as state_of
from hostward.render.minimum import minimum

ETCD = (("192.0.2.9", 4001), ("etcd.example", 4002), ("2001:db8::9", 4003))
HERE, THERE = {4: "192.0.2.1", 6: "2001:db8::1"}, {4: "198.51.100.1", 6: "2001:db8:1::1"}


def settings(*interfaces: str, **others: object) -> Settings:
    return replace(BUILT_IN, boot_interfaces=interfaces, **others)  # type: ignore[arg-type] # names of settings


def passes(packet: Packet, chosen: Settings) -> bool:
    return evaluate(packet, state_of(minimum(chosen, ETCD, (4, 6)))).accepted


def into(family: int, port: int, interface: str = "eth0", protocol: int = 6) -> Packet:
    return Packet(family, "input", THERE[family], HERE[family], protocol, 40000, port, in_interface=interface)  # type: ignore[arg-type]


def out(family: int, port: int, target: str = "", protocol: int = 6) -> Packet:
    return Packet(family, "output", HERE[family], target or THERE[family], protocol, 40000, port, out_interface="eth0")  # type: ignore[arg-type]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("forwarding", ["All", "ApplyOnForward"])
def test_named_interfaces_are_closed_both_ways_but_for_failsafe_ports(family: int, forwarding: str) -> None:
    chosen = settings("eth0", host_forward_policy=forwarding)
    assert [port for port in (22, 80, 443, 10250) if passes(into(family, port), chosen)] == [22]
    assert [port for port in (53, 123) if passes(out(family, port, protocol=17), chosen)] == [53]
    assert not passes(out(family, 80), chosen)
    through = Packet(family, "forward", THERE[family], HERE[family], 6, 40000, 22, "eth0", "eth1")  # type: ignore[arg-type]
    assert not passes(through, chosen)
    assert not passes(replace(through, in_interface="eth1", out_interface="eth0"), chosen)
    assert passes(into(family, 80, "eth1"), chosen)


def test_all_but_loopback_can_be_closed() -> None:
    chosen = settings("*")
    assert not passes(into(4, 80, "anything"), chosen)
    assert passes(into(4, 80, "lo"), chosen)


def test_etcd_can_be_reached_by_its_address_or_at_its_port() -> None:
    chosen = settings("eth0", failsafe_outbound_host_ports=())
    assert passes(out(4, 4001, "192.0.2.9"), chosen)
    assert not passes(out(4, 4001), chosen)
    assert passes(out(6, 4003, "2001:db8::9"), chosen)
    assert not passes(out(6, 4003), chosen)
    assert passes(out(4, 4002), chosen)
    assert passes(out(6, 4002), chosen)
    assert not passes(out(4, 4004), chosen)


def test_neighbours_are_found() -> None:
    for kind in (133, 134, 135, 136):
        found = Packet(6, "input", "fe80::2", "fe80::1", 58, 0, 0, in_interface="eth0", icmp_type=kind)
        assert passes(found, settings("eth0"))
    ping = Packet(6, "input", THERE[6], HERE[6], 58, 0, 0, in_interface="eth0", icmp_type=128)
    assert not passes(ping, settings("eth0"))


def test_names_of_all_kinds_can_be_told_from_the_rules() -> None:
    names = (*(f"eth{n}" for n in range(20)), *(f"bond{n}.{m}" for n in range(3) for m in range(4)), "a_b", "*")
    saved = of_ruleset(minimum(settings(*names), ETCD, (4, 6)), "a test")
    assert {frozenset(saved.families[family].interfaces()) for family in (4, 6)} == {frozenset(names)}  # type: ignore[index]
