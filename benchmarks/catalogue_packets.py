"""The benchmarks of what packets and connections pay, and what each is held against. Pure; measuring is done elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import PACKETS, Bench, Ratio, Target
from benchmarks.packet_policies import MIXES
from benchmarks.packets import DROP, ESTABLISHED, HOST, HOST_SIX, MEASURED, MIDDLE_SIX, NEW, name
from benchmarks.routers import AGAIN, EMPTY, MANGLING, MIDDLE, OPTIMUM, OURS, PEER

CONNECTION = "connection"


def to_optimum(mix: str, where: str, traffic: str) -> Ratio:
    """Ours to the hand-written optimum, all that a packet pays."""
    of, to = (name(mix, where, traffic, kind) for kind in (OURS, OPTIMUM))
    return Ratio(f"{mix}, {where}, {traffic}: ours / optimum", of, to)


def to_mangling(mix: str, where: str) -> Ratio:
    """The same to the optimum that has the mangle table as well."""
    of, to = (name(mix, where, ESTABLISHED, kind) for kind in (OURS, MANGLING))
    return Ratio(f"{mix}, {where}, {ESTABLISHED}: ours / {MANGLING}", of, to)


def added(mix: str, where: str, traffic: str, kind: str = OURS) -> Ratio:
    """What it pays beyond an empty router, to what Felix-shaped chains add."""
    of, to, less = (name(mix, where, traffic, one) for one in (kind, PEER, EMPTY))
    return Ratio(f"{mix}, {where}, {traffic}: added, {kind} / Felix-shaped", of, to, less=less)


def _ratios(mix: str, where: str, traffic: str) -> Iterator[Ratio]:
    yield to_optimum(mix, where, traffic)
    if traffic == ESTABLISHED:
        yield to_mangling(mix, where)
    if traffic not in (ESTABLISHED, DROP):
        yield added(mix, where, traffic)
        yield added(mix, where, traffic, OPTIMUM)


def _control(mix: str, where: str, traffic: str) -> Ratio:
    of, to = (name(mix, where, traffic, kind) for kind in (AGAIN, EMPTY))
    return Ratio(f"{mix}, {where}, {traffic}: empty again / empty", of, to)


_AIMED = [one for one in MEASURED if one[1] in (MIDDLE, HOST, MIDDLE_SIX, HOST_SIX)]
_CRR = [(mix, where, CONNECTION) for mix in MIXES for where in (MIDDLE, HOST)]
BENCHES = {
    bench.name: bench
    for bench in (
        Bench(
            "packets",
            "what a datagram pays from client to server, or to the drop: 20 policies, of which the last one allows",
            tuple(ratio for one in MEASURED for ratio in _ratios(*one)),
            tuple(_control(*one) for one in MEASURED),
            PACKETS,
            (
                *(Target(to_optimum(*one).name, 1.05) for one in _AIMED if one[2] == ESTABLISHED),
                *(Target(added(*one).name, 0.5) for one in _AIMED if one[2] == NEW),
            ),
            "ns a packet",
            grid=True,
        ),
        Bench(
            "crr",
            "a TCP connection, a byte each way, and its reset: 20 policies, of which the last one allows",
            tuple(ratio for one in _CRR for ratio in _ratios(*one)),
            tuple(_control(*one) for one in _CRR),
            targets=tuple(Target(to_optimum(*one).name, 1.1) for one in _CRR),
            unit="ns a connection",
            grid=True,
        ),
    )
}
