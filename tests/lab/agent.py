"""A real `hostward agent` in a network namespace: started, waited for, killed, asked; with a state and lock of its own.

It runs as an operator runs it: a process of its own, by the installed command, told by its environment. Knows nothing of what
it is given to enforce.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.netns import Namespace

COMMAND = (str(Path(sys.executable).with_name("hostward")),)
CONFINED = bool(os.environ.get("HOSTWARD_TEST_CONFINED"))
"""Whether agents run in the image, without root (`make test-confined`)."""
ROOT = Path(__file__).parents[2]
AGENTS_UID = os.environ.get("AGENTS_UID", "")
"""`AGENTS_UID=64646 make test` has the tests of whole agents run them without root."""
CAPABILITIES = "-all,+net_admin,+net_raw"
TICKS = os.sysconf("SC_CLK_TCK")
WITHIN = 60.0  # seconds that a busy machine may need for what an idle one does in one
OURS = ("HOSTWARD_", "FELIX_", "ETCD_", "NODENAME")


def clean_environment() -> dict[str, str]:
    """This process's environment without anything that an agent or a command would take as a setting."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)}


def is_readable_by_all(*, parents: bool = True) -> bool:
    """Whether any user can run this checkout: it, or with `parents` what it is in, may be somebody's private directory."""
    places = [ROOT, Path(sys.prefix), Path(sys.prefix, "bin/hostward"), ROOT / "agent/hostward/__init__.py"]
    if parents:
        places += [parent for place in places for parent in place.parents]
    return all(place.stat().st_mode & 0o005 >= (0o005 if place.is_dir() else 0o004) for place in places)


