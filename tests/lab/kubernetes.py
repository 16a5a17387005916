"""A real kube-apiserver with its etcd, a real kube-proxy, and kubectl, all 1.20.2, as `make kube` builds them.

The server runs on free loopback ports or inside a namespace; killed, started again on its data, asked by kubectl or by plain
requests. No controllers and no kubelet run beside it: a deleted namespace stays Terminating, no namespace gets a default
ServiceAccount, and a pod is placed and gets its addresses by whoever writes it (`statements.md` kubernetes 3.2).
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.etcd import Etcd, free_ports
from tests.lab.netns import Namespace, run

CACHE = Path(__file__).parents[2] / ".cache" / "kube"
BIN = CACHE / "bin"
ADMIN = "lab-admin-token"
SERVICES = "10.96.0.0/16"
STARTS_WITHIN = 120.0  # seconds; about 4 on a quiet machine
Document = Mapping[str, Any]


def is_built() -> bool:
    """Whether `make kube` has built the programs."""
    return (CACHE / "built").exists()


class Program:
    """A server process with a home directory for its files and its log; ended by its pid."""

    def __init__(self, name: str, namespace: Namespace | None) -> None:
        self.name, self.namespace = name, namespace
        self.home = Path(tempfile.mkdtemp(prefix=f"hostward-{name}-"))
        self.process: subprocess.Popen[str] | None = None

    def run(self, command: list[str], env: Mapping[str, str]) -> None:
        """Starts the process and returns at once."""
        assert self.process is None, f"{self.name} is already running"
        with (self.home / "log").open("a", encoding="utf-8") as log:
            options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "env": dict(env)}
            if self.namespace:
                self.process = self.namespace.popen(*command, **options)
            else:
                self.process = subprocess.Popen(command, text=True, **options)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        """Everything that it wrote, over all its lives."""
        return (self.home / "log").read_text(encoding="utf-8", errors="replace")

    def log_end(self) -> str:
        """The last part of its log."""
        return self.log()[-3000:]

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends the process; its files stay."""
        if self.process is not None:
            self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
            self.process = None

    def close(self) -> None:
        """Kills the process and removes its files."""
        self.end()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class ApiServer(Program):
    """One API server with RBAC and an etcd of its own: `ApiServer()` on loopback, `ApiServer(namespace, address)` inside one.

    `users`: bearer tokens of further users, who may do only what RBAC grants them, to their names, as
    `system:serviceaccount:kube-system:somebody`. `ADMIN` is the token of one who may do all.
    """

    def __init__(
        self, namespace: Namespace | None = None, address: str = "127.0.0.1", *, users: Mapping[str, str] | None = None
    ) -> None:
        super().__init__("kube-apiserver", namespace)
        self.address, self.users = address, dict(users or {})
        self.port = 6443 if namespace else free_ports(1)[0]
        self.etcd: Etcd | None = None
        try:
            self.etcd = Etcd(namespace, ports=(6479, 6480) if namespace else None)
            self._write_files()
            self.start()
        except BaseException:
            self.close()
            raise

    # --- the process ---------------------------------------------------------------------------------------------------
    @property
    def url(self) -> str:
        """Where it answers."""
        return f"https://{self.address}:{self.port}"

    @property
    def ca(self) -> Path:
        """The file that its certificate is checked with; the server makes it at its first start and keeps it."""
        return self.home / "certificates" / "apiserver.crt"

    def _write_files(self) -> None:
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(self.home / "accounts.key"))
        lines = [f'{ADMIN},lab-admin,lab-admin,"system:masters"']
        lines += [f"{token},{name},{name}" for token, name in self.users.items()]
        (self.home / "tokens").write_text("\n".join([*lines, ""]), encoding="utf-8")

    def launch(self) -> None:
        """Starts the process on its old data and returns at once."""
        assert self.etcd is not None
        key = str(self.home / "accounts.key")
        command = [
            str(BIN / "kube-apiserver"),
            "--etcd-servers", self.etcd.url,
            "--bind-address", self.address, "--secure-port", str(self.port), "--insecure-port", "0",
            # Nothing in these tests needs the `kubernetes` service, and loopback can't be its endpoint.
            "--advertise-address", self.address, "--endpoint-reconciler-type", "none",
            "--cert-dir", str(self.ca.parent), "--token-auth-file", str(self.home / "tokens"), "--authorization-mode", "RBAC",
            "--allow-privileged",  # as clusters have it: network plugins need it
            "--service-account-issuer", "https://lab.invalid", "--service-account-key-file", key,
            "--service-account-signing-key-file", key, "--service-cluster-ip-range", SERVICES,
            # Its controller, which makes the accounts that it would ask for, doesn't run.
            "--disable-admission-plugins", "ServiceAccount",
        ]  # fmt: skip
        self.run(command, {"HOME": str(self.home), "PATH": os.environ["PATH"], "GOMAXPROCS": "2"})

    def start(self) -> None:
        """Starts the process and waits until it is ready; fails with its log."""
        self.launch()
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline and self.alive:
            try:
                if self.request("GET", "/readyz")[0] == 200:
                    return
            except OSError:
                pass  # it doesn't listen yet, or has no certificate yet
            time.sleep(0.1)
        raise RuntimeError(f"kube-apiserver isn't ready: {self.log_end()}")

    def kubeconfig(self, token: str = ADMIN) -> Path:
        """A kubeconfig file for whoever has this token."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {"server": self.url, "certificate-authority": str(self.ca)}}],
            "users": [{"name": "somebody", "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "somebody"}}],
            "current-context": "lab",
        }
        file = self.home / f"kubeconfig-{token}"
        file.write_text(json.dumps(config), encoding="utf-8")
        return file

    def close(self) -> None:
        """Kills the server and its etcd and removes their data."""
        super().close()
        if self.etcd is not None:
            self.etcd.close()

    # --- asking --------------------------------------------------------------------------------------------------------
    def kubectl(self, *arguments: str, data: Document | None = None, token: str = ADMIN) -> str:
        """Runs kubectl against this server, `data` as JSON on its stdin; its stdout. RuntimeError carries its stderr."""
        command = [str(BIN / "kubectl"), "--kubeconfig", str(self.kubeconfig(token)), "--request-timeout", "30s"]
        command += ["--cache-dir", str(self.home / "kubectl-cache"), *arguments]
        text = json.dumps(data) if data is not None else None
        return self.namespace.run(*command, data=text) if self.namespace else run(*command, data=text)

    def apply(self, *documents: Document) -> None:
        """`kubectl apply` of documents, all in one go."""
        self.kubectl("apply", "-f", "-", data={"apiVersion": "v1", "kind": "List", "items": list(documents)})

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get ARGUMENTS -o json`."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def request(self, method: str, path: str, body: Document | None = None, *, token: str = ADMIN) -> tuple[int, str]:
        """One plain request; status and body of the answer. A body is a merge patch in PATCH. OSError while nobody answers."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        with self.namespace.entered() if self.namespace else nullcontext():
            connection = http.client.HTTPSConnection(
                self.address, self.port, timeout=30, context=ssl.create_default_context(cafile=str(self.ca))
            )
            try:
                headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
                connection.request(method, path, json.dumps(body) if body is not None else None, headers)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            finally:
                connection.close()

    def set_status(self, path: str, status: Document) -> None:
        """Writes what a kubelet reports of an object: `path` is the object's, as `/api/v1/namespaces/shop/pods/web`."""
        code, text = self.request("PATCH", f"{path}/status", {"status": status})
        if code != 200:
            raise RuntimeError(f"{path}: {code}: {text}")


