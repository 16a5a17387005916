"""The way from any thread to stderr: a bounded queue and one writer thread, so that a blocked stderr stops nobody.

Lines that don't fit are dropped and counted. Knows bytes only. `put` is for any thread; the writer thread is its own.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from typing import Final

MAX_LINES: Final = 10_000
MAX_BYTES: Final = 4 * 2**20


class LogWriter:
    """Writes lines to a file descriptor in the background. `dropped` lines found no room; `failed` could not be written."""

    def __init__(self, fd: int = 2, *, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> None:
        self.dropped = 0
        self.failed = 0
        self.fd = fd
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._busy = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, line: bytes) -> None:
        """Queues a line; never waits for the reader of stderr, never raises."""
        with self._changed:
            if len(self._lines) >= self._max_lines or self._bytes + len(line) > self._max_bytes or self._closed:
                self.dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
            if self._thread is None:  # the first line starts it, so that a fork before that doesn't lose it
                self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout: float = 1.0) -> bool:
        """Waits until everything is written, at most `timeout` seconds; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._busy, timeout)

    def close(self, timeout: float = 1.0) -> None:
        """Writes what is queued, at most for `timeout` seconds; later lines count as dropped."""
        self.flush(timeout)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines or self._closed)
                if not self._lines:
                    return
                chunk = bytearray()
                count = 0
                while self._lines and len(chunk) < 65536:
                    chunk += self._lines.popleft()
                    count += 1
                self._bytes -= len(chunk)
                self._busy = True
            if not self._write(bytes(chunk)):
                with self._changed:
                    self.failed += count

    def _write(self, data: bytes) -> bool:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError:  # somebody made the shared stderr non-blocking
                if self._closed or not select.select([], [self.fd], [], 1.0)[1]:
                    return False
            except (OSError, ValueError):  # closed: nobody is left to tell but the counter
                return False
        return True
