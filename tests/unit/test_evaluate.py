"""The packet evaluator does as netfilter does."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from hostward.render.evaluate import FilterState, Outcome, Packet, evaluate, of_ruleset
from hostward.render.ruleset import (
    ACCEPT,
    DROP,
    RETURN,
    Chain,
    ConnectionMark,
    Hook,
    IcmpType,
    InSet,
    Interface,
    IPSet,
    Jump,
    Limit,
    Log,
    Mark,
    Match,
    Net,
    NoTrack,
    PortSet,
    Protocol,
    Reject,
    ReversePath,
    Rule,
    Ruleset,
    SetMark,
    State,
    Table,
    TableId,
)

PACKET = Packet(4, "input", "10.0.0.1", "10.0.0.2", 6, 1000, 80, in_interface="eth0")
FILTER, RAW, MANGLE = TableId(4, "filter"), TableId(4, "raw"), TableId(4, "mangle")


def run(
    chains: Mapping[str, Chain], packet: Packet = PACKET, where: TableId = FILTER, sets: Mapping[str, IPSet] | None = None
) -> Outcome:
    return evaluate(packet, FilterState({where: chains}, sets or {}))


def changed(**fields: object) -> Packet:
    return Packet(**{**{name: getattr(PACKET, name) for name in PACKET.__slots__}, **fields})  # type: ignore[arg-type] # by name


def matches(match: Match, packet: Packet = PACKET, sets: Mapping[str, IPSet] | None = None) -> bool:
    return not run({"INPUT": (Rule((match,), DROP),)}, packet, sets=sets).accepted


NETS = {"hw4-n": IPSet("hash:net", 4, frozenset({"10.0.0.0/30", "10.9.9.9"}))}
PAIRS = {"hw4-p": IPSet("hash:ip,port", 4, frozenset({"10.0.0.2,tcp:80", "10.0.0.1,udp:1000"}))}
ICMP_PACKET = Packet(4, "input", "10.0.0.1", "10.0.0.2", 1, icmp_type=3, icmp_code=4)
ND_PACKET = Packet(6, "input", "fe80::1", "fe80::2", 58, icmp_type=135)


@pytest.mark.parametrize(
    ("match", "packet", "expected"),
    [
        (Interface("in", "eth0"), PACKET, True),
        (Interface("in", "eth"), PACKET, False),
        (Interface("in", "eth", True), PACKET, True),
        (Interface("out", "eth0"), PACKET, False),
        (Protocol(6), PACKET, True),
        (Protocol(6, negate=True), PACKET, False),
        (Net("src", "10.0.0.0/24"), PACKET, True),
        (Net("dst", "10.0.0.3/32"), PACKET, False),
        (Net("dst", "10.0.0.3/32", negate=True), PACKET, True),
        (PortSet("dst", ((1, 5), (80, 90))), PACKET, True),
        (PortSet("dst", ((81, 90),)), PACKET, False),
        (PortSet("src", ((80, 80),), negate=True), PACKET, True),
        (IcmpType(3), ICMP_PACKET, True),
        (IcmpType(3, 4), ICMP_PACKET, True),
        (IcmpType(3, 1), ICMP_PACKET, False),
        (IcmpType(3, 1, negate=True), ICMP_PACKET, True),
        (IcmpType(255), ICMP_PACKET, True),
        (IcmpType(3), PACKET, False),
        (State(("NEW",)), PACKET, True),
        (State(("NEW",), negate=True), PACKET, False),
        (State(("RELATED", "ESTABLISHED")), changed(state="ESTABLISHED"), True),
        (State(("DNAT",)), PACKET, False),
        (State(("DNAT",)), changed(dnat=("10.0.0.9", 8080)), True),
        (State(("DNAT",)), changed(dnat=("10.0.0.9", 8080), state="UNTRACKED"), False),
        (State(("UNTRACKED",)), changed(state="UNTRACKED"), True),
        (ConnectionMark(0x10, 0x30), changed(connection_mark=0x50), True),
        (ConnectionMark(0x10, 0x30), changed(connection_mark=0x30), False),
        (ConnectionMark(0x10, 0x10), changed(mark=0x10), False),
        (Mark(0x10, 0x30), changed(mark=0x10), True),
        (Mark(0x10, 0x30), changed(mark=0x30), False),
        (Mark(0x10, 0x30, negate=True), changed(mark=0x30), True),
        (Limit("1/second", 1), PACKET, True),
        (ReversePath(), PACKET, False),
        (ReversePath(), replace(PACKET, spoofed=True), True),
    ],
)
def test_a_match(match: Match, packet: Packet, expected: bool) -> None:
    assert matches(match, packet) is expected


@pytest.mark.parametrize(
    ("match", "packet", "expected"),
    [
        (InSet("hw4-n", ("src",)), PACKET, True),
        (InSet("hw4-n", ("src",)), changed(source="10.0.0.4"), False),
        (InSet("hw4-n", ("src",), negate=True), changed(source="10.0.0.4"), True),
        (InSet("hw4-n", ("dst",)), changed(destination="10.9.9.9"), True),
        (InSet("hw4-p", ("dst", "dst")), PACKET, True),
        (InSet("hw4-p", ("src", "src")), PACKET, False),
        (InSet("hw4-p", ("src", "src")), changed(protocol=17), True),
        (InSet("hw4-p", ("dst", "dst")), changed(destination_port=81), False),
    ],
)
def test_membership_in_a_set(match: InSet, packet: Packet, expected: bool) -> None:
    assert matches(match, packet, {**NETS, **PAIRS}) is expected


def test_a_set_of_networks_of_the_other_family() -> None:
    sets = {"hw6-n": IPSet("hash:net", 6, frozenset({"fe80::/64"}))}
    rules = {"INPUT": (Rule((InSet("hw6-n", ("src",)),), DROP),)}
    assert not run(rules, ND_PACKET, TableId(6, "filter"), sets).accepted
    assert run(rules, ND_PACKET, TableId(4, "filter"), sets).accepted


def test_a_goto_returns_to_the_caller_of_the_chain_that_did_it() -> None:
    chains = {
        "INPUT": (Rule((), Jump("a")), Rule((), Log("back in INPUT"))),
        "a": (Rule((), Jump("b", goto=True)), Rule((), DROP)),
        "b": (Rule((), Jump("c")), Rule((), Log("back in b"))),
        "c": (Rule((), RETURN), Rule((), DROP)),
    }
    assert run(chains) == Outcome("", ("back in b", "back in INPUT"))


def test_a_goto_from_a_kernel_chain_ends_at_its_policy() -> None:
    chains = {"INPUT": (Rule((), Jump("a", goto=True)), Rule((), ACCEPT)), "a": ()}
    state = FilterState({FILTER: chains}, {}, frozenset({(FILTER, "INPUT")}))
    assert evaluate(PACKET, state).dropped_in == "filter INPUT"


def test_return_in_a_kernel_chain_is_its_policy() -> None:
    assert run({"INPUT": (Rule((), RETURN), Rule((), DROP))}).accepted


def test_marks_are_set_within_their_mask_and_live_through_all_hooks() -> None:
    state = FilterState(
        {
            RAW: {"PREROUTING": (Rule((), SetMark(0x30, 0x10)),)},  # xmark: the bit outside of the mask is flipped
            MANGLE: {"PREROUTING": (Rule((Mark(0x30, 0x30),), SetMark(0, 0x20)),)},
            FILTER: {"INPUT": (Rule((Mark(0x10, 0x30),), Log("still there")),)},
        },
        {},
    )
    assert evaluate(changed(mark=0x100), state) == Outcome("", ("still there",), 0x110)
    assert evaluate(changed(mark=0x120), state).mark == 0x110


def test_conntrack_isnt_there_in_raw_and_notrack_lasts() -> None:
    state = FilterState(
        {
            RAW: {
                "PREROUTING": (Rule((State(("INVALID",)),), NoTrack()), Rule((State(("UNTRACKED",)),), Log("now untracked")))
            },
            FILTER: {"INPUT": (Rule((State(("UNTRACKED",)),), DROP),)},
        },
        {},
    )
    assert evaluate(PACKET, state) == Outcome("filter INPUT", ("now untracked",), tracked=False)


def test_destination_nat_comes_after_mangle_prerouting_and_after_raw_output() -> None:
    def seen_at(path: str) -> list[str]:
        hooks = ((RAW, "PREROUTING"), (MANGLE, "PREROUTING"), (FILTER, "FORWARD"), (MANGLE, "POSTROUTING"), (RAW, "OUTPUT"))
        tables: dict[TableId, dict[str, Chain]] = {RAW: {}, MANGLE: {}, FILTER: {}}
        for where, hook in (*hooks, (FILTER, "OUTPUT")):
            tables[where][hook] = (
                Rule((PortSet("dst", ((80, 80),)),), Log(f"{where.name} {hook} old")),
                Rule(
                    (Net("dst", "10.0.0.9/32"), PortSet("dst", ((8080, 8080),)), State(("DNAT",))),
                    Log(f"{where.name} {hook} new"),
                ),
            )
        packet = changed(path=path, dnat=("10.0.0.9", 8080))
        return list(evaluate(packet, FilterState(tables, {})).logs)

    assert seen_at("forward") == ["raw PREROUTING old", "mangle PREROUTING old", "filter FORWARD new", "mangle POSTROUTING new"]
    assert seen_at("output") == ["raw OUTPUT old", "filter OUTPUT new", "mangle POSTROUTING new"]


def test_an_untracked_packet_is_not_translated() -> None:
    state = FilterState(
        {RAW: {"PREROUTING": (Rule((), NoTrack()),)}, FILTER: {"INPUT": (Rule((PortSet("dst", ((80, 80),)),), DROP),)}}, {}
    )
    assert not evaluate(changed(dnat=("10.0.0.9", 8080)), state).accepted


def test_reject_drops_and_says_so() -> None:
    assert run({"INPUT": (Rule((), Reject()),)}) == Outcome("filter INPUT", rejected=True)


def test_what_is_no_rule_never_matches() -> None:
    assert evaluate(PACKET, FilterState({FILTER: {"INPUT": (object(),)}}, {})).accepted


def test_interfaces_exist_only_where_the_hook_knows_them() -> None:
    chain = (Rule((Interface("in", "eth0"),), Log("in")), Rule((Interface("out", "eth1"),), Log("out")))
    state = FilterState({FILTER: {"FORWARD": chain}, MANGLE: {"PREROUTING": chain, "POSTROUTING": chain}}, {})
    packet = changed(path="forward", out_interface="eth1")
    assert evaluate(packet, state).logs == ("in", "in", "out", "out")


@pytest.mark.parametrize(
    ("chains", "message"),
    [
        ({"INPUT": (Rule((), Jump("nowhere")),)}, "nowhere"),
        ({"INPUT": (Rule((InSet("hw4-none", ("src",)),), DROP),)}, "hw4-none"),
        ({"INPUT": (Rule((), Jump("a")),), "a": (Rule((), Jump("a")),)}, "loop"),
    ],
)
def test_what_no_kernel_could_hold_is_an_error(chains: Mapping[str, Chain], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(chains)


def test_a_ruleset_as_the_kernel_would_hold_it() -> None:
    table = Table({"hw-INPUT": (Rule((), Log("mine")),)}, {"INPUT": Hook((Rule((), Jump("hw-INPUT")),), (Rule((), DROP),))})
    assert evaluate(PACKET, of_ruleset(Ruleset({FILTER: table}))) == Outcome("filter INPUT", ("mine",))
