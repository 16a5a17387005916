"""One repetition in a process of its own, for gRPC's threads stay in the namespace where they were started. Prints JSON."""

from __future__ import annotations

import json
import signal
import sys

from benchmarks import cold_start, converge_quiet
from benchmarks.bed import Bed
from benchmarks.found import Found


def main(policies: int, number: int) -> None:
    """All benchmarks in one bed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that namespaces and processes are removed
    quiet, cold = Found(), Found()
    with Bed(policies) as bed:
        with cold_start.start(bed) as agent:
            converge_quiet.measure(bed, agent, quiet)
        cold_start.measure(bed, cold, reverse=number % 2 == 1)
    print(json.dumps({"converge_quiet": vars(quiet), "cold_start": vars(cold)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
