"""The C program that sends packets and makes connections: compiled by the system's compiler, run on one CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

SOURCE = Path(__file__).with_name("sender.c")
COMPILER = ("cc", "-O2", "-o")


@dataclass(frozen=True)
class Path5:
    """One flow: what kind, and between which namespaces, addresses and ports; source port 0: any."""

    kind: str
    client: str
    server: str
    source: str
    source_port: int
    destination: str
    port: int

    def line(self) -> str:
        """As the program reads it."""
        return " ".join(map(str, vars(self).values()))


class Helper:
    """The compiled program. Use it in a `with`."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="hostward-sender-"))
        self._program = self._home / "sender"
        try:
            subprocess.run([*COMPILER, str(self._program), str(SOURCE)], check=True, timeout=60)
        except BaseException:
            self.close()
            raise

    def run(self, flows: Sequence[Path5], *, rounds: int, block: int, group: int) -> list[list[float]]:
        """For each flow, nanoseconds of CPU a packet, or a connection, round after round. Flows of a group are compared."""
        assert len(flows) % group == 0
        command = [str(self._program), str(max(os.sched_getaffinity(0))), str(rounds), str(block), str(group)]
        text = "".join(f"{flow.line()}\n" for flow in flows)
        done = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=False, timeout=300)
        if done.returncode:
            raise RuntimeError(f"the sender failed, as said above; its flows: {text}")
        return [[float(value) for value in line.split()] for line in done.stdout.splitlines()]

    def close(self) -> None:
        """Removes the program."""
        shutil.rmtree(self._home, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
