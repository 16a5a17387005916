"""Which pictures are made of the results. Pure; what wasn't measured has none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from benchmarks import bulk, converge, costs, memory, svg
from benchmarks.changes import MEMBER, RULE
from benchmarks.packet_policies import MIXES
from benchmarks.packets import ESTABLISHED, HOST, NEW, name
from benchmarks.report import Result
from benchmarks.routers import EMPTY, MIDDLE, OPTIMUM, OURS, PEER
from benchmarks.svg import Point

SIZES = ("medium", "large", "small", "tiny", "moonshot", "")
"""Which size is drawn where one is enough: the first that was measured."""


def draw(results: Sequence[Result]) -> dict[str, str]:
    """SVG by file name."""
    return {file: picture for file, picture in _drawn(results) if picture}


def _drawn(results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    yield "targets.svg", _targets(results)
    if quiet := _one(results, "converge_quiet"):
        yield "converge.svg", _converge(quiet, _one(results, "member_churn"))
    if packets := _one(results, "packets"):
        yield "packets.svg", _packets(packets)
    if any(result.bench.name == "cpu_per_1000" for result in results):
        yield "cpu.svg", _costs([result for result in results if result.bench.name == "cpu_per_1000"])
    if rss := _one(results, "rss"):
        yield "memory.svg", _memory(rss)
    if written := _one(results, "bulk"):
        yield "bulk.svg", _bulk(written)


def _one(results: Sequence[Result], bench: str) -> Result | None:
    found = {result.size: result for result in results if result.bench.name == bench}
    return next((found[size] for size in SIZES if size in found), None)


def _targets(results: Sequence[Result]) -> str:
    rows: dict[str, tuple[float, float, float]] = {}
    for result in results:
        ratios = result.ratios()
        for target in result.bench.targets:
            if target.ratio in ratios and (not target.sizes or result.size in target.sizes):
                void = "void" if result.void else ""
                label = ", ".join(filter(None, (void, result.bench.name, result.size, target.ratio)))
                least, middle, most = (value / target.most for value in ratios[target.ratio])
                rows[label if len(label) < 76 else label[:74] + "…"] = least, middle, most
    return (
        svg.whiskers("What was measured, as a multiple of its target", rows, "1 is the target; less is better") if rows else ""
    )


def _spread(values: Sequence[float]) -> list[Point]:
    """How many percent took at most so long."""
    ordered = sorted(values)
    return [(value, (at + 1) / len(ordered) * 100) for at, value in enumerate(ordered)]


def _converge(quiet: Result, member: Result | None) -> str:
    series = {}
    for result, what in ((quiet, "one rule"), (member, "one member")):
        for who in (converge.AGENT, converge.FLOOR) if result else ():
            assert result is not None
            series[f"{what}: {who}"] = _spread([v for way, _ in converge.WAYS for v in result.samples(f"{who} {way}")])
    title = f"Put to enforced, {quiet.size}: how many percent of the changes took at most so long"
    return svg.lines(title, series, "milliseconds", "percent", log_x=True)


def _packets(result: Result) -> str:
    groups: dict[str, dict[str, float]] = {}
    for mix in MIXES:
        for where in (MIDDLE, HOST):
            for traffic in (ESTABLISHED, NEW):
                base = median(result.samples(name(mix, where, traffic, EMPTY)))
                groups[f"{mix}, {where}, {traffic}"] = {
                    kind: median(result.samples(name(mix, where, traffic, kind))) - base for kind in (OURS, OPTIMUM, PEER)
                }
    return svg.bars(f"What a packet pays beyond an empty router, {result.size}", groups, "nanoseconds of CPU")


def _costs(results: Sequence[Result]) -> str:
    groups: dict[str, dict[str, float]] = {}
    for result in results:
        for kind in (RULE, MEMBER, costs.MIX):
            groups[f"{result.size}: {kind}"] = {
                who: median(result.samples(f"{who}: {kind}")) for who in (costs.AGENT, costs.FLOOR, costs.PEER)
            }
    return svg.bars("CPU of 1,000 updates", groups, "seconds")


def _memory(result: Result) -> str:
    series = {}
    for number, found in enumerate(result.repetitions, start=1):
        values = found.times.get(memory.SERIES, ())
        series[f"repetition {number}"] = [(float((at + 1) * memory.BURST), value) for at, value in enumerate(values)]
    return svg.lines(f"Resident memory over random changes, {result.size}", series, "changes", "MiB")


def _bulk(result: Result) -> str:
    series: dict[str, list[Point]] = {}
    for family in (4, 6):
        for way in (bulk.LIBIPTC, bulk.RESTORE):
            points = [(float(n), median(v)) for n in bulk.RULES if (v := result.samples(bulk.name(n, family, way)))]
            if points:
                series[f"IPv{family}: {way}"] = points
    return svg.lines("Writing many rules at once", series, "rules", "milliseconds", log_x=True, log_y=True) if series else ""
