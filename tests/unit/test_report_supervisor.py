"""What systemd is told, and when: by a real socket, as systemd listens on one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostward.report.health import HealthBoard
from hostward.report.supervisor import PATIENCE_SECONDS, Supervisor


class Systemd:
    """The listening end, a clock, and the agent's health."""

    def __init__(self, address: str) -> None:
        self.now = 0.0
        self.health = HealthBoard(lambda: self.now)
        self.health.register("Engine", live=True, timeout=90)
        self.health.register("Datastore", ready=True)
        self.health.register("Kernel", ready=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}

    def supervisor(self, **environ: str) -> Supervisor:
        return Supervisor(self.environ | environ, self.health, lambda: self.now)

    def in_force(self) -> None:
        for name in ("Engine", "Datastore", "Kernel"):
            self.health.report(name)

    def told(self) -> list[str]:
        """What came since the last call, one word at a time."""
        words: list[str] = []
        while True:
            try:
                words += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return words

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    listening = Systemd(str(tmp_path / "notify") if request.param == "file" else f"@hostward-test-{os.getpid()}")
    yield listening
    listening.close()


def test_ready_when_what_the_datastore_says_is_in_force(systemd: Systemd) -> None:
    supervisor = systemd.supervisor()
    systemd.health.report("Datastore", ready=False, detail="no complete snapshot of the datastore yet")
    supervisor.look()
    told = systemd.told()
    assert "STATUS=Datastore: no complete snapshot of the datastore yet; Kernel: not ready yet" in told
    assert "READY=1" not in told
    systemd.in_force()
    supervisor.look()
    assert systemd.told() == ["STATUS=what the datastore says is in force", "READY=1"]
    systemd.now = PATIENCE_SECONDS + 1
    supervisor.look()
    assert "READY=1" not in systemd.told(), "once is enough"


def test_ready_in_the_end_where_the_datastore_cannot_be_reached(systemd: Systemd) -> None:
    supervisor = systemd.supervisor()
    for systemd.now in (0, PATIENCE_SECONDS - 0.1):
        supervisor.look()
        assert "READY=1" not in systemd.told()
    systemd.now = PATIENCE_SECONDS
    supervisor.look()
    assert "READY=1" in systemd.told()


def test_the_watchdog_is_fed_while_the_engine_gets_on(systemd: Systemd) -> None:
    supervisor = systemd.supervisor()
    fed = []
    for second in range(0, 301, 5):
        systemd.now = float(second)
        if second <= 100:
            systemd.health.report("Engine")
        supervisor.look()
        if "WATCHDOG=1" in systemd.told():
            fed.append(second)
    assert fed == list(range(0, 191, 10)), "thrice as often as is asked for, until the engine has been silent for its 90 s"
    systemd.health.report("Engine")
    supervisor.look()
    assert "WATCHDOG=1" in systemd.told()


def test_a_watchdog_that_is_another_process_s_or_off_is_left_alone(systemd: Systemd) -> None:
    for environ in ({"WATCHDOG_PID": str(os.getpid() + 1)}, {"WATCHDOG_USEC": ""}, {"WATCHDOG_USEC": "soon"}):
        supervisor = systemd.supervisor(**environ)
        systemd.in_force()
        supervisor.look()
        assert "WATCHDOG=1" not in systemd.told()
    without_pid = systemd.supervisor(WATCHDOG_PID="")
    without_pid.look()
    assert "WATCHDOG=1" in systemd.told()


def test_the_end_is_told(systemd: Systemd) -> None:
    systemd.supervisor().stops()
    assert "STOPPING=1" in systemd.told()


def test_a_status_is_one_line(systemd: Systemd) -> None:
    supervisor = systemd.supervisor()
    systemd.health.report("Kernel", ready=False, detail="refused\nREADY=1\n" + "x" * 10_000)
    supervisor.look()
    told = systemd.told()
    assert "READY=1" not in told
    assert [len(word) < 1000 for word in told if word.startswith("STATUS=")] == [True]


@pytest.mark.parametrize("address", ["", "/nonexistent/notify", "relative"])
def test_nobody_who_listens_is_no_trouble(address: str) -> None:
    health = HealthBoard(lambda: 0.0)
    supervisor = Supervisor({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"}, health, lambda: 0.0)
    supervisor.look()
    supervisor.stops()


def test_a_listener_that_does_not_read_holds_nobody_up(systemd: Systemd) -> None:
    supervisor = systemd.supervisor(WATCHDOG_USEC="1")
    for _ in range(2000):  # many more than a socket's queue holds
        systemd.now += 1
        supervisor.look()
