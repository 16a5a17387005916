"""The xtables lock: the file that iptables, kube-proxy and others lock while they change tables.

python-iptables doesn't take it, and without it a commit can silently undo another program's (libraries 1.4). Knows no table.
The engine thread runs it; a holder may enter again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hostward.dataplane.kernel import KernelError

DEFAULT_PATH: Final = Path("/run/xtables.lock")
POLL_SECONDS: Final = 0.05
_ADVICE: Final = (
    "an agent that isn't root needs a lock file that its group may read. Somebody made it anew, or it was never prepared: run "
    "`hostward prepare` as root, or restart the agent by systemd or Kubernetes, which do that first. Nothing was changed"
)


class XtablesLock:
    """Held in a `with lock.held():`. `timeout` is how long to wait for others, `poll` how often to look meanwhile; seconds."""

    def __init__(self, path: Path = DEFAULT_PATH, timeout: float = 10.0, poll: float = POLL_SECONDS) -> None:
        self.path = path
        self._timeout = timeout
        self._poll = poll
        self._depth = 0
        self.retries = 0
        """How often the lock was asked for in vain."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Takes the lock unless it is held already. Raises KernelError, with `retry` when somebody else keeps it."""
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600)
        except OSError as error:
            hint = f": {_ADVICE}" if error.errno in (errno.EACCES, errno.EROFS) else ""
            raise KernelError(f"cannot open the xtables lock {self.path}: {error.strerror}{hint}") from error
        try:
            self._wait(descriptor)
            self._depth = 1
            try:
                yield
            finally:
                self._depth = 0
        finally:
            os.close(descriptor)

    def _wait(self, descriptor: int) -> None:
        until = time.monotonic() + self._timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as busy:
                self.retries += 1
                if time.monotonic() >= until:
                    raise KernelError(
                        f"the xtables lock {self.path} was held by {_holder(descriptor)} for {self._timeout:g} s: "
                        "nothing was written, it will be tried again",
                        retry=True,
                    ) from busy
                time.sleep(self._poll)
            except OSError as error:
                raise KernelError(f"cannot lock {self.path}: {error.strerror}") from error
            else:
                return


def _holder(descriptor: int) -> str:
    """Who holds a lock on an open file, for people. /proc/locks has `1: FLOCK ADVISORY WRITE pid major:minor:inode 0 EOF`."""
    inode = str(os.fstat(descriptor).st_ino)
    try:
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if len(words) >= 6 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == inode:
                name = Path(f"/proc/{words[4]}/comm").read_text(encoding="utf-8", errors="replace").strip()
                return f"{name} (pid {words[4]})"
    except OSError:
        return "a process that is not visible from here"
    return "a process that is not visible from here"
