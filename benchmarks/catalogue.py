"""All benchmarks, those of the control plane here, and what each is held against. Pure; measuring is done elsewhere."""

from __future__ import annotations

from benchmarks import bulk, catalogue_packets, converge, costs, counting, drift, idle, memory
from benchmarks import cold_start as cold
from benchmarks.bench import Bench, Ratio, Target, p99
from benchmarks.changes import MEMBER, RULE

_AGENT, _FLOOR, _AGAIN = converge.AGENT, converge.FLOOR, converge.CONTROL
_WAYS = [way for way, _ in converge.WAYS]
_TIMED = (
    *(Ratio(f"{way}: agent / floor", f"{_AGENT} {way}", f"{_FLOOR} {way}") for way in _WAYS),
    *(Ratio(f"{way}: agent's p99 / floor", f"{_AGENT} {way}", f"{_FLOOR} {way}", by=p99) for way in _WAYS),
)
_CONVERGE = (*_TIMED, Ratio("CPU of a change: agent / floor", converge.AGENT_CPU, converge.FLOOR_CPU))
_CONTROLS = tuple(Ratio(f"{way}: floor again / floor", f"{_AGAIN} {way}", f"{_FLOOR} {way}") for way in _WAYS)
_CHANGE = "from before the put to the first datagram that met it"


def _cost(kind: str, who: str) -> Ratio:
    return Ratio(f"{kind}: agent / {who}", f"{costs.AGENT}: {kind}", f"{who}: {kind}")


def _repair(case: str) -> Ratio:
    return Ratio(f"{case}: longest / {drift.BOUND}", f"{case}: begun to shut again", f"{case}: {drift.BOUND}", by=max)


def _bulk(rules: int, family: int, to: str = bulk.RESTORE, *, cpu: bool = False) -> Ratio:
    of, other = (f"{bulk.name(rules, family, way)}{bulk.CPU * cpu}" for way in (bulk.LIBIPTC, to))
    return Ratio(f"{rules:,} rules, IPv{family}{bulk.CPU * cpu}: libiptc / {to}", of, other)


def _fill(kind: str, family: int) -> Ratio:
    of, to = (bulk.set_name(kind, family, way) for way in (bulk.NETLINK, bulk.TOOL))
    return Ratio(f"{kind}, IPv{family}: netlink / ipset restore", of, to)


_ALL = (
    Bench(
        "converge_quiet",
        f"one rule of one policy turns from Allow to Deny and back: {_CHANGE}",
        _CONVERGE,
        _CONTROLS,
        targets=tuple(Target(f"{way}: agent / floor", 1.5, ("medium",)) for way in _WAYS),
    ),
    Bench(
        "converge_churn",
        f"the same while ten other policies change every second, the floor's program undisturbed: {_CHANGE}",
        _TIMED,
        _CONTROLS,
        targets=tuple(Target(f"{way}: agent's p99 / floor", 5.0) for way in _WAYS),
    ),
    Bench(
        "member_churn",
        f"one member of a network set comes and goes: {_CHANGE}",
        _CONVERGE,
        _CONTROLS,
        targets=tuple(Target(f"{way}: agent / floor", 2.0) for way in _WAYS),
        limits=(("commits of a change", 0),),
    ),
    Bench(
        "cold_start",
        "from exec, with empty tables and an empty state directory, to in sync and to the first datagram that is denied",
        (
            Ratio("in sync / floor", cold.AGENT, cold.FLOOR),
            Ratio("enforced / floor", cold.ENFORCED, cold.FLOOR),
            Ratio("CPU: agent / floor", cold.AGENT_CPU, cold.FLOOR_CPU),
            Ratio("in sync without imports, reading and decoding / floor", cold.REST, cold.FLOOR),
        ),
        (Ratio("floor again / floor", cold.CONTROL, cold.FLOOR),),
        targets=(
            Target("in sync without imports, reading and decoding / floor", 3.0, ("medium",)),
            Target("in sync / floor", 5.0, ("medium",)),
        ),
    ),
    Bench(
        "cpu_per_1000",
        "CPU of 1,000 updates, one at a time, by kind and mixed; the peer is emulated",
        (
            *(_cost(kind, who) for kind in (costs.MIX, RULE, MEMBER) for who in (costs.PEER, costs.FLOOR)),
            Ratio("mix: floor / emulated peer", f"{costs.FLOOR}: {costs.MIX}", f"{costs.PEER}: {costs.MIX}"),
        ),
        (Ratio("mix: floor again / floor", f"{costs.AGAIN}: {costs.MIX}", f"{costs.FLOOR}: {costs.MIX}"),),
        targets=(
            Target(f"{costs.MIX}: agent / {costs.PEER}", 1.0, ("medium", "large"), below=True),
            Target(f"{costs.MIX}: agent / {costs.FLOOR}", 1.5, ("medium",)),
        ),
        unit="CPU seconds of 1,000 updates",
    ),
    Bench(
        "resync_idle",
        "CPU of an idle agent's look for other programs' changes, beside one save of all tables of both families",
        (
            Ratio("a check / both saves", idle.CHECK, idle.SAVE),
            Ratio("reading everything again / both saves", idle.WHOLE, idle.SAVE),
        ),
        (Ratio("both saves again / both saves", idle.AGAIN, idle.SAVE),),
        targets=(Target("a check / both saves", 0.3, ("medium", "large"), below=True),),
        unit="milliseconds of CPU",
    ),
    Bench(
        "drift_repair",
        "another program opens a shut port behind the agent's back: until the last datagram that got in",
        tuple(_repair(case) for case in drift.CASES),
        targets=tuple(Target(_repair(case).name, 1.1) for case in drift.CASES),
    ),
    Bench(
        "rss",
        "resident memory of an agent in sync, and over random changes",
        limits=((memory.RESIDENT_MIB, 120.0), (memory.GROWTH, 64.0)),
        unit="MiB",
    ),
    Bench(
        "counters",
        "what the agent does for one change, the most of four; exact on any machine",
        limits=((counting.GROWN, 0),),
    ),
    Bench(
        "bulk",
        "many rules written into an empty table: through libiptc from entries that were encoded before, or by iptables-restore",
        tuple(_bulk(rules, family, cpu=cpu) for rules in bulk.RULES for family in (4, 6) for cpu in (False, True)),
        tuple(_bulk(bulk.RULES[1], family, bulk.AGAIN, cpu=True) for family in (4, 6)),
    ),
    Bench(
        "set_fill",
        f"a set made, filled with {bulk.MEMBERS:,} members and destroyed",
        tuple(_fill(kind, family) for kind in bulk.TYPES for family in (4, 6)),
        targets=tuple(Target(_fill(kind, family).name, 1.0) for kind in bulk.TYPES for family in (4, 6)),
        unit="microseconds a member",
        at_most=tuple((bulk.set_name(kind, family, bulk.NETLINK), 10.0) for kind in bulk.TYPES for family in (4, 6)),
    ),
)
BENCHES = {bench.name: bench for bench in _ALL} | catalogue_packets.BENCHES
