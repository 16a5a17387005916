"""Network namespaces that tests make, enter and remove. Nothing here touches the machine's own network."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_serial = itertools.count()


def run(*command: str, check: bool = True, data: str | None = None) -> str:
    """Runs a command to its end; its stdout. A failure carries its stderr."""
    done = subprocess.run(command, input=data, capture_output=True, text=True, timeout=60, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _enter(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class Namespace:
    """A network namespace with a name of its own, `lo` up. `close` removes it."""

    def __init__(self, label: str = "t") -> None:
        self.name = f"hw{os.getpid()}-{next(_serial)}-{label}"
        run("ip", "netns", "add", self.name)
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command: str, check: bool = True, data: str | None = None) -> str:
        """Runs a command inside; its stdout."""
        return run("ip", "netns", "exec", self.name, *command, check=check, data=data)

    def popen(self, *command: str, **options: object) -> subprocess.Popen[str]:
        """Starts a process inside; the caller ends it by its pid."""
        return subprocess.Popen(["ip", "netns", "exec", self.name, *command], text=True, **options)  # type: ignore[call-overload,no-any-return] # options are Popen's own

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Puts the calling thread inside: sockets that it opens belong to this namespace."""
        with Path("/proc/thread-self/ns/net").open("rb") as home, Path(f"/run/netns/{self.name}").open("rb") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def close(self) -> None:
        """Removes the namespace; interfaces in it go with it."""
        run("ip", "netns", "del", self.name, check=False)
