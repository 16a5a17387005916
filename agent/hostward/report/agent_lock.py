"""The lock that says an agent runs: `agent.lock` in `stateDir`, held by flock for the life of the process (D12).

The kernel lets go of it however the process ends. Any thread; whoever holds it keeps the object.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

NAME: Final = "agent.lock"
_PATIENCE: Final = 2.0  # `hostward status` holds the lock for a moment to see whether it is free


class AgentRunsError(Exception):
    """Another agent holds the lock; the text is for the operator."""


class AgentLock:
    """The lock, held from the moment that the object is made until `release` or the end of the process."""

    def __init__(self, state_dir: str, *, patience: float = _PATIENCE) -> None:
        """Makes `stateDir` if it is missing. AgentRunsError if it is held for `patience` seconds on; OSError."""
        Path(state_dir).mkdir(mode=0o750, parents=True, exist_ok=True)
        path = Path(state_dir, NAME)
        # For root alone: whoever can open it can hold it, and keep an agent from starting.
        self._fd = _opened(path)
        try:
            self._take(path, patience)
            with suppress(OSError):  # a full disk: the lock holds all the same
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(self._fd)
            raise

    def _take(self, path: Path, patience: float) -> None:
        for left in range(max(1, round(patience / 0.05)), 0, -1):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if left == 1:
                    pid = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
                    raise AgentRunsError(f"an agent is running already (process {pid} holds {path})") from None
                time.sleep(0.05)
            else:
                if _is_at(self._fd, path):
                    return
                os.close(self._fd)  # `hostward cleanup` removed the file meanwhile
                self._fd = _opened(path)
        raise AgentRunsError(f"{path} is removed again and again by somebody")

    def release(self) -> None:
        """Lets go. The file stays, unless the holder removed it before."""
        os.close(self._fd)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _is_at(fd: int, path: Path) -> bool:
    """Whether an open file is still the one of that name: two that hold two files of one name would hold nothing."""
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def is_agent_running(state_dir: str) -> bool:
    """Whether an agent holds the lock. PermissionError for who may not know."""
    try:
        fd = os.open(Path(state_dir, NAME), os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
