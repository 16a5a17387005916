"""Our rules come into kernel chains with the first policy that needs them and go with the last; bits of others open nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e import documents as d
from tests.e2e.conftest import GUARDED, Site

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
SET = ("-j", "MARK", "--set-xmark", "0xff000000/0xff000000")
WITHOUT_80 = {version: tuple(port for port in ports if port != 80) for version, ports in GUARDED.items()}


def leading(site: Site) -> set[str]:
    """The rules of raw and mangle that lead to ours."""
    tables = [f"{table}/v{family}" for table in ("raw", "mangle") for family in (4, 6)]
    everything = site.everything()
    return {
        f"{table} {line}"
        for table in tables
        for line in everything.get(table, [])
        if line.startswith(("-A PREROUTING", "-A OUTPUT", "-A POSTROUTING")) and "-j hw-" in line
    }


@contextmanager
def all_bits_set(site: Site, table: str, *chains: str) -> Iterator[None]:
    """Others set all our bits behind our rules. Only what untracked or preDNAT policy allowed is known by one from there on."""
    places = [(chain, family) for chain in chains for family in (4, 6)]
    for chain, family in places:
        site.agent.iptables("-t", table, "-A", chain, *SET, family=family)
    yield
    for chain, family in places:
        site.agent.iptables("-t", table, "-D", chain, *SET, family=family)


def test_rules_come_and_go_with_the_policies_that_need_them_and_trust_no_bits_of_others(guarded: Site) -> None:
    shut = d.policy("early", 5, [d.to_ports("Deny", [80], "TCP")], preDNAT=True, applyOnForward=True)
    raw = d.policy("raw", 5, [d.to_ports("Deny", [80], "TCP")], doNotTrack=True, applyOnForward=True)
    entry = {f"mangle/v{family} -A PREROUTING -j hw-PREROUTING" for family in (4, 6)}
    both = {f"raw/v{family} -A {chain} -j hw-{chain}" for family in (4, 6) for chain in ("PREROUTING", "OUTPUT")}
    spoofed = {f"raw/v{family} -A PREROUTING -i cali+ -m rpfilter --validmark --invert -j hw-wl-raw" for family in (4, 6)}
    usual = leading(guarded) - entry
    assert entry <= leading(guarded)
    assert spoofed <= usual
    for _ in range(2):
        guarded.agent.wait_applied(guarded.etcd.delete(d.policy_key("early")))
        assert leading(guarded) == usual
        with all_bits_set(guarded, "raw", "PREROUTING", "OUTPUT"), all_bits_set(guarded, "mangle", "PREROUTING"):
            assert guarded.reached() == GUARDED
        with all_bits_set(guarded, "raw", "PREROUTING", "OUTPUT"):
            guarded.agent.wait_applied(guarded.etcd.put(d.policy_key("early"), shut))
            assert guarded.reached() == WITHOUT_80
            assert leading(guarded) == usual | entry
        guarded.agent.wait_applied(guarded.etcd.put(d.policy_key("raw"), raw))
        assert guarded.reached() == WITHOUT_80
        assert leading(guarded) == (usual - spoofed) | entry | both
        guarded.agent.wait_applied(guarded.etcd.delete(d.policy_key("raw")))
        assert leading(guarded) == usual | entry
        assert guarded.reached() == WITHOUT_80
    guarded.agent.wait_applied(guarded.etcd.delete(d.endpoint_key("w0")))
    assert leading(guarded) == spoofed
