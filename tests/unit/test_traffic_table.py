"""Which policies judge which traffic, hosts and workloads together: the table of `statements.md` H-10, cell by cell.

One policy of all denies: the packet is dropped exactly where the table has that policy, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import pytest
from msgspec.structs import replace

from hostward.model.rules import Action
from hostward.model.settings import BUILT_IN
from hostward.render.evaluate import FilterState, Packet, evaluate
from tests.lab.oracle import Host
from tests.unit.traffic import JUDGES, NODE, TABLE, Judge, Kind, Row, rules, world

CASES = [
    pytest.param(row, forwarding, id=f"{name}, {forwarding}")
    for name, row in TABLE.items()
    for forwarding in ("All", "ApplyOnForward")
]
FIRST = {"input": "PREROUTING", "forward": "PREROUTING", "output": "OUTPUT"}
FILTER = {"input": "INPUT", "forward": "FORWARD", "output": "OUTPUT"}


def where(judge: Judge, packet: Packet) -> str:
    """Where a judge drops what it denies."""
    if judge[0] in ("untracked", "preDNAT"):
        return f"{'raw' if judge[0] == 'untracked' else 'mangle'} {FIRST[packet.path]}"
    if packet.path == "output" and packet.dnat is not None:
        return "mangle POSTROUTING"
    return f"filter {FILTER[packet.path]}"


@lru_cache(maxsize=1024)
def guarded(settled: frozenset[tuple[Judge, Action | None]], forwarding: str) -> tuple[FilterState, Host]:
    """The rules of a world, and the oracle of it."""
    choice = replace(BUILT_IN, host_forward_policy=forwarding, default_endpoint_to_host_action="Return")
    resources = world(dict(settled))
    return rules(choice, resources), Host.under(choice, NODE, resources.values(), {})


def dropped_in(packet: Packet, settled: Mapping[Judge, Action | None], forwarding: str) -> str:
    """Where the packet ends, "" where nowhere; the oracle must say the same."""
    state, oracle = guarded(frozenset(settled.items()), forwarding)
    outcome = evaluate(packet, state)
    assert oracle.accepts(packet) == outcome.accepted
    return outcome.dropped_in


@pytest.mark.parametrize(("row", "forwarding"), CASES)
def test_who_judges(row: Row, forwarding: str) -> None:
    assert dropped_in(row.packet, {}, forwarding) == ""
    found = {judge: dropped_in(row.packet, {judge: Action.DENY}, forwarding) for judge in JUDGES}
    assert {judge: place for judge, place in found.items() if place} == {
        judge: where(judge, row.packet) for judge in row.expected(forwarding)
    }


@pytest.mark.parametrize(("row", "forwarding"), CASES)
def test_who_denies_at_the_end_of_a_tier(row: Row, forwarding: str) -> None:
    """M-28, M-34: all but untracked and preDNAT policies."""
    found = {judge: dropped_in(row.packet, {judge: None}, forwarding) for judge in JUDGES}
    judges = {judge for judge in row.expected(forwarding) if judge[0] not in ("untracked", "preDNAT")}
    assert {judge: place for judge, place in found.items() if place} == {judge: where(judge, row.packet) for judge in judges}


@pytest.mark.parametrize(("row", "forwarding"), CASES)
def test_whom_an_early_allow_goes_past(row: Row, forwarding: str) -> None:
    """H-12: what is allowed before is past this side's later policies, not past the workloads' own nor the other side's."""
    judges = row.expected(forwarding)
    for allows in (judge for judge in judges if judge[0] in ("untracked", "preDNAT")):
        later: set[Kind] = {"preDNAT", "normal", "forward"} if allows[0] == "untracked" else {"normal", "forward"}
        for denies in judges - {allows}:
            place = dropped_in(row.packet, {allows: Action.ALLOW, denies: Action.DENY}, forwarding)
            past = denies[0] in later and denies[1:] == allows[1:]
            assert bool(place) is not past, (allows, denies, place)
