"""A real `hostward kube-controller`: started, waited for, paused, killed, asked; a process of its own, as installed."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.agent import COMMAND, ROOT, clean_environment
from tests.lab.etcd import free_ports

WITHIN = 60.0


class Controller:
    """One controller. `env`: how to reach its etcd; `kubeconfig`: of its API server. Usable in a `with` statement."""

    def __init__(
        self, env: Mapping[str, str], kubeconfig: Path, *options: str, name: str = "one", lease: int = 4, start: bool = True
    ) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="hostward-controller-"))
        self.health, self.metrics_port = free_ports(2)
        self.name = name
        self._env, self._kubeconfig, self._options, self._lease = dict(env), kubeconfig, options, lease
        self.process: subprocess.Popen[str] | None = None
        if start:
            self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def command(self) -> Sequence[str]:
        return [
            *COMMAND, "kube-controller", "--kubeconfig", str(self._kubeconfig), "--lease", str(self._lease),
            "--health-port", str(self.health), "--metrics-port", str(self.metrics_port), "--log-format", "json", *self._options,
        ]  # fmt: skip

    # --- the process
    def start(self) -> None:
        """Starts the process and returns at once."""
        assert self.process is None
        env = clean_environment() | {"PYTHONPATH": str(ROOT / "agent"), "HOSTNAME": self.name} | self._env
        with (self.home / "log").open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True, env=env)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Ends the process by SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)
            self.process = None

    def stop(self) -> int:
        """Ends the process by SIGTERM; its exit status."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(30)
        finally:
            self.kill()

    def close(self) -> None:
        """Kills the process and removes its files."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    # --- asking
    def _get(self, port: int, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def readiness(self) -> tuple[bool, str]:
        """Whether it says that it is ready, and what it says."""
        try:
            code, text = self._get(self.health, "/readiness")
        except OSError as error:
            return False, str(error)
        return code == 200, text

    def metric(self, name: str) -> float:
        """The sum of all series that begin like this."""
        try:
            text = self._get(self.metrics_port, "/metrics")[1]
        except OSError:
            return 0.0
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))

    def logged(self, event: str = "") -> list[dict[str, Any]]:
        """The log lines about an event; all without one."""
        lines = (self.home / "log").read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if event in ("", line["event"])]

    def log_end(self) -> str:
        return (self.home / "log").read_text(encoding="utf-8")[-3000:]

    def wait_ready(self) -> None:
        """Waits until it is ready; fails with its log."""
        deadline = time.monotonic() + WITHIN
        while not self.readiness()[0]:
            assert self.process is not None
            assert self.process.poll() is None, self.log_end()
            assert time.monotonic() < deadline, f"{self.readiness()[1]}\n{self.log_end()}"
            time.sleep(0.05)


def kubeconfig(folder: Path, url: str, token: str) -> Path:
    """A kubeconfig for a server without TLS, on loopback."""
    path = folder / "kubeconfig"
    config = {
        "clusters": [{"name": "lab", "cluster": {"server": url}}],
        "users": [{"name": "lab", "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }
    path.write_text(json.dumps(config), encoding="utf-8")
    return path
