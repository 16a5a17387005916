"""A real etcd server for tests: started on free loopback ports or inside a namespace, killed, frozen, thawed, restarted.

Helpers that write go through etcdctl, so that what tests put there owes nothing to our own client.
"""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.netns import Namespace

STARTS_WITHIN = 60.0
LOWEST_PORT = 10_240


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a server with TLS, and of a client that it accepts."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody uses on loopback, below those that the kernel gives to clients.

    So nobody takes one by chance while its server is down, not even the client that tries it over and over.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    held: list[socket.socket] = []
    try:
        while len(held) < count:
            one = socket.socket()
            held.append(one)
            try:
                one.bind(("127.0.0.1", random.randrange(LOWEST_PORT, max(lowest, LOWEST_PORT + 1000))))
            except OSError:
                held.remove(one)
                one.close()
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def _fast_directory() -> str | None:
    """Memory where there is some: etcd syncs every write, and a disk that others share makes tests slow."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Etcd:
    """One etcd server. `Etcd()` starts on loopback, `Etcd(namespace, "10.0.0.1")` inside a namespace; `close` removes all.

    Usable in a `with` statement. `put`, `get`, `delete` and `ctl` need the server running (and, with auth, `user`).
    """

    def __init__(
        self,
        namespace: Namespace | None = None,
        address: str = "127.0.0.1",
        *,
        tls: Tls | None = None,
        options: Sequence[str] = (),
        name: str = "one",
        ports: tuple[int, int] | None = None,
        start: bool = True,
    ) -> None:
        self.namespace, self.address, self.tls, self.name = namespace, address, tls, name
        self.options = list(options)
        self.user: str | None = None
        """`name:password` for the helpers, once auth is enabled."""
        self.port, self.peer_port = ports or ((2379, 2380) if namespace else free_ports(2))
        self.home = Path(tempfile.mkdtemp(prefix="hostward-etcd-", dir=_fast_directory()))
        self.data = self.home / "data"
        self.process: subprocess.Popen[str] | None = None
        if start:
            try:
                self.start()
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Etcd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def host(self) -> str:
        """The address as a URL has it."""
        return f"[{self.address}]" if ":" in self.address else self.address

    @property
    def url(self) -> str:
        """The client URL."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def peer_url(self) -> str:
        """The URL for other members."""
        return f"http://{self.host}:{self.peer_port}"

    @property
    def env(self) -> dict[str, str]:
        """Environment variables that make an agent or a command use this server."""
        found = {"ETCD_ENDPOINTS": self.url}
        if self.tls:
            found |= {
                "ETCD_CA_CERT_FILE": str(self.tls.ca),
                "ETCD_CERT_FILE": str(self.tls.client_cert),
                "ETCD_KEY_FILE": str(self.tls.client_key),
            }
        if self.user:
            found["ETCD_USERNAME"], found["ETCD_PASSWORD"] = self.user.split(":", 1)
        return found

    def _command(self) -> list[str]:
        command = [
            "etcd", "--name", self.name, "--data-dir", str(self.data), "--log-level", "warn", "--logger", "zap",
            "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
            "--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url,
        ]  # fmt: skip
        if "--initial-cluster" not in self.options:
            command += ["--initial-cluster", f"{self.name}={self.peer_url}"]
            command += ["--heartbeat-interval", "20", "--election-timeout", "200"]
        if self.tls:
            command += ["--cert-file", str(self.tls.server_cert), "--key-file", str(self.tls.server_key)]
            command += ["--trusted-ca-file", str(self.tls.ca), "--client-cert-auth"]
        return command + self.options

    def launch(self) -> None:
        """Starts the server process without waiting for it to answer (members of a cluster wait for each other)."""
        assert self.process is None, "the server is already running"
        with (self.home / "log").open("a") as log:
            options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            if self.namespace:
                self.process = self.namespace.popen(*self._command(), **options)
            else:
                self.process = subprocess.Popen(self._command(), text=True, **options)

    def start(self) -> None:
        """Starts the server on its old data and waits until it answers."""
        self.launch()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Waits until the server answers; fails with the server's log."""
        assert self.process is not None
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.ctl("get", "hostward-health", "--command-timeout", "2s")
            except RuntimeError as error:
                refusal = str(error)
                if "permission denied" in refusal or "user name is empty" in refusal:
                    return
                time.sleep(0.05)
            else:
                return
        raise RuntimeError(f"etcd did not start: {(self.home / 'log').read_text()[-2000:]}")

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.send_signal(signal.SIGCONT)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(15)
            self.process = None

    def stop(self) -> None:
        """Ends the server in order; its data stay."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the server by SIGKILL; its data stay."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stops the server without closing its connections (SIGSTOP); none of its threads runs any more when this returns."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while not all(map(_is_stopped, Path(f"/proc/{self.process.pid}/task").glob("*/stat"))):
            assert time.monotonic() < deadline, "etcd does not stop"
            time.sleep(0.001)

    def thaw(self) -> None:
        """Lets a frozen server go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kills the server and removes its data."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def backup(self, to: Path) -> None:
        """Copies the data of a stopped server."""
        assert self.process is None, "stop the server before copying its data"
        shutil.copytree(self.data, to)

    def restore(self, source: Path) -> None:
        """Puts an earlier copy in place of the data of a stopped server."""
        assert self.process is None, "stop the server before replacing its data"
        shutil.rmtree(self.data)
        shutil.copytree(source, self.data)

    def ctl(self, *arguments: str | bytes, data: bytes | None = None) -> bytes:
        """Runs etcdctl against this server; its stdout. RuntimeError carries its stderr."""
        command: list[str | bytes] = ["ip", "netns", "exec", self.namespace.name] if self.namespace else []
        command += ["etcdctl", "--endpoints", self.url]
        if self.tls:
            command += ["--cacert", str(self.tls.ca), "--cert", str(self.tls.client_cert), "--key", str(self.tls.client_key)]
        if self.user:
            command += ["--user", self.user]
        stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
        environ = os.environ | {"ETCDCTL_API": "3"}
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            [*command, *arguments], capture_output=True, timeout=30, check=False, env=environ, **stdin
        )
        if done.returncode:
            raise RuntimeError(f"etcdctl {arguments!r}: {done.stderr.decode(errors='replace').strip()[-800:]}")
        return done.stdout

    def _json(self, *arguments: str | bytes, data: bytes | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.ctl("-w", "json", *arguments, data=data))
        return answer

    def put(self, key: str | bytes, value: str | bytes | Mapping[str, Any]) -> int:
        """Writes a value (a mapping as JSON); its revision."""
        if isinstance(value, Mapping):
            value = json.dumps(value)
        data = value.encode() if isinstance(value, str) else value
        answer = self._json("put", "--", key, data=data) if data else self._json("put", "--", key, "")
        return int(answer["header"]["revision"])

    def get(self, key: str | bytes) -> bytes | None:
        """The value of a key."""
        kvs = self._json("get", "--", key).get("kvs")
        return base64.b64decode(kvs[0].get("value", "")) if kvs else None

    def list(self, prefix: str) -> dict[str, bytes]:
        """All keys and values under a prefix."""
        kvs = self._json("get", "--prefix", "--", prefix).get("kvs", [])
        return {base64.b64decode(kv["key"]).decode(): base64.b64decode(kv.get("value", "")) for kv in kvs}

    def delete(self, key: str | bytes, *, prefix: bool = False) -> int:
        """Deletes a key, or all under a prefix; the revision after it."""
        return int(self._json("del", *(["--prefix"] if prefix else []), "--", key)["header"]["revision"])

    def transaction(self, puts: Mapping[str, str], deletes: Sequence[str] = ()) -> int:
        """Writes and deletes several keys (without blanks or quotes) at one revision, which it returns."""
        lines = [f"put {key} {json.dumps(value)}" for key, value in puts.items()] + [f"del {key}" for key in deletes]
        return int(self._json("txn", data="\n".join(["", *lines, "", "", ""]).encode())["header"]["revision"])

    def revision(self) -> int:
        """The store's newest revision."""
        return int(self._json("get", "hostward-health")["header"]["revision"])

    def compact(self) -> int:
        """Forgets all history before the newest revision, which it returns."""
        revision = self.revision()
        self.ctl("compact", str(revision))
        return revision


def _is_stopped(stat: Path) -> bool:
    """Whether a thread is stopped by a signal, as its line in /proc says behind its name."""
    return stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0] == "T"
