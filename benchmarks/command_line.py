"""The command line's costs: `hostward version` from nothing, and 1,000 resources applied, listed and deleted through etcd.

Every command is a process of its own, as an operator starts it. `python -m benchmarks.command_line [COUNT]` prints JSON lines.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.lab.etcd import Etcd

ROOT = Path(__file__).parents[1]
HOSTWARD = [sys.executable, "-c", "import sys; from hostward.cli.main import main; sys.exit(main())"]
COUNT = 1000
REPETITIONS = 5
LIMIT = 120  # seconds, of one command


def manifests(count: int) -> str:
    """As many policies, each with two rules, as a file of YAML documents."""
    one = """\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: policy-{0}
spec:
  order: {0}
  selector: role == 'role-{0}'
  types: [Ingress]
  ingress:
  - action: Allow
    protocol: TCP
    source:
      nets: [10.{1}.{2}.0/24]
    destination:
      ports: [80, 443, 8000:8080]
  - action: Deny
"""
    return "---\n".join(one.format(number, number // 250 % 250, number % 250) for number in range(count))


def seconds(environ: dict[str, str], *args: str) -> float:
    """How long a command takes, from its start to its end. It must succeed."""
    before = time.perf_counter()
    subprocess.run([*HOSTWARD, *args], env=environ, check=True, stdout=subprocess.DEVNULL, timeout=LIMIT)
    return time.perf_counter() - before


def measure(count: int = COUNT, repetitions: int = REPETITIONS) -> dict[str, list[float]]:
    """Seconds of each command, one value per repetition."""
    environ = os.environ | {"PYTHONPATH": str(ROOT / "agent")}
    environ.pop("HOSTWARD_DATASTORE", None)
    found: dict[str, list[float]] = {}
    with Etcd() as etcd, tempfile.TemporaryDirectory() as home:
        environ |= etcd.env
        file = Path(home, "policies.yaml")
        file.write_text(manifests(count), encoding="utf-8")
        steps = {
            "version": ("version",),
            "help": ("--help",),
            f"validate {count}": ("validate", "-f", str(file)),
            f"apply {count} new": ("apply", "-f", str(file)),
            f"apply {count} again": ("apply", "-f", str(file)),
            f"get {count} as a table": ("get", "gnp", "-o", "wide"),
            f"get {count} as YAML": ("get", "gnp", "-o", "yaml"),
            f"delete {count}": ("delete", "-y", "-f", str(file)),
        }
        for _ in range(repetitions):
            for name, args in steps.items():
                found.setdefault(name, []).append(seconds(environ, *args))
    return found


def main() -> int:
    """Prints one line of JSON per command."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    for name, values in measure(count).items():
        rounded = {"median": statistics.median(values), "least": min(values), "most": max(values)}
        line = {"benchmark": f"hostward {name}", "unit": "s", **{key: round(value, 3) for key, value in rounded.items()}}
        print(json.dumps(line | {"repetitions": len(values)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
