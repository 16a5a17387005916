"""An agent disturbed under traffic: states of its datastore follow each other, and it is killed at any moment.

Who draws the states knows which traffic all of them allow and which all of them deny.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Protocol

from tests.lab import saved
from tests.lab.agent import Agent
from tests.lab.etcd import Etcd

State = Mapping[str, dict[str, Any]]


class Drawing(Protocol):
    """What draws states."""

    def draw(self) -> State:
        """The next state: keys and documents."""


class LostError(AssertionError):
    """Something that was allowed all the time didn't arrive. A busy machine loses a datagram in 240,000 by itself
    (docs/reliability.md), so that this is tried once more; a leak never is."""


class Disturbance:
    """Writes states one after another, and kills the agent at some of them.

    `midway`: kills that left a change half done. `converged`: seconds from each start after a kill until all is applied.
    """

    def __init__(self, agent: Agent, etcd: Etcd, shapes: Drawing, seed: int) -> None:
        self.agent, self.etcd, self.shapes = agent, etcd, shapes
        self.rng = random.Random(seed)
        self.state: State = {}
        self.kills = self.midway = self.sent = 0
        self.windows: list[tuple[float, float]] = []  # seconds from a write until it was being applied, and until it was
        self.converged: list[float] = []

    def write(self) -> int:
        """The next state in one transaction; its revision."""
        new = self.shapes.draw()
        puts, deletes = difference(self.state, new)
        self.state = new
        return self.etcd.transaction({key: json.dumps(value) for key, value in puts.items()}, deletes)

    def run(self, changes: int, kills: int) -> None:
        """So many changes, so many of them with a kill; more of these until some of the kills came midway."""
        doomed = set(self.rng.sample(range(changes), kills))
        for number in range(changes):
            if number in doomed:
                self.write_and_kill()
            else:
                self.write_and_watch()
        for _ in range(4 * kills):
            if self.midway >= 2:
                return
            self.write_and_watch()
            self.write_and_kill()

    def write_and_watch(self) -> None:
        """A change, and when it was carried out: what a kill aims at, as a change takes milliseconds."""
        began = time.time()
        revision = self.write()
        self.agent.wait_applied(revision)
        last = self.agent.log_lines("applied")[-1]
        ended = datetime.fromisoformat(last["timestamp"]).timestamp() - began
        if last["revision"] == revision and ended > 0:  # not where the next state is the last one again
            self.windows.append((max(0.0, ended - last["seconds"]), ended))

    def write_and_kill(self) -> None:
        """A change, a kill about when it is carried out, and another agent until it is in force."""
        with ThreadPoolExecutor(1) as writer:
            write = writer.submit(self.write)
            time.sleep(self.rng.uniform(*self.rng.choice(self.windows[-20:] or [(0.005, 0.06)])))
            self.agent.kill()
            revision = write.result()
        self.kills += 1
        self.midway += any("hw~" in line for lines in saved.rules(self.agent.namespace).values() for line in lines)
        began = time.monotonic()
        self.agent.start()
        self.agent.wait_applied(revision)
        self.converged.append(time.monotonic() - began)


def difference(old: State, new: State) -> tuple[State, list[str]]:
    """What to put and what to delete, to come from one state to another."""
    return {key: value for key, value in new.items() if old.get(key) != value}, [key for key in old if key not in new]
