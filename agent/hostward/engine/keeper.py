"""Keeps on disk what is in force, for `hostward boot`: a file that is whole and never much older than the kernel's state.

The engine offers each ruleset that is wholly in the kernel, which costs it nothing: a ruleset is a value. A thread of its own
writes the newest when the changes pause, and now and then while they don't; the main thread at the end, when no engine runs.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hostward.dataplane.kernel import KernelError
from hostward.dataplane.saved_rules import FILE, pieces
from hostward.render.ruleset import Ruleset
from hostward.report.logs import get_logger

log = get_logger()
QUIET_SECONDS, LATEST_SECONDS = 5.0, 60.0
MOST_OF_A_CORE: Final = 0.02
_REST_SECONDS: Final = 0.002  # after each piece: who waits for the interpreter gets it


class Keeper:
    """Writes FILE in `directory`. Trouble with it is logged and never raised: enforcement goes on without."""

    def __init__(self, directory: Path, *, quiet: float = QUIET_SECONDS, latest: float = LATEST_SECONDS) -> None:
        self._path = directory / FILE
        self._quiet, self._latest = quiet, latest
        self._news = threading.Event()
        self._writing = threading.Lock()
        self._offered: tuple[int, Ruleset, float] | None = None
        self._behind = False  # the file lacks what was offered last
        self._trouble = ""

    def offer(self, revision: int, ruleset: Ruleset) -> None:
        """A ruleset is in the kernel. Cheap; engine thread."""
        if self._offered is None or self._offered[1] is not ruleset:
            self._offered, self._behind = (revision, ruleset, time.monotonic()), True
            self._news.set()

    def nudge(self) -> None:
        """Has `run` look whether it is to stop. Any thread."""
        self._news.set()

    def run(self, stop: threading.Event) -> None:
        """Writes what is offered, until `stop` is set; what came last is left to `finish`."""
        while not stop.is_set():
            self._news.wait()
            self._await_pause(stop)
            if stop.is_set():
                return
            self._news.clear()
            rest = self._keep(stop.wait) / MOST_OF_A_CORE
            if self._trouble:  # again, also without another change
                self._news.set()
                rest = max(rest, self._latest)
            stop.wait(rest)

    def finish(self) -> None:
        """Writes what wasn't yet. Once the engine has ended."""
        self._keep(lambda _: None)

    def _await_pause(self, stop: threading.Event) -> None:
        latest = time.monotonic() + self._latest
        while not stop.is_set() and self._offered is not None:
            pause = min(self._offered[2] + self._quiet, latest) - time.monotonic()
            if pause <= 0:
                return
            stop.wait(pause)

    def _keep(self, rest: Callable[[float], object]) -> float:
        """Writes the newest ruleset if the file lacks it; the CPU seconds that it took."""
        began = time.thread_time()
        with self._writing:
            if self._behind and self._offered is not None:
                self._behind = False
                revision, ruleset, _ = self._offered
                try:
                    size = self._write(ruleset, f"revision {revision} of {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", rest)
                except (OSError, KernelError) as error:
                    self._behind = True
                    self._report(str(error))
                else:
                    self._trouble = ""
                    log.debug("rules kept for the next boot", revision=revision, bytes=size)
        return time.thread_time() - began

    def _report(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            log.error("rules not kept for the next boot; older ones are, if there are any", file=str(self._path), error=trouble)

    def _write(self, ruleset: Ruleset, origin: str, rest: Callable[[float], object]) -> int:
        temporary = self._path.with_name(f".{FILE}.tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with open(fd, "wb") as file:
                for piece in pieces(ruleset, origin):
                    file.write(piece)
                    rest(_REST_SECONDS)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            temporary.replace(self._path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        self._sync_directory()
        return size

    def _sync_directory(self) -> None:
        """So that the name, too, survives a power cut."""
        fd = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
