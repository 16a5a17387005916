"""What a running agent says of its work: the lines `applied` of its log, read as they come."""

from __future__ import annotations

import json
import time
from itertools import count
from typing import Any

from tests.lab.agent import Agent

Line = dict[str, Any]
COUNTED = (
    "computed", "rendered_chains", "compared_chains", "rules_written", "commits", "bytes_written", "set_changes",
    "members_changed", "netlink_messages", "processes",
)  # fmt: skip
"""What a line counts; an agent that doesn't count one of them leaves it out."""


class Applied:
    """Follows an agent's log from its present end. `lines`: what was applied since."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._at = agent.log_file.stat().st_size
        self._rest = b""
        self.lines: list[Line] = []

    def look(self) -> None:
        """Reads what is new."""
        with self._agent.log_file.open("rb") as file:
            file.seek(self._at)
            new = file.read()
        self._at += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        for line in whole:
            if b'"applied"' in line:
                value = json.loads(line)
                if value.get("event") == "applied":
                    self.lines.append(value)

    def wait(self, revision: int, limit: float = 120.0) -> Line:
        """Waits until a revision that changes something is in the kernel; the line that says so."""
        deadline = time.monotonic() + limit
        while True:
            self.look()
            for line in reversed(self.lines):
                if line["revision"] >= revision:
                    return next(one for one in self.lines if one["revision"] >= revision)
                break
            self._expect(deadline, f"revision {revision} is applied")

    def wait_either(self, revision: int, limit: float = 120.0) -> None:
        """Waits until a revision is in the kernel, whether or not it changes anything there."""
        deadline = time.monotonic() + limit
        for turn in count():
            self.look()
            if self.lines and self.lines[-1]["revision"] >= revision:
                return
            if turn % 20 == 19 and self._agent.status().get("appliedRevision", 0) >= revision:
                return
            self._expect(deadline, f"revision {revision} is applied")

    def wait_more(self, lines: int, limit: float = 30.0) -> Line:
        """Waits until there are more lines than so many; the last."""
        deadline = time.monotonic() + limit
        while True:
            self.look()
            if len(self.lines) > lines:
                return self.lines[-1]
            self._expect(deadline, "something is applied")

    def _expect(self, deadline: float, what: str) -> None:
        if not self._agent.alive or time.monotonic() > deadline:
            raise TimeoutError(f"not in time: {what}; the agent's log ends:\n{self._agent.log_end()}")
        time.sleep(0.005)
