"""All benchmarks, those of the control plane here, and what each is held against. Pure; measuring is done elsewhere."""

from __future__ import annotations

from benchmarks import catalogue_packets, converge
from benchmarks import cold_start as cold
from benchmarks.bench import Bench, Ratio, Target, p99

_AGENT, _FLOOR, _AGAIN = converge.AGENT, converge.FLOOR, converge.CONTROL
_WAYS = [way for way, _ in converge.WAYS]
_CONVERGE = (
    *(Ratio(f"{way}: agent / floor", f"{_AGENT} {way}", f"{_FLOOR} {way}") for way in _WAYS),
    *(Ratio(f"{way}: agent's p99 / floor", f"{_AGENT} {way}", f"{_FLOOR} {way}", by=p99) for way in _WAYS),
    Ratio("CPU of a change: agent / floor", converge.AGENT_CPU, converge.FLOOR_CPU),
)
_CONTROLS = tuple(Ratio(f"{way}: floor again / floor", f"{_AGAIN} {way}", f"{_FLOOR} {way}") for way in _WAYS)

BENCHES = catalogue_packets.BENCHES | {
    bench.name: bench
    for bench in (
        Bench(
            "converge_quiet",
            "one rule of one policy turns from Allow to Deny and back: from before the put to the first datagram that met it",
            _CONVERGE,
            _CONTROLS,
            targets=tuple(Target(f"{way}: agent / floor", 1.5, ("medium",)) for way in _WAYS),
        ),
        Bench(
            "member_churn",
            "one member of a network set comes and goes: from before the put to the first datagram that met it",
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
    )
}
