"""The hand-written routers of the packet benchmarks: every interface is found, and both mixes allow by the last policy only."""

from __future__ import annotations

import json
from ipaddress import ip_network
from itertools import pairwise

import pytest
from benchmarks import packet_chains, packet_peer
from benchmarks.dumps import tables
from benchmarks.packet_dispatch import tree
from benchmarks.packet_policies import MIXES, POLICIES, PORT, members, sets, shapes, six, stored

from hostward.model import keys
from hostward.model.decode import decode
from hostward.render.ruleset import FAMILIES, Family

NAMES = [f"cali{number:03x}" for number in range(300)] + ["cali", "calif"]
ALLOWED = ("10.70.1.0", "fd70:1::1")


def version(net: str) -> int:
    return ip_network(net).version


def test_a_network_has_a_counterpart_of_ipv6() -> None:
    assert [six(net) for net in ("10.1.2.0/24", "198.18.0.0/16", "10.70.1.9/32")] == [
        "fd19:10:1:2:0::/64",
        "fd19:198:18:0:0::/48",
        "fd19:10:70:1:9::/80",
    ]


def leads_to(rules: list[str], root: str, interface: str) -> tuple[str, int]:
    """The chain that an interface ends in, and how many rules were looked at."""
    chain, seen = root, 0
    for _ in range(9):
        for rule in (rule for rule in rules if rule.startswith(f"-A {chain} ")):
            seen += 1
            words = rule.split(" ")
            pattern = words[3] if "-i" in words else "+"
            if pattern == interface or (pattern.endswith("+") and interface.startswith(pattern[:-1])):
                chain = words[-1]
                break
        else:
            break
    return chain, seen


def test_every_interface_is_found_within_a_few_rules() -> None:
    rules = list(tree("root", "-i", {name: f"to-{name}" for name in NAMES}, "-j DROP"))
    found = {name: leads_to(rules, "root", name) for name in NAMES}
    assert {name: chain for name, (chain, _) in found.items()} == {name: f"to-{name}" for name in NAMES}
    assert max(seen for _, seen in found.values()) < 50
    assert leads_to(rules, "root", "eth0")[0] == leads_to(rules, "root", "cali2")[0] == "DROP"


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
def test_only_the_last_policy_allows(mix: str, protocol: str) -> None:
    chosen = shapes(mix, protocol)
    assert [shape.number for shape in chosen] == list(range(POLICIES))
    assert chosen[-1].protocol == protocol
    assert PORT in chosen[-1].ports
    allowed: dict[Family, str] = {4: "10.70.1.0/32", 6: "fd70:1::1/128"}
    for family, net in allowed.items():
        filled = sets(chosen, ALLOWED, family)
        assert [name for name, nets in filled.items() if net in nets] == [chosen[-1].set_name(family)]
        assert net not in members(0, ALLOWED, family)
        assert {version(found) for nets in filled.values() for found in nets} == {family}
    for path, document in stored(chosen, ALLOWED):
        key = keys.parse(path)
        assert key is not None
        assert not decode(key, json.dumps(document).encode()).problems


@pytest.mark.parametrize("chains", [packet_chains.chains, packet_peer.chains])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_chain_that_is_jumped_to_is_there(chains: object, family: Family) -> None:
    assert callable(chains)
    text = chains(NAMES, NAMES[:1], ("host0", "host1"), shapes(MIXES[1], "UDP"), family)
    nets = {word for line in text.splitlines() for before, word in pairwise(line.split(" ")) if before in ("-s", "-d")}
    assert {version(net) for net in nets} == {family}
    assert all(f" {name} " in text for name in sets(shapes(MIXES[1], "UDP"), ALLOWED, family))
    for table in tables(text).values():
        targets = {rule.split(" ")[-1] for rules in table.values() for rule in rules if " -g " in f" {rule}"}
        assert targets <= table.keys()
        assert all(len(name) <= 28 for name in table)


def test_a_comment_comes_before_every_match_of_the_peer() -> None:
    found = tables(packet_peer.chains(["cali1"], ["cali1"], ("host0",), shapes(MIXES[0], "UDP")))
    (first, _) = found["filter"]["cali-po-0"]
    words = first.split(" ")
    assert words[:4] == ["-p", "udp", "-m", "comment"]
    assert first.index("--match-set") < first.index("--dports")
