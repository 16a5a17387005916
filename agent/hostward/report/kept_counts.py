"""What the agent has counted so far, in `counts.json` in `stateDir`, so that totals never go down when it starts again.

Trouble with the file is logged and never raised: counts then begin with what the kernel holds. Engine thread only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from hostward.report.logs import get_logger

NAME: Final = "counts.json"
MOST: Final = 10_000
_VERSION: Final = 1


class Kept(NamedTuple):
    """The total of what one thing means, and how much of it the kernel's counters no longer hold."""

    packets: int
    bytes: int
    lost_packets: int
    lost_bytes: int


class KeptCounts:
    """The file of one agent."""

    def __init__(self, state_dir: str) -> None:
        self._path = Path(state_dir, NAME)
        self._log = get_logger(file=str(self._path))

    def load(self) -> dict[str, Kept]:
        """What an earlier agent left, by meaning; nothing if it can't be read."""
        try:
            found = json.loads(self._path.read_bytes())
            if found["version"] != _VERSION:
                return {}
            return {str(meaning): Kept(*map(int, numbers)) for meaning, numbers in found["counts"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._log.warning("counts not read, they begin anew", error=str(error))
            return {}

    def save(self, counts: Mapping[str, Kept]) -> None:
        """Writes it whole, or not at all; of very many some."""
        some = dict([(meaning, kept) for meaning, kept in counts.items() if kept.packets][:MOST])
        temporary = self._path.with_name(f".{NAME}.tmp")
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(fd, "w", encoding="ascii") as file:
                json.dump({"version": _VERSION, "counts": some}, file)
            temporary.replace(self._path)
        except OSError as error:
            self._log.warning("counts not written", error=str(error))
