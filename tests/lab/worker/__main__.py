"""Reads one JSON command a line from stdin, writes one JSON answer a line to stdout, ends when stdin closes.

Run as `ip netns exec NAME python -m tests.lab.worker`. It knows nothing of Hostward and of the topology. One thread: an event
loop for servers and probes; a stream that is being sent keeps the loop to itself while it lasts.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.lab.worker.attempt import Attempt
from tests.lab.worker.held import Held
from tests.lab.worker.loop import Loop
from tests.lab.worker.servers import Servers
from tests.lab.worker.stream import Counter, send

Answer = dict[str, Any]


class Worker:
    """Commands in, answers out."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.servers = Servers(self.loop)
        self.counter = Counter(self.loop)
        self.held = Held()
        self.buffered = b""
        self.ended = False
        self.verbs: dict[str, Callable[..., Answer]] = {
            "listen": self.servers.listen,
            "heard": lambda: {"heard": list(self.servers.heard)},
            "probe": self.probe,
            "held": lambda verb, **options: {"outcome": getattr(self.held, verb)(**options)},
            "receive": self.counter.receive,
            "collect": self.counter.collect,
            "send": send,
        }

    def probe(self, cells: list[dict[str, Any]]) -> Answer:
        """Makes all attempts at once; [outcome, address that the server saw, token] of each, in order."""
        attempts = [Attempt(self.loop, **cell) for cell in cells]
        for attempt in attempts:
            attempt.start()
            self.loop.turn(0)
        while waiting := [attempt for attempt in attempts if attempt.outcome is None]:
            self.loop.turn(min(attempt.deadline for attempt in waiting) - time.monotonic() + 0.001)
            for attempt in waiting:
                if attempt.outcome is None and time.monotonic() >= attempt.deadline:
                    attempt.end("timeout")
        return {"outcomes": [[attempt.outcome, attempt.seen, attempt.token] for attempt in attempts]}

    def read(self, _event: int) -> None:
        """Takes what stdin has; nothing means that whoever started us is gone."""
        with contextlib.suppress(BlockingIOError):
            data = os.read(0, 1 << 16)
            self.buffered += data
            self.ended = not data

    def serve(self) -> None:
        """Commands until stdin ends."""
        os.set_blocking(0, False)
        self.loop.watch_fd(0, self.read)
        self.say({"ready": os.getpid()})
        while not self.ended:
            self.loop.turn(None)
            while b"\n" in self.buffered:
                line, self.buffered = self.buffered.split(b"\n", 1)
                if line:  # an empty one ends a stream that is being sent, or came too late for that
                    self.say(self.obey(json.loads(line)))

    def obey(self, command: Answer) -> Answer:
        try:
            return self.verbs[command.pop("do")](**command)
        except OSError as error:
            return {"error": f"{command}: {error}"}

    @staticmethod
    def say(answer: Answer) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        Worker().serve()
