"""A machine that boots: a real systemd as process 1, in namespaces of its own, with our units as they are shipped.

Its programs are this machine's, its network is a given namespace's, its cgroups are below one of its own. It can change nothing
of the kernel's. `booted.sh` builds it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.agent import ROOT, WITHIN, clean_environment, is_readable_by_all
from tests.lab.netns import Namespace, run
from tests.lab.units import FOLDER, PROGRAM

SYSTEMD = Path("/lib/systemd/systemd")
BUILD = Path(__file__).with_name("booted.sh")
UNITS = ("hostward-agent.service", "hostward-boot.service")
INSIDE = ("-m", "-p", "-u", "-i", "-C")  # the namespaces beside the network's


class Machine:
    """One boot. `state` is what survives from one to the next; `shared` is /shared inside.

    `units` are further ones by name, enabled too; `environment` is /etc/hostward/agent.env; `drop_in` is added to the agent's
    [Service].
    """

    def __init__(
        self, namespace: Namespace, state: Path, *, units: dict[str, str], environment: dict[str, str], drop_in: str = ""
    ) -> None:
        self.namespace = namespace
        self.home = Path(tempfile.mkdtemp(prefix="hostward-machine-"))
        self.home.chmod(0o755)
        self.shared = self.home / "shared"
        self._cgroup: Path | None = None
        self._process: subprocess.Popen[str] | None = None
        try:
            self._lay_out(state, units, environment, drop_in)
            self._boot([*UNITS, *units])
        except BaseException:
            self.close()
            raise

    def _lay_out(self, state: Path, units: dict[str, str], environment: dict[str, str], drop_in: str) -> None:
        system, ours = self.home / "etc/systemd/system", self.home / "etc/hostward"
        for directory in (self.home / "root", self.shared, system, ours, self.home / "etc/sysusers.d"):
            directory.mkdir(parents=True)
        (self.home / "state").symlink_to(state)
        for name in UNITS:
            text = (FOLDER / name).read_text().replace(PROGRAM, str(Path(sys.prefix, "bin/hostward")))
            (system / name).write_text(text.replace("/opt/hostward", "/opt"))
        for name, text in units.items():
            (system / name).write_text(text)
        (self.home / "etc/sysusers.d/hostward.conf").write_text((FOLDER / "hostward.sysusers").read_text())
        # An installed Hostward is in /opt; a checkout may be where the sandbox hides things.
        bound = f"BindReadOnlyPaths={' '.join(self._visible())}\n"
        home = "ProtectHome=tmpfs\n" if any(path.startswith(("/home/", "/root/")) for path in self._visible()) else ""
        for name in UNITS:
            (system / f"{name}.d").mkdir()
            extra = drop_in if name == UNITS[0] else ""
            (system / f"{name}.d/test.conf").write_text(f"[Service]\n{bound}{home}{extra}")
        fixed = {"PYTHONPATH": str(ROOT / "agent"), "PYTHONDONTWRITEBYTECODE": "1"}
        (ours / "agent.env").write_text("".join(f"{name}={value}\n" for name, value in (fixed | environment).items()))

    @staticmethod
    def _visible() -> list[str]:
        places = {str(ROOT), sys.prefix, sys.base_prefix}
        return sorted(path for path in places if path != "/usr")

    def _boot(self, units: list[str]) -> None:
        cgroups = self.home / "cgroups"
        cgroups.mkdir()
        run("mount", "-t", "cgroup2", "cgroup2", str(cgroups))
        self._cgroup = cgroups / f"hostward-test-{os.getpid()}-{time.monotonic_ns()}"
        self._cgroup.mkdir()
        environ = clean_environment() | {
            "HOME_DIR": str(self.home), "VISIBLE": " ".join(self._visible()), "UNITS": " ".join(units),
        }  # fmt: skip
        join = f'echo $$ >"{self._cgroup}/cgroup.procs" && exec unshare {" ".join(INSIDE)} --fork --kill-child "$@"'
        with (self.home / "log").open("w") as log:
            options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "env": environ}
            self._process = self.namespace.popen("sh", "-c", join, "sh", str(BUILD), **options)
        self.wait("systemd runs", lambda: self._inside() is not None and (self.shared / "console").exists())

    def _inside(self) -> str | None:
        """The id, out here, of the machine's process 1."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the machine ended:\n{(self.home / 'log').read_text()[-3000:]}")
        with contextlib.suppress(FileNotFoundError):
            for child in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return child
        return None

    def run(self, *command: str, check: bool = True) -> str:
        """Runs a command inside, as root; its stdout."""
        return self.namespace.run("nsenter", "-t", str(self._inside()), *INSIDE, *command, check=check)

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        said = self.run("systemctl", "show", unit, *(word for name in names for word in ("-p", name)))
        return dict(line.split("=", 1) for line in said.splitlines())

    def journal(self, unit: str) -> str:
        """What a unit has said."""
        return self.run("journalctl", "-o", "cat", "--no-pager", "-u", unit)

    def wait(self, what: str, condition: Callable[[], bool], limit: float = WITHIN) -> None:
        """Waits until something holds."""
        deadline = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < deadline, f"not within {limit} s: {what}\n{(self.home / 'log').read_text()[-3000:]}"
            time.sleep(0.05)

    def wait_active(self, unit: str) -> None:
        """Waits until a unit is up. While the machine boots, systemctl may not answer yet."""
        self.wait(f"{unit} is up", lambda: self.run("systemctl", "is-active", unit, check=False).strip() == "active")

    def close(self) -> None:
        """Ends it as a power cut does, and removes it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)  # process 1 ends with it, and all others with that
            self._process.wait(20)
        if self._cgroup is not None:
            deadline = time.monotonic() + 10
            while any(_remove(path) for path in _deepest(self._cgroup)) and time.monotonic() < deadline:
                time.sleep(0.05)
            run("umount", str(self.home / "cgroups"), check=False)
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _deepest(top: Path) -> Iterator[Path]:
    for parent, _, _ in os.walk(top, topdown=False):
        yield Path(parent)


def _remove(cgroup: Path) -> bool:
    """Whether it is still there: its processes may still be ending."""
    with contextlib.suppress(OSError):
        cgroup.rmdir()
    return cgroup.exists()


def why_not() -> str:
    """What keeps this machine from booting another, "" for nothing."""
    if os.geteuid() != 0:
        return "needs root"
    if not is_readable_by_all(parents=False):
        return "needs a checkout that every user can read"
    if not SYSTEMD.exists():
        return "needs systemd"
    with tempfile.TemporaryDirectory() as place:
        command = ["mount", "-t", "cgroup2", "cgroup2", place]
        if subprocess.run(command, capture_output=True, timeout=20, check=False).returncode:
            return "needs a kernel that lets it mount cgroup2"
        try:
            probe = Path(place, f"hostward-test-{os.getpid()}")
            probe.mkdir()
            moved = subprocess.run(["sh", "-c", f"echo $$ >{probe}/cgroup.procs"], capture_output=True, timeout=20, check=False)
            probe.rmdir()
            if moved.returncode:
                return "needs cgroups that processes can be moved to"
        except OSError as error:
            return f"needs cgroups that can be written: {error.strerror}"
        finally:
            run("umount", place)
    return ""
