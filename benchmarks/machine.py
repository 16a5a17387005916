"""What a result depends on beside the code: kernel, tools, load."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version


def _version(*command: str) -> str:
    """The first version number that a tool prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def facts() -> dict[str, object]:
    """Values for a JSON line. The load average is that of the last minute, before anything is measured."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": platform.release().partition("-")[0],
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "iptables": _version("iptables-legacy", "--version"),
        "ipset": _version("ipset", "--version"),
        "etcd": _version("etcd", "--version"),
        **{name: version(name) for name in ("grpcio", "protobuf", "python-iptables")},
    }
