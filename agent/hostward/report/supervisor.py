"""What systemd is told by sd_notify: that the agent is ready, what it waits for, that it gets on, that it stops.

Without systemd, or another supervisor that speaks this protocol, it does nothing. Main thread only.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from hostward.report.health import HealthBoard

PATIENCE_SECONDS: Final = 10.0
"""A host whose datastore can't be reached goes on booting after this: its last rules are in place."""
_MOST_TEXT: Final = 500


class Supervisor:
    """Tells the supervisor of this process how the agent is doing, whenever it is asked to look. Times are the clock's.

    Ready is when what the datastore says is in force, or when that wasn't so for PATIENCE_SECONDS. The watchdog is fed only
    while every component is live: it is the engine that has to get on, not this thread.
    """

    def __init__(self, environ: Mapping[str, str], health: HealthBoard, clock: Callable[[], float]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._health = health
        self._clock = clock
        self._ready_at = clock() + PATIENCE_SECONDS
        self._ready = False
        self._status = ""
        self._watchdog = 0.0
        with suppress(ValueError):  # set by something that isn't systemd
            if int(environ.get("WATCHDOG_PID") or os.getpid()) == os.getpid():
                self._watchdog = int(environ.get("WATCHDOG_USEC") or 0) / 1e6
        self._feed_at = clock()

    def look(self) -> None:
        """Says what has changed, and that the agent is alive if it is. Cheap."""
        if not self._address:
            return
        now, words = self._clock(), []
        missing = self._health.unready()
        status = "; ".join(missing) or "what the datastore says is in force"
        if status != self._status:
            self._status = status
            words.append(f"STATUS={status[:_MOST_TEXT]}")
        if not self._ready and (not missing or now >= self._ready_at):
            self._ready = True
            words.append("READY=1")
        if self._watchdog and now >= self._feed_at and self._health.liveness().ok:
            self._feed_at = now + self._watchdog / 3
            words.append("WATCHDOG=1")
        self._send(words)

    def stops(self) -> None:
        """The agent ends now; the rules stay."""
        self._send(["STATUS=stopped; its rules stay in the kernel", "STOPPING=1"])

    def _send(self, words: list[str]) -> None:
        if not words or not self._address:
            return
        # A leading @ stands for the NUL of an address that is no file.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
            told.setblocking(False)  # a supervisor that doesn't listen holds nobody up
            told.sendto("\n".join(words).encode(errors="replace"), address)
