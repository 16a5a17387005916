"""Put to enforced while ten other policies change every second (spec: `converge_churn`), and how long those others wait.

The floor stays quiet: its program makes one change at a time, as in `converge`. Blocks alternate; others change only in the
agent's.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import Self

from benchmarks import changes
from benchmarks.bed import Bed
from benchmarks.converge import AGENT, CONTROL, FLOOR, PAUSE, WAYS, blocks
from benchmarks.found import Found
from benchmarks.twin import RULE, Twin

RATE = 10.0
BEFORE = 0.5  # seconds of churn before a timed change
WAITED = "others: put to applied"


class Churn:
    """A thread that puts edits of other policies. Use it in a `with`. `puts`: revision and time of each."""

    def __init__(self, bed: Bed, edits: changes.Changes) -> None:
        self.puts: list[tuple[int, float]] = []
        self._bed, self._edits = bed, edits
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += 1 / RATE
            began = time.time()
            self.puts.append((self._bed.store.change(*next(self._edits)), began))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)


def measure(twin: Twin, found: Found) -> None:
    """One repetition."""
    edits = changes.rule_edits(twin.bed.size)
    for block in range(blocks(twin.bed.size.policies) // 2):
        order = [AGENT, FLOOR, CONTROL] if block % 2 else [CONTROL, FLOOR, AGENT]
        for who in order:
            if who == AGENT:
                _by_agent(twin, edits, found)
                continue
            for way, opened in WAYS:
                found.times[f"{who} {way}"].append(twin.by_floor(RULE, opened=opened)[0] * 1000)
                time.sleep(PAUSE)


def _by_agent(twin: Twin, edits: changes.Changes, found: Found) -> None:
    lines = len(twin.applied.lines)
    with Churn(twin.bed, edits) as churn:
        for way, opened in WAYS:
            time.sleep(BEFORE)
            found.times[f"{AGENT} {way}"].append(twin.by_agent(RULE, opened=opened) * 1000)
    last = max(twin.bed.revision, churn.puts[-1][0])
    twin.applied.wait_either(last)
    applied = [(line["revision"], _when(line["timestamp"])) for line in twin.applied.lines[lines:]]
    found.other["changes of an apply"].append((len(churn.puts) + len(WAYS)) / len(applied))
    for revision, began in churn.puts:
        if done := next((at for reached, at in applied if reached >= revision), 0.0):
            found.times[WAITED].append((done - began) * 1000)


def _when(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
