"""The agent as users run it: the installed command in a namespace, watched through its own metrics and health endpoints."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.netns import Namespace

COMMAND = Path(sys.executable).with_name("hostward")
METRICS, HEALTH = 9091, 9099
KEPT = ("PATH", "LANG", "TMPDIR")


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Only what a command needs of our own environment, so that no setting of whoever runs the tests leaks in."""
    return {name: os.environ[name] for name in KEPT if name in os.environ} | dict(extra)


def hostward(namespace: Namespace, *arguments: str, env: Mapping[str, str], check: bool = True, data: str | None = None) -> str:
    """Runs a `hostward` command to its end in a namespace; its stdout. A failure carries both outputs."""
    command = ["ip", "netns", "exec", namespace.name, str(COMMAND), *arguments]
    stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment(env), **stdin
    )
    if check and done.returncode:
        raise RuntimeError(f"hostward {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Agent:
    """`hostward agent` in a namespace. `start` and `kill` as often as you like; `close` ends it and removes its log."""

    def __init__(self, namespace: Namespace, state: Path, *, node: str = "worker", env: Mapping[str, str]) -> None:
        self.namespace = namespace
        self.env = {"NODENAME": node, "HOSTWARD_STATE_DIR": str(state)} | dict(env)
        self.process: subprocess.Popen[str] | None = None
        descriptor, name = tempfile.mkstemp(prefix="hostward-agent-", suffix=".log")
        os.close(descriptor)
        self.log_file = Path(name)

    def start(self, *, wait: bool = True, timeout: float = 30) -> None:
        """Starts the process; with `wait` until it answers for its metrics."""
        assert self.process is None, "the agent runs already"
        with self.log_file.open("a") as log:
            self.process = self.namespace.popen(
                str(COMMAND), "agent", stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(self.env), cwd="/"
            )
        if wait:
            self.until(lambda: bool(self.metrics()), timeout, "the agent does not serve metrics")

    @property
    def pid(self) -> int:
        """The process id of the running agent."""
        assert self.process is not None, "the agent is not running"
        return self.process.pid

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def terminate(self, timeout: float = 10) -> int:
        """SIGTERM and wait; the exit code."""
        assert self.process is not None, "the agent is not running"
        self.process.terminate()
        code = self.process.wait(timeout)
        self.process = None
        return code

    def fetch(self, port: int, path: str) -> tuple[int, str]:
        """An HTTP GET on the agent's loopback: status and text; OSError when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            with self.namespace.entered():
                connection.connect()
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """Every sample by its name with labels, as served; empty while nobody answers."""
        try:
            _status, text = self.fetch(METRICS, "/metrics")
        except (OSError, http.client.HTTPException):
            return {}
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def ready(self) -> bool:
        """What /readiness says; False also while nobody answers."""
        try:
            return self.fetch(HEALTH, "/readiness")[0] == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def applied(self) -> float:
        """`hostward_applied_revision`; -1 while nobody answers."""
        return self.metrics().get("hostward_applied_revision", -1.0)

    def wait_applied(self, revision: int, timeout: float = 30) -> None:
        """Until every effect of this datastore revision is in the kernel."""
        self.until(lambda: self.applied() >= revision, timeout, f"revision {revision} was not applied")

    def until(self, condition: Callable[[], bool], timeout: float, complaint: str) -> None:
        """Waits for a condition; TimeoutError with the end of the agent's log, also when the agent ends meanwhile."""
        deadline = time.monotonic() + timeout
        while not condition():
            code = self.process.poll() if self.process is not None else None
            if time.monotonic() > deadline or code is not None:
                ended = "" if code is None else f"; the agent ended with exit code {code}"
                raise TimeoutError(f"{complaint} within {timeout} s{ended}\n{self.log()[-4000:]}")
            time.sleep(0.03)

    def log(self) -> str:
        """All that the agent wrote to stdout and stderr."""
        return self.log_file.read_text(errors="replace")

    def close(self) -> None:
        """Kills the agent and removes its log."""
        self.kill()
        self.log_file.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