class Agent:
    """One agent. `home` holds its state directory and its xtables lock, and outlives its process until `close`.

    `env`: its settings, and how to reach its etcd (`Etcd.env`). Usable in a `with` statement.
    """

    def __init__(
        self,
        namespace: Namespace,
        *,
        env: Mapping[str, str] | None = None,
        datastore: str = "etcd",
        node: str = "worker",
        home: Path | None = None,
        start: bool = True,
    ) -> None:
        self.namespace, self.datastore, self.node = namespace, datastore, node
        self._remove = home is None
        self.home = home or Path(tempfile.mkdtemp(prefix="hostward-agent-"))
        self.state = self.home / "state"
        self.lock_file = self.home / "xtables.lock"
        self.env = dict(env or {})
        self.process: subprocess.Popen[str] | None = None
        if start:
            try:
                self.start()
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def environment(self) -> dict[str, str]:
        """What the agent, and commands beside it, find in their environment."""
        return clean_environment() | {
            "HOSTWARD_DATASTORE": self.datastore,
            "HOSTWARD_NODE_NAME": self.node,
            "HOSTWARD_STATE_DIR": str(self.state),
            "HOSTWARD_IPTABLES_LOCK_FILE_PATH": str(self.lock_file),
            "HOSTWARD_LOG_FORMAT": "json",
            "XTABLES_LOCKFILE": str(self.lock_file),
            "PYTHONPATH": str(ROOT / "agent"),
        } | self.env  # fmt: skip

    # --- the process ---------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Starts the process and returns at once."""
        assert self.process is None, "the agent is already running"
        with self.log_file.open("a", encoding="utf-8") as log:
            options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True}
            where = ROOT if CONFINED else None
            self.process = self.namespace.popen(*self._program(), env=self.environment, cwd=where, **options)

    def _program(self) -> list[str]:
        """The command. With AGENTS_UID set it becomes that user, with the two capabilities that its unit gives it."""
        if CONFINED:
            from tests.lab import confined  # noqa: PLC0415 # for who asks for it: it builds the image

            return confined.command(self.environment)
        if not AGENTS_UID:
            return [*COMMAND, "agent"]
        self.home.chmod(0o755)
        prepared = self.command("prepare", "--user", AGENTS_UID, "--lock-file", str(self.lock_file))
        assert prepared.returncode == 0, prepared.stderr
        user = ["--reuid", AGENTS_UID, "--regid", AGENTS_UID, "--clear-groups", "--no-new-privs"]
        given = (f"--{kind}={CAPABILITIES}" for kind in ("bounding-set", "inh-caps", "ambient-caps"))
        return ["setpriv", *user, *given, *COMMAND, "agent"]

    @property
    def pid(self) -> int:
        """The process's id (`ip netns exec` becomes the agent)."""
        assert self.process is not None, "the agent isn't running"
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """Ends the process by SIGKILL, with what it may have started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):  # it has ended already, and nothing that it started is left
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
            self.process = None

    def stop(self, limit: float = 20) -> int:
        """Ends the process by SIGTERM; its exit status."""
        assert self.process is not None, "the agent isn't running"
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(limit)
        finally:
            self.kill()

    def restart(self) -> None:
        """Kills it if it runs, and starts it again."""
        self.kill()
        self.start()

    def close(self) -> None:
        """Ends the process and removes its files."""
        self.kill()
        if self._remove:
            shutil.rmtree(self.home, ignore_errors=True)

    def cpu_seconds(self) -> float:
        """CPU time that the process has used, its finished children's included."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / TICKS

    # --- what it says --------------------------------------------------------------------------------------------------
    @property
    def log_file(self) -> Path:
        """Everything that the agent wrote to stdout and stderr, over all its lives."""
        return self.home / "log"

    def log_lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Its log lines as values, all of them or those of an event; a line that isn't JSON is {"event": line, "raw": True}."""
        found = []
        for line in self.log_file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                value = json.loads(line)
            except json.JSONDecodeError:
                value = None
            found.append(value if isinstance(value, dict) else {"event": line, "raw": True})
        return [line for line in found if event is None or line.get("event") == event]

    def status(self) -> dict[str, Any]:
        """The content of its status.json; {} while it has written none, or only an earlier process has."""
        try:
            status: dict[str, Any] = json.loads((self.state / "status.json").read_bytes())
        except FileNotFoundError:
            return {}
        return status if self.process is None or status["pid"] == self.pid else {}

    def http(self, path: str, port: int, *, host: str = "127.0.0.1") -> tuple[int, str]:
        """Status and body of a page, asked for inside the namespace. OSError while nobody answers."""
        with self.namespace.entered():
            connection = http.client.HTTPConnection(host, port, timeout=10)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            finally:
                connection.close()

    def metrics(self) -> str:
        """The text of /metrics."""
        code, text = self.http("/metrics", int(self.env.get("HOSTWARD_PROMETHEUS_METRICS_PORT", "9091")))
        if code != 200:
            raise RuntimeError(f"/metrics answered {code}: {text}")
        return text

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's series that have these labels; 0 if there are none."""
        total = 0.0
        for line in self.metrics().splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{key}="{text}"' in series for key, text in labels.items()):
                total += float(value)
        return total

    def health(self, page: str) -> tuple[int, str]:
        """Status and text of /liveness or /readiness (`page` without the slash)."""
        return self.http(f"/{page}", int(self.env.get("HOSTWARD_HEALTH_PORT", "9099")))

    # --- waiting -------------------------------------------------------------------------------------------------------
    def wait(self, what: str, condition: Callable[[], bool], limit: float = WITHIN, every: float = 0.02) -> None:
        """Waits until something holds; fails with the end of the log when it doesn't, or when the agent ends."""
        deadline = time.monotonic() + limit
        while not condition():
            if not self.alive:
                raise AssertionError(f"the agent ended before {what}; its log ends:\n{self.log_end()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {limit} s: {what}; the agent's log ends:\n{self.log_end()}")
            time.sleep(every)

    def wait_applied(self, revision: int, limit: float = WITHIN) -> None:
        """Waits until this process says that every effect of a datastore revision is in the kernel."""
        self.wait(f"revision {revision} is applied", lambda: self.status().get("appliedRevision", 0) >= revision, limit)

    def wait_received(self, revision: int, limit: float = WITHIN) -> None:
        """Waits until this process has received a datastore revision, applied or not."""
        self.wait(f"revision {revision} is received", lambda: self.status().get("desiredRevision", 0) >= revision, limit)

    def log_end(self, lines: int = 30) -> str:
        """The last lines of its log."""
        return "\n".join(self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    # --- commands beside it --------------------------------------------------------------------------------------------
    def command(self, *arguments: str, limit: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs `hostward ARGUMENTS` in the namespace with the agent's environment."""
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace.name, *COMMAND, *arguments],
            env=self.environment | env, capture_output=True, text=True, timeout=limit, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def iptables(self, *arguments: str, family: int = 4) -> str:
        """Runs iptables-legacy (ip6tables-legacy) in the namespace as any other program would, under the same lock."""
        tool = "iptables-legacy" if family == 4 else "ip6tables-legacy"
        return self.namespace.run("env", f"XTABLES_LOCKFILE={self.lock_file}", tool, "-w", "10", *arguments)


__all__ = ["Agent", "clean_environment"]
