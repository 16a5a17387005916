"""One repetition in a process of its own, for gRPC's threads stay in the namespace where they were started. Prints JSON."""

from __future__ import annotations

import json
import signal
import sys

from benchmarks.groups import GROUPS, Order


def main(group: str, order: Order) -> None:
    """All benchmarks of an order in one bed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that namespaces and processes are removed
    found = GROUPS[group].run(order)
    print(json.dumps({name: vars(one) for name, one in found.items()}))


if __name__ == "__main__":
    main(sys.argv[1], Order(**json.loads(sys.argv[2])))
