"""The agent in the very sandbox that its systemd unit makes: no root, two capabilities, a read-only system, few syscalls.

It guards by packets there, is watched by its supervisor, repairs, starts again, and says what is wrong with its lock.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hostward.dataplane.saved_rules import FILE, read
from tests.e2e import documents as d
from tests.e2e.conftest import ALL_OPEN, GUARDED, Site
from tests.lab.agent import COMMAND, ROOT, Agent, clean_environment
from tests.lab.sandbox import UID, Sandbox, why_not
from tests.lab.units import Unit

pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.skipif(bool(why_not()), reason=why_not())]
UNIT = Unit("hostward-agent.service")
INSIDE = """
import errno, json, os, socket, subprocess, sys
def code(what):
    try:
        what()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(json.dumps({
    "who": [os.getuid(), os.getgid(), os.getgroups()],
    "capabilities": [status[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no new privileges": status["NoNewPrivs"],
    "filters": status["Seccomp_filters"],
    "write /etc": code(lambda: open("/etc/hostward-test", "w")),
    "write /run": code(lambda: open("/run/hostward-test", "w")),
    "write state": code(lambda: open("/var/lib/hostward/test", "w")),
    "write /proc/sys": code(lambda: open("/proc/sys/net/ipv4/ip_forward", "w")),
    "homes": [os.listdir("/home"), os.listdir("/root")],
    "packet socket": code(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "unix socket": code(lambda: socket.socket(socket.AF_UNIX)),
    "others": os.path.exists("/proc/1"),
    "become root": code(lambda: os.setuid(0)),
    "set-id file": code(lambda: os.chmod("/var/lib/hostward/test", 0o4755)),
    "clock": code(lambda: __import__("time").clock_settime(0, 0)),
    "namespace": subprocess.run(["unshare", "--user", "true"], capture_output=True).returncode != 0,
    "umask": os.umask(0),
}))
"""


class SandboxedAgent(Agent):
    """An agent whose process is in the sandbox, with the paths that are built in, and a supervisor that it is to tell."""

    def __init__(self, site: Site, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        super().__init__(site.worker, env=site.etcd.env, home=sandbox.home, start=False)
        self.lock_file = sandbox.run / "xtables.lock"
        self.supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.supervisor.bind(str(sandbox.run / "notify"))
        os.chown(sandbox.run / "notify", UID, UID)
        self.supervisor.setblocking(False)

    @property
    def environment(self) -> dict[str, str]:
        return clean_environment() | {
            "HOSTWARD_NODE_NAME": self.node,
            "HOSTWARD_LOG_FORMAT": "json",
            "NOTIFY_SOCKET": "/run/notify",
            "WATCHDOG_USEC": "3000000",
            "PYTHONPATH": str(ROOT / "agent"),
            "PYTHONDONTWRITEBYTECODE": "1",
        } | self.env  # fmt: skip

    def prepare(self) -> None:
        """The unit's first step, by root and outside."""
        words = ["prepare", "--user", str(UID), "--state-dir", str(self.state), "--lock-file", str(self.lock_file)]
        done = subprocess.run([*COMMAND, *words], env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        with self.log_file.open("a", encoding="utf-8") as log:
            options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True}
            self.process = self.namespace.popen(*self.sandbox.command(*COMMAND, "agent"), env=self.environment, **options)

    def stop(self, limit: float = 20) -> int:
        """SIGTERM goes to the agent; the sandbox's own process ends as it does."""
        assert self.process is not None, "the agent isn't running"
        os.kill(self.status()["pid"], signal.SIGTERM)
        try:
            return self.process.wait(limit)
        finally:
            self.kill()

    def status(self) -> dict[str, Any]:
        """Of any process that has written one: bwrap waits for the agent, whose id isn't known here."""
        try:
            found: dict[str, Any] = json.loads((self.state / "status.json").read_bytes())
        except FileNotFoundError:
            return {}
        return found

    def told(self) -> set[str]:
        """What the supervisor was told since it was last asked."""
        words: set[str] = set()
        while True:
            try:
                words.update(self.supervisor.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return words

    def close(self) -> None:
        super().close()
        self.supervisor.close()


@pytest.fixture
def agent(site: Site) -> Iterator[SandboxedAgent]:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostward-sandbox-")))
        yield stack.enter_context(SandboxedAgent(site, Sandbox(UNIT, home)))


def test_the_sandbox_is_the_units(site: Site, agent: SandboxedAgent) -> None:
    agent.prepare()
    inside = agent.sandbox.command(sys.executable, "-I", "-c", INSIDE)
    found = json.loads(site.worker.run("env", "-i", f"PATH={os.environ['PATH']}", *inside))
    assert found.pop("who") == [UID, UID, []]
    assert set(found.pop("capabilities")) == {"0000000000003000"}, "NET_ADMIN and NET_RAW"
    assert found == {
        "no new privileges": "1",
        "filters": "3",
        "write /etc": "EROFS",
        "write /run": "EROFS",
        "write state": "done",
        "write /proc/sys": "EROFS",
        "homes": [[], []],
        "packet socket": "EAFNOSUPPORT",
        "unix socket": "done",
        "others": False,
        "become root": "EPERM",
        "set-id file": "EPERM",
        "clock": "EPERM",
        "namespace": True,
        "umask": 0o077,
    }


def test_the_agent_works_in_it(site: Site, agent: SandboxedAgent) -> None:
    revision = site.guard()
    agent.prepare()
    assert site.reached() == ALL_OPEN
    agent.start()
    agent.wait_applied(revision)
    assert site.reached(0) == GUARDED
    agent.wait("it says that it is ready", lambda: "READY=1" in agent.told())

    # Somebody else's changes are put back.
    agent.iptables("-F", "hw-fh-eth0")
    site.worker.run("ipset", "flush", next(line.split()[1] for line in site.everything()["sets"] if "hw4-s" in line))
    agent.wait("it is repaired", lambda: agent.metric("hostward_repairs_total") >= 2)
    assert site.reached(0) == GUARDED

    # A change; connections that it must end are looked for by another netlink socket.
    agent.wait_applied(site.etcd.put(d.policy_key("web"), d.policy("web", 10, [d.to_ports("Allow", [82], "TCP")])))
    assert site.reached(0) == {"v4": (22, 81), "v6": (22, 81)}

    # Another start, which finds its rules, its memory and its lock.
    agent.wait("the supervisor hears that the engine gets on", lambda: "WATCHDOG=1" in agent.told())
    before, told = site.everything(), len(agent.log_lines("applied"))
    agent.kill()
    (agent.state / "status.json").unlink()
    agent.start()
    agent.wait_applied(site.etcd.revision())
    assert site.everything() == before
    agent.wait("it is in the log, too", lambda: len(agent.log_lines("applied")) > told)
    assert agent.log_lines("applied")[-1]["commits"] == 0
    assert agent.stop() == 0
    assert "STOPPING=1" in agent.told()
    assert read((agent.state / FILE).read_bytes()).families.keys() == {4, 6}
    assert {path.stat().st_uid for path in agent.state.iterdir()} == {UID}
    wrong = [line for line in agent.log_lines() if line.get("raw") or line["level"] in ("error", "critical")]
    assert not wrong, wrong


def test_a_lock_that_was_made_anew_for_root_alone_is_told(site: Site, agent: SandboxedAgent) -> None:
    revision = site.guard()
    agent.prepare()
    agent.start()
    agent.wait_applied(revision)
    agent.lock_file.unlink()
    agent.lock_file.touch(mode=0o600)
    revision = site.etcd.delete(d.policy_key("web"))
    agent.wait("it is told", lambda: "hostward prepare" in agent.health("readiness")[1])
    assert agent.health("liveness")[0] == 200
    assert site.reached(0) == GUARDED
    agent.prepare()
    agent.wait_applied(revision)
    assert site.reached(0) == {"v4": (22, 81), "v6": (22, 81)}


def test_what_few_changes_need_can_be_done_in_it(site: Site, agent: SandboxedAgent) -> None:
    """conntrack's netlink, /proc/locks, iptables-restore."""
    agent.prepare()
    code = (
        "from hostward.dataplane.conntrack import forget_flows; print(forget_flows(['192.0.2.5']))\n"
        "open('/proc/locks').close()\n"
        "from hostward.dataplane.linux import LinuxKernel; from pathlib import Path\n"
        "kernel = LinuxKernel(Path('/run/xtables.lock'), 1.0)\n"
        "from hostward.dataplane.xtables import restore; from hostward.render.ruleset import TableId\n"
        "with kernel.lock(): restore.run(TableId(6, 'mangle'), '*mangle\\n:hw-x - -\\nCOMMIT\\n'); print(kernel.families())\n"
    )
    site.worker.run("iptables-legacy", "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW")  # or nothing is tracked
    site.reached()  # connections that are to be forgotten
    environment = [f"PATH={os.environ['PATH']}", f"PYTHONPATH={ROOT / 'agent'}", "PYTHONDONTWRITEBYTECODE=1"]
    said = site.worker.run("env", "-i", *environment, *agent.sandbox.command(sys.executable, "-c", code))
    assert said.splitlines()[-1] == "(4, 6)"
    assert int(said.splitlines()[0]) > 0
    assert ":hw-x - " in site.worker.run("ip6tables-legacy-save", "-t", "mangle")
