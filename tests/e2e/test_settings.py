"""FelixConfiguration changes under a running agent: what takes effect at once, and what makes it begin anew, unnoticed."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import documents as d
from tests.e2e.conftest import Site
from tests.lab.pages import block
from tests.lab.probes import Stream, StreamClass

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
OPEN, SHUT = 5000, 5001  # UDP
PAGE = Path(__file__).parents[2] / "docs/operate.md"


def configure(site: Site, **spec: Any) -> int:
    """Writes FelixConfiguration `default` and waits until the agent has it."""
    revision = site.etcd.put(f"{d.ROOT}felixconfigurations/default", {"metadata": {"name": "default"}, "spec": spec})
    site.agent.wait_applied(revision)
    return revision


def answers(site: Site, path: str, port: int) -> bool:
    with contextlib.suppress(OSError):
        return site.agent.http(path, port)[0] == 200
    return False


def touch(site: Site, number: int) -> int:
    """A change that an agent logs at level INFO."""
    revision = site.etcd.put(d.set_key("touched"), d.network_set("touched", {"n": str(number)}, ["10.8.0.0/16"]))
    site.agent.wait_applied(revision)
    return len(site.agent.log_lines("resource changed"))


def test_servers_and_logs_follow_while_the_agent_runs(guarded: Site, tmp_path: Path) -> None:
    agent, began = guarded.agent, guarded.agent.status()["startedAt"]
    configure(guarded, prometheusMetricsPort=9191, healthPort=9199)
    guarded.until("both answer elsewhere", lambda: answers(guarded, "/metrics", 9191) and answers(guarded, "/liveness", 9199))
    assert not answers(guarded, "/metrics", 9091)
    assert not answers(guarded, "/liveness", 9099)
    configure(guarded, prometheusMetricsEnabled=False)
    guarded.until("health is back and metrics are off", lambda: answers(guarded, "/readiness", 9099))
    assert not answers(guarded, "/metrics", 9191)
    assert not answers(guarded, "/metrics", 9091)

    (tmp_path / "quieter.yaml").write_text(block(PAGE, "quieter.yaml"))
    assert touch(guarded, 1) > 0
    assert agent.command("apply", "-f", str(tmp_path / "quieter.yaml")).returncode == 0
    agent.wait_applied(guarded.etcd.revision())
    lines = len(agent.log_lines("resource changed"))
    assert touch(guarded, 2) == lines, "told, though only warnings are asked for"
    assert agent.status()["startedAt"] == began, "the same process all the time"
    agent.restart()
    agent.wait_applied(guarded.etcd.revision())
    assert touch(guarded, 3) == lines, "what an agent remembers counts from its start on"
    configure(guarded, logSeverityScreen="Info")
    assert touch(guarded, 4) > lines


def test_settings_of_the_start_begin_the_agent_anew_and_no_packet_feels_it(guarded: Site) -> None:
    agent, etcd = guarded.agent, guarded.etcd
    supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    supervisor.bind(str(agent.home / "notify"))
    supervisor.setblocking(False)
    agent.env["NOTIFY_SOCKET"] = str(agent.home / "notify")
    agent.restart()
    agent.wait_applied(etcd.put(d.policy_key("udp"), d.policy("udp", 30, [d.to_ports("Allow", [OPEN])])))
    guarded.until("systemd is told", lambda: "READY=1" in words(supervisor))
    before, pid, began = guarded.everything(), agent.pid, agent.status()["startedAt"]
    assert "felix_active_local_endpoints" in agent.metrics()
    classes = [
        StreamClass(f"{name} v{version}", guarded.WORKER[0][version == 6], port)
        for name, port in (("open", OPEN), ("shut", SHUT))
        for version in (4, 6)
    ]
    with Stream(guarded.hosts["client0"], classes, {guarded.worker: [OPEN, SHUT]}, rate=200) as stream:
        stream.start()
        configure(guarded, felixMetricsEnabled=False, iptablesLockTimeout="7s")
        guarded.until("another program runs", lambda: agent.status().get("startedAt", began) != began)
        agent.wait_applied(etcd.revision())
        reports = stream.finish()
    assert (agent.pid, agent.alive) == (pid, True)
    assert guarded.everything() == before
    guarded.until("it answers", lambda: answers(guarded, "/metrics", 9091))
    assert "felix_active_local_endpoints" not in agent.metrics()
    (line,) = agent.log_lines("begins anew for settings that are taken at the start only")
    assert line["settings"] == ["felix_metrics_enabled", "iptables_lock_timeout"]
    assert [one.get("begins_anew_for") for one in agent.log_lines("settings changed")] == [line["settings"]]
    assert len(agent.log_lines("agent starts")) == 3
    told: list[str] = []
    with contextlib.closing(supervisor):
        guarded.until("systemd is told again", lambda: "READY=1" in collected(supervisor, told))
        assert "STOPPING=1" not in told, "for systemd it is one service that runs on"
    for name, report in reports.items():
        assert report.sent > 1000
        if name.startswith("open"):
            assert len(report.lost) <= 1, f"{name}: {len(report.lost)} of {report.sent} are lost"  # a busy machine's own
        else:
            assert not report.arrived, f"{name}: {len(report.arrived)} of {report.sent} leaked"
    assert agent.stop() == 0, "the new program ends in order, too"


def words(supervisor: socket.socket) -> list[str]:
    """All that was told to systemd."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found += supervisor.recv(65536).decode().split("\n")
    return found


def collected(supervisor: socket.socket, told: list[str]) -> list[str]:
    told += words(supervisor)
    return told


def settings_of(text: str) -> dict[str, str]:
    return {line.split()[0]: line.split(None, 1)[1] for line in text.splitlines()}


def test_each_setting_is_shown_with_its_source(guarded: Site) -> None:
    configure(guarded, healthPort=9199, logFormat="json", driftCheckInterval="3s", nodeName="x", noSuchThing=True)
    key = f"{d.ROOT}felixconfigurations/node.worker"
    guarded.etcd.put(key, {"metadata": {"name": "node.worker"}, "spec": {"driftCheckInterval": "2s"}})
    done = guarded.agent.command("agent", "--show-config", FELIX_VXLANPORT="4790")
    assert done.returncode == 0
    shown = settings_of(done.stdout)
    assert shown["nodeName"] == "worker  (HOSTWARD_NODE_NAME)"
    assert shown["logFormat"] == "json  (HOSTWARD_LOG_FORMAT)"
    assert shown["vxlanPort"] == "4790  (FELIX_VXLANPORT)"
    assert shown["healthPort"] == "9199  (FelixConfiguration default)"
    assert shown["driftCheckInterval"] == "2s  (FelixConfiguration node.worker)"
    assert shown["prometheusMetricsPort"] == "9091  (built in)"
    assert "nodeName is ignored" in done.stderr
    assert "'noSuchThing' is no setting" in done.stderr
    guarded.etcd.stop()
    alone = guarded.agent.command("agent", "--show-config")
    assert alone.returncode == 0
    assert settings_of(alone.stdout)["healthPort"] == "9099  (built in)"
    assert "can't be read" in alone.stderr
