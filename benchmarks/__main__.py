"""Runs the benchmarks: JSON lines to benchmarks/results.jsonl, tables to stdout and into docs/performance.md."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.found import Found
from benchmarks.machine import facts
from benchmarks.report import Result

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.jsonl"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
SIZES = (10, 1000)
REPETITIONS = 5
LIMIT = 300  # seconds, of one repetition


def _repetition(policies: int, number: int) -> dict[str, Found]:
    command = [sys.executable, "-m", "benchmarks.repetition", str(policies), str(number)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "agent")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    try:
        out, _ = process.communicate(timeout=LIMIT)
    finally:
        if process.poll() is None:
            process.terminate()  # it removes its namespaces
            process.wait(60)
    if process.returncode:
        raise SystemExit(f"benchmarks: a repetition with {policies} policies failed, as said above")
    return {name: Found(**value) for name, value in json.loads(out).items()}


def _write_page(results: list[Result], machine: dict[str, object]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    about = ", ".join(f"{name} {value}" for name, value in machine.items())
    text = "\n".join([BEGIN, "", f"Written by `make bench`: {about}.", "", *(result.text() for result in results), END])
    PAGE.write_text(head + text + tail, encoding="utf-8")


def main() -> int:
    """Exit status: 0, or 1 when a control was off."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one repetition with 10 policies; writes no files")
    parser.add_argument("--policies", type=int, action="append", help=f"sizes; without: {', '.join(map(str, SIZES))}")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if os.geteuid() != 0:
        print("benchmarks: skipped: network namespaces need root")
        return 0
    sizes = chosen.policies or ((10,) if chosen.quick else SIZES)
    machine, began = facts(), time.monotonic()
    results = []
    for policies in sizes:
        found = []
        for number in range(1 if chosen.quick else chosen.repetitions):
            print(
                f"{policies} policies, repetition {number + 1}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True
            )
            found.append(_repetition(policies, number))
        for bench in found[0]:
            results.append(Result(bench, policies, [one[bench] for one in found]))
            print(results[-1].text(), flush=True)
    if not chosen.quick and not chosen.policies:
        RESULTS.write_text("".join(json.dumps(result.line(machine)) + "\n" for result in results), encoding="utf-8")
        _write_page(results, machine)
    void = [f"{result.bench} with {result.policies} policies" for result in results if result.void]
    if void:
        print(f"benchmarks: void, the machine was too busy: {', '.join(void)}", file=sys.stderr)
    return 1 if void else 0


if __name__ == "__main__":
    sys.exit(main())