class KubeProxy(Program):
    """kube-proxy in iptables mode in a node's namespace. Whenever a service or endpoint changes it writes all its rules anew.

    `lock_file` is the xtables lock that it shares with others there.
    """

    def __init__(self, node: Namespace, api: ApiServer, name: str, pods: str, lock_file: Path) -> None:
        super().__init__("kube-proxy", node)
        self.command = [
            str(BIN / "kube-proxy"), "--hostname-override", name, "--proxy-mode", "iptables", "--cluster-cidr", pods,
            # No writes to the machine's own conntrack settings.
            "--conntrack-max-per-core", "0", "--conntrack-tcp-timeout-established", "0s",
            "--conntrack-tcp-timeout-close-wait", "0s", "--iptables-min-sync-period", "0s",
            "--kubeconfig", str(api.kubeconfig()),
        ]  # fmt: skip
        self.lock_file = lock_file
        try:
            # The legacy tools, as the agent: on Debian plain names lead to the other kernel interface.
            self.tools = self.home / "tools"
            self.tools.mkdir()
            for tool in ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"):
                legacy = shutil.which(tool.replace("tables", "tables-legacy"), path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
                assert legacy is not None, tool
                (self.tools / tool).symlink_to(legacy)
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Starts the process and returns at once."""
        path = f"{self.tools}:{os.environ['PATH']}"
        self.run(self.command, {"PATH": path, "XTABLES_LOCKFILE": str(self.lock_file), "GOMAXPROCS": "2"})
