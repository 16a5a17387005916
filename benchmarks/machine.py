"""What a result depends on beside the code: kernel, tools, load."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def facts() -> dict[str, object]:
    """Values for a JSON line. The load average is that of the last minute, before anything is measured."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "iptables": _first_line("iptables-legacy", "--version"),
        "ipset": _first_line("ipset", "--version"),
        "etcd": _first_line("etcd", "--version"),
        **{name: version(name) for name in ("grpcio", "protobuf", "python-iptables")},
    }
