"""What the agent writes about itself: no secret ever (Q5), and nothing that stops it (F2)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e import documents as d
from tests.e2e.conftest import GUARDED, Site
from tests.lab.agent import COMMAND, WITHIN, Agent
from tests.lab.figures import Figures

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
PASSWORD, WRONG = "Right-Pass-Phrase-90210", "Wrong-Pass-Phrase-90211"
KEY = "c2VjcmV0LWtleS1tYXRlcmlhbC05MDIxMg"
KEY_FILE = f"-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----\n"
SECRETS = (PASSWORD, WRONG, KEY)


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack)


class Watched:
    """Reads every command line of the machine, again and again, for as long as the block lasts."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    self.seen.add((process / "cmdline").read_bytes())

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def with_users(site: Site) -> None:
    """An etcd that wants a user and password."""
    for command in (
        "user add root:the-lab-s-own",
        "user grant-role root root",
        "role add agents",
        f"role grant-permission agents --prefix=true read {d.ROOT}",
        "user add agent --no-password=false --interactive=false",
        "user grant-role agent agents",
        "auth enable",
    ):
        site.etcd.ctl(*command.split(), data=PASSWORD.encode() if "interactive" in command else None)
    site.etcd.user = "root:the-lab-s-own"


def test_q5_no_secret_is_told_anywhere(site: Site, tmp_path: Path, figures: Figures) -> None:
    """A whole run with everything that goes wrong: wrong password, lost token, broken key, password in the wrong place."""
    agent, told = site.agent, dict[str, str]()
    revision = site.guard()
    with_users(site)
    (tmp_path / "key.pem").write_text(KEY_FILE)
    (tmp_path / "cert.pem").write_text(KEY_FILE.replace("PRIVATE KEY", "CERTIFICATE"))
    env = {"HOSTWARD_LOG_SEVERITY_SCREEN": "DEBUG", "ETCD_USERNAME": "agent", "ETCD_PASSWORD": WRONG}
    agent.env = site.etcd.env | env
    with Watched() as watched:
        agent.start()
        site.until("it is refused", lambda: agent.status().get("datastore", {}).get("state") == "lost")
        tell(site, told, "refused")
        agent.stop()
        agent.env |= {"ETCD_PASSWORD": PASSWORD}
        agent.start()
        agent.wait_applied(revision)
        assert site.reached() == GUARDED
        site.etcd.kill()
        site.until("etcd is lost", lambda: agent.status()["datastore"]["state"] == "lost")
        tell(site, told, "lost")
        told["lost shown"] = shown(agent, {})
        told["lost command"] = agent.command("status").stdout
        site.etcd.start()  # it has forgotten all tokens
        agent.wait_applied(site.etcd.put(d.policy_key("web"), d.policy("web", 10, [d.to_ports("Allow", [81], "TCP")])))
        tell(site, told, "token")
        agent.stop()
        for name, wrong in {
            "key": {"ETCD_KEY_FILE": str(tmp_path / "key.pem"), "ETCD_CERT_FILE": str(tmp_path / "cert.pem")},
            "text": {"ETCD_KEY_FILE": KEY_FILE, "ETCD_CERT_FILE": KEY_FILE},
            "url": {"ETCD_ENDPOINTS": site.etcd.url.replace("//", f"//agent:{PASSWORD}@")},
            "name": {"HOSTWARD_ETCD_PASSWORD": PASSWORD},
            "felix": {"FELIX_ETCDPASSWORD": PASSWORD, "FELIX_ETCDKEYFILE": KEY_FILE},
        }.items():
            secure = {"ETCD_ENDPOINTS": site.etcd.url.replace("http:", "https:")} | wrong
            told[f"{name} shown"] = shown(agent, secure)
            agent.env |= secure
            agent.start()
            limit = time.monotonic() + 60
            while agent.alive and time.monotonic() < limit and not agent.status().get("datastore", {}).get("detail"):
                time.sleep(0.05)
            if agent.alive:
                tell(site, told, name)
            agent.kill()
            agent.env = site.etcd.env | env | {"ETCD_PASSWORD": PASSWORD}
    told["log"] = agent.log_file.read_text(encoding="utf-8", errors="replace")
    told["state"] = "".join(file.read_bytes().decode(errors="replace") for file in agent.state.rglob("*") if file.is_file())
    told["command lines"] = b"\n".join(watched.seen).decode(errors="replace")
    assert "refuses this user name or password" in told["log"]
    assert any("agent" in line for line in told["command lines"].split("\n")), "processes were looked at"
    assert not [line for line in agent.log_lines() if line.get("raw")], "every line is one of ours"
    found = [f"{secret} in {where}" for where, text in told.items() for secret in SECRETS if secret in text]
    figures.tell("Q5", "bytes searched", sum(map(len, told.values())), "B", how="sum")
    figures.tell("Q5", "secrets found", len(found), how="sum")
    assert not found


