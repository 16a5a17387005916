"""A machine that can be provisioned: a Debian root of its own, in a network namespace, with a stand-in for systemd.

Its processes have a process namespace of their own, and end with its first one. Knows nothing of what is installed on it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import image
from tests.lab.container import Mount, Spec
from tests.lab.netns import Namespace

ROOT = Path(__file__).parents[2]
CHECKOUT = ("agent", "demo", "docs", "scripts", "systemd", "vagrant", "Makefile", "README.md", "pyproject.toml")
LOCKS = ("requirements.lock", "requirements-agent.lock")


class Machine:
    """A copy of a root, running. `close` ends everything on it and removes it; a context manager."""

    def __init__(self, source: Path, namespace: Namespace) -> None:
        self.namespace = namespace
        self.home = Path(tempfile.mkdtemp(prefix="hostward-machine-", dir=image.CACHE.parent))
        self.home.chmod(0o755)
        self._process = self._boot(*self._own(source))
        stand_in = self.root / "usr/bin/systemctl"
        shutil.copy(Path(__file__).with_name("systemctl"), stand_in)
        stand_in.chmod(0o755)

    def _own(self, source: Path) -> tuple[Path, str]:
        """The root to start on, and where what is written goes ("": there). A copy takes seconds and is the second choice."""
        changes = self.home / "changes"
        changes.mkdir()
        probe = [sys.executable, "-c", f"from tests.lab.container import overlay; overlay({str(source)!r}, {str(changes)!r})"]
        if subprocess.run(["unshare", "-m", *probe], cwd=ROOT, capture_output=True, timeout=60, check=False).returncode == 0:
            return source, str(changes)
        copy = self.home / "root"
        copy.mkdir()
        image.clone(source, copy)
        return copy, ""

    def _boot(self, root: Path, changes: str) -> subprocess.Popen[str]:
        settings, files = image.package_index(self.home)
        self.env = {"PATH": image.PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", **settings}
        # The shell waits for children that others left, as the first process must.
        first = ["sh", "-c", "mkdir -p /run/systemd/system; while :; do sleep 0.2; done"]
        network = Mount(f"/run/netns/{self.namespace.name}", "/run/network")
        mounts = [
            Mount("tmpfs", "/tmp"),
            Mount("tmpfs", "/run"),
            network,
            Mount("/etc/resolv.conf", "/etc/resolv.conf"),
            *files,
        ]
        spec = Spec(str(root), first, self.env, mounts, changes=changes)
        return self.namespace.popen(*spec.write(self.home / "machine.json"), cwd=ROOT, stdin=subprocess.DEVNULL)

    def take_checkout(self) -> None:
        """Copies this checkout to /hostward, as Vagrant does."""
        to = self.root / "hostward"
        to.mkdir(exist_ok=True)
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", ".vagrant")
        for name in (*CHECKOUT, *LOCKS):
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, to / name, ignore=ignore, dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / name, to / name)

    @property
    def root(self) -> Path:
        """Its files, from outside."""
        return Path(f"/proc/{self.first}/root")

    @property
    def first(self) -> int:
        """Its first process, by its number outside."""
        for _ in range(500):
            found = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text(encoding="ascii").split()
            if found and os.path.exists(f"/proc/{found[0]}/root/run/systemd/system"):
                return int(found[0])
            time.sleep(0.01)
        raise TimeoutError("the machine doesn't start")

    def entering(self, *, own_network: bool = True) -> list[str]:
        """A command that runs what follows it on the machine, as root; in the network of this one if not in its own."""
        assert self._process.poll() is None, "the machine doesn't run"
        environment = [f"{name}={value}" for name, value in self.env.items()]
        network = ["-n"] if own_network else []
        return ["nsenter", "-t", str(self.first), "-m", "-p", "-i", *network, "--", "env", "-i", *environment]

    def run(self, script: str, limit: float = 120) -> str:
        """Runs a shell script to its end; its stdout and stderr. RuntimeError carries them."""
        return self._run(script, limit, own_network=True)

    def provision(self, script: str, limit: float = 600) -> str:
        """The same in the network of this machine, where packages come from. Services run in the machine's own all the same."""
        return self._run(script, limit, own_network=False)

    def _run(self, script: str, limit: float, *, own_network: bool) -> str:
        done = subprocess.run(
            [*self.entering(own_network=own_network), "sh", "-s"], input=script, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=limit, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{script}: exit {done.returncode}: {done.stdout[-4000:]}")
        return done.stdout

    def calls(self) -> list[str]:
        """What systemctl was asked, in order."""
        file = self.root / "run/systemctl.calls"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    def close(self) -> None:
        """Ends its first process, and thereby all, and removes its files."""
        if self._process.poll() is None:
            os.kill(self.first, 9)
            self._process.wait(20)
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
