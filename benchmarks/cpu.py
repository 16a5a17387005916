"""CPU time of another process in nanoseconds, its ended children's beside it."""

from __future__ import annotations

import resource
import time
from pathlib import Path

from tests.lab.agent import TICKS

_SCHEDULED = 2  # CPUCLOCK_SCHED, include/linux/posix-timers.h


def seconds(pid: int) -> float:
    """What a process has used by its own CPU clock; children that have ended, by the kernel's ticks."""
    own = time.clock_gettime((~pid << 3) | _SCHEDULED)
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return own + sum(map(int, fields[13:15])) / TICKS


def of_children() -> float:
    """What this process's ended children have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident(pid: int, field: str = "VmRSS") -> int:
    """A size of a process in KiB: `VmRSS`, or its peak `VmHWM`."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))