def tell(site: Site, told: dict[str, str], when: str) -> None:
    """Everything that the running agent tells now."""
    agent = site.agent
    site.until("it answers", lambda: answers(agent))
    told[f"{when} status"] = (agent.state / "status.json").read_text()
    told[f"{when} metrics"] = agent.metrics()
    told[f"{when} health"] = agent.health("readiness")[1] + agent.health("liveness")[1]


def answers(agent: Agent) -> bool:
    with contextlib.suppress(OSError):
        return bool(agent.metrics() and agent.health("liveness"))
    return False


def shown(agent: Agent, env: dict[str, str]) -> str:
    done = agent.command("agent", "--show-config", **env)
    return done.stdout + done.stderr


class Piped(Agent):
    """An agent whose stderr is a pipe of one page that nobody reads until `read`."""

    def __init__(self, site: Site, stack: ExitStack) -> None:
        super().__init__(site.worker, env={**site.etcd.env, "HOSTWARD_LOG_SEVERITY_SCREEN": "DEBUG"}, start=False)
        os.mkfifo(self.log_file)
        self.pipe = os.open(self.log_file, os.O_RDWR | os.O_NONBLOCK)
        stack.callback(os.close, self.pipe)
        fcntl.fcntl(self.pipe, fcntl.F_SETPIPE_SZ, 4096)

    def log_end(self, lines: int = 30) -> str:
        return f"(its last {lines} lines are in a pipe)"

    def read(self, event: bytes, times: int) -> bytes:
        """What comes out of the pipe until an event has so many times; whole lines."""
        got, limit = b"", time.monotonic() + WITHIN
        while got.count(b'"%b"' % event) < times or not got.endswith(b"\n"):
            assert time.monotonic() < limit, f"{event!r} is there {got.count(event)} times"
            if select.select([self.pipe], [], [], 1)[0]:
                got += os.read(self.pipe, 65536)
        return got


def change(site: Site, agent: Agent, number: int) -> float:
    """Seconds from a change of policy to the kernel."""
    began = time.monotonic()
    agent.wait_applied(site.etcd.put(d.policy_key("more"), d.policy("more", 50, [d.to_ports("Deny", [9000 + number], "TCP")])))
    return time.monotonic() - began


def test_f2_a_stderr_that_nobody_reads(site: Site, figures: Figures) -> None:
    """Changes get into the kernel as ever, /metrics and probes answer, lines come out once somebody reads.

    When more is told than is kept, lines are dropped and counted. The agent ends when it is told to.
    """
    with ExitStack() as stack:
        site.guard()
        agent = stack.enter_context(Piped(site, stack))
        agent.start()
        agent.wait_applied(site.etcd.revision())
        slowest = max(change(site, agent, number) for number in range(40))
        assert site.reached() == GUARDED
        assert agent.health("readiness")[0] == agent.health("liveness")[0] == 200
        told = agent.read(b"resource changed", 40)
        assert len(told) > 3 * 4096, "it wasn't blocked"
        assert all(json.loads(line)["event"] for line in told.splitlines())
        broken = json.dumps(d.policy("broken", 60, [{"action": "Perhaps"}] * 30))  # twenty lines each
        for number in range(6):
            site.etcd.transaction({d.policy_key(f"broken-{number}-{one}"): broken for one in range(100)})
        dropped = "hostward_logs_dropped_total"
        agent.wait("more is logged than is kept", lambda: agent.metric(dropped) > 0)
        slowest = max(slowest, change(site, agent, 1))
        assert site.reached() == GUARDED
        assert agent.stop() == 0
    figures.tell("F2", "slowest change while stderr is blocked", slowest, "s")


def test_f2_a_stderr_whose_reader_has_gone(site: Site) -> None:
    with ExitStack() as stack:
        site.guard()
        reading, writing = os.pipe()
        agent = stack.enter_context(Agent(site.worker, env=site.etcd.env, start=False))
        agent.process = agent.namespace.popen(*COMMAND, "agent", env=agent.environment, stderr=writing, start_new_session=True)
        os.close(writing)
        os.close(reading)
        agent.wait_applied(site.etcd.revision())
        change(site, agent, 1)
        assert site.reached() == GUARDED
        agent.wait("lost lines are counted", lambda: agent.metric("hostward_log_errors_total") > 0)
        assert agent.stop() == 0


def test_f2_no_stdin_stdout_and_stderr_at_all(site: Site) -> None:
    """What is opened first must not stand where lines are written to: it would be the agent's lock, or its memory."""
    with ExitStack() as stack:
        site.guard()
        agent = stack.enter_context(Agent(site.worker, env=site.etcd.env, start=False))
        for _ in range(2):
            words = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *COMMAND, "agent")
            agent.process = agent.namespace.popen(*words, env=agent.environment, start_new_session=True)
            agent.wait_applied(site.etcd.revision())
            change(site, agent, 1)
            assert site.reached() == GUARDED
            assert {os.readlink(f"/proc/{agent.pid}/fd/{number}") for number in (0, 1, 2)} == {os.devnull}
            assert agent.stop() == 0
            agent.process = None
        with contextlib.closing(sqlite3.connect(agent.state / "memory.db")) as memory:
            assert memory.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert (agent.state / "agent.lock").read_text().strip().isdigit()
