"""Runs the benchmarks: JSON lines to benchmarks/results.jsonl, tables to stdout and into docs/performance.md, plots."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict

from benchmarks import page, plots
from benchmarks.catalogue import BENCHES
from benchmarks.found import Found
from benchmarks.groups import GROUPS, Order, planned
from benchmarks.machine import facts
from benchmarks.report import Result
from benchmarks.sizes import SIZES

ABOUT = """Hostward's benchmarks, in network namespaces of their own. Needs root. Without arguments: everything but the
moonshot, about 35 minutes on two cores with nothing else to do; then results.jsonl, docs/performance.md, plots are written."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=ABOUT)
    parser.add_argument("--quick", action="store_true", help="one tiny repetition of each: shows that it runs, says nothing")
    parser.add_argument("--only", action="append", choices=sorted(BENCHES), metavar="BENCH", help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--size", action="append", choices=sorted(SIZES), help="instead of small, medium and large")
    parser.add_argument("--repetitions", type=int, help="of each; without: 5, and 1 of what is exact")
    parser.add_argument("--changes", type=int, default=0, help="random changes of rss; without: 1,000; the full test: 10,000")
    parser.add_argument("--write", action="store_true", help="write the files although not everything was run; the rest stays")
    return parser.parse_args()


def _repetition(name: str, order: Order, limit: float) -> dict[str, Found]:
    """Once more when it fails: half an hour's results aren't thrown away for one hiccup of a busy machine."""
    found = _attempt(name, order, limit) or _attempt(name, order, limit)
    if found is None:
        raise SystemExit(f"benchmarks: a repetition of {', '.join(order.benches)} ({order.size}) failed twice, as said above")
    return found


def _attempt(name: str, order: Order, limit: float) -> dict[str, Found] | None:
    command = [sys.executable, "-m", "benchmarks.repetition", name, json.dumps(asdict(order))]
    environment = os.environ | {"PYTHONPATH": str(page.ROOT / "agent")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=page.ROOT, env=environment)
    try:
        out, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        print(f"benchmarks: a repetition took longer than {limit:.0f} s", file=sys.stderr, flush=True)
        return None
    finally:
        if process.poll() is None:
            process.terminate()  # it removes its namespaces
            process.wait(60)
    if process.returncode:
        return None
    return {bench: Found(**value) for bench, value in json.loads(out.splitlines()[-1]).items()}


def _run(chosen: argparse.Namespace) -> list[Result]:
    results, began = [], time.monotonic()
    for name, group in GROUPS.items():
        plan = planned(group, only=chosen.only or (), sizes=chosen.size or (), quick=chosen.quick)
        for size, benches in plan.items():
            found = []
            for number in range(1 if chosen.quick else chosen.repetitions or group.repetitions):
                said = f"{time.monotonic() - began:5.0f} s: {', '.join(benches)} {size}, repetition {number + 1}"
                print(said, file=sys.stderr, flush=True)
                order = Order(size, number, benches, chosen.quick, chosen.changes)
                found.append(_repetition(name, order, group.seconds))
            about = SIZES[size].text if size else ""
            for bench in benches:
                results.append(Result(BENCHES[bench], size, about, [one[bench] for one in found]))
                print(results[-1].text(), flush=True)
    return results


def main() -> int:
    """Exit status: 0, or 1 when a control was off."""
    chosen = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if os.geteuid() != 0:
        print("benchmarks: skipped: network namespaces need root")
        return 0
    machine = facts()
    results = _run(chosen)
    if chosen.write or not (chosen.quick or chosen.only or chosen.size or chosen.repetitions):
        found = [*page.kept(results), *(page.Measured(result, machine) for result in results)]
        found.sort(key=lambda one: ([*BENCHES].index(one.result.bench.name), [*SIZES, ""].index(one.result.size)))
        page.write(found, plots.draw([one.result for one in found]))
    print("\n".join(page.summary(results)))
    void = [f"{result.bench.name} {result.size}".strip() for result in results if result.void]
    if void:
        print(f"benchmarks: void, the machine was too busy: {', '.join(void)}", file=sys.stderr)
    return 1 if void else 0


if __name__ == "__main__":
    sys.exit(main())
