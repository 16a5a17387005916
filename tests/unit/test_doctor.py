"""What `hostward doctor` makes of facts, each both ways; and whom it recognises by what they leave in the kernel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from hostward.cli.doctor import table
from hostward.cli.environment import complete, read_environment
from hostward.model.failsafe import FailsafePort
from hostward.model.findings import fail, ok
from hostward.model.neighbours import Seen, recognise
from hostward.model.settings import BUILT_IN
from hostward.report import host_findings as judge
from hostward.report.health import HealthBoard
from hostward.report.neighbourhood import MANY, WINDOW, Neighbourhood
from hostward.report.status import DatastoreStatus, Status

NOW = datetime(2026, 5, 1, tzinfo=UTC)
STATUS = Status(
    node="w", pid=7, version="1", started_at=NOW, written_at=NOW, desired_revision=5, applied_revision=5,
    datastore=DatastoreStatus(state="in-sync"),
)  # fmt: skip


def levels(findings):
    return [finding.level for finding in findings]


@pytest.mark.parametrize(
    ("listening", "expected"),
    [
        ([("192.0.2.1", 22, "sshd")], ["ok"]),
        ([("192.0.2.1", 2222, "sshd")], ["fail"]),
        ([("::", 22, "sshd"), ("::", 2222, "sshd")], ["fail"]),
        ([("192.0.2.1", 10250, "kubelet")], ["warn"]),
        ([("192.0.2.1", 2379, "etcd"), ("192.0.2.1", 2380, "etcd")], ["ok"]),
        ([("192.0.2.1", 12379, "etcd")], ["warn"]),
        ([("192.0.2.1", 8080, "httpd")], ["ok"]),
        ([("192.0.2.1", 2222, "")], ["warn"]),
        # in a pod without the host's processes the agent sees itself, and not who has the rest
        ([("192.0.2.1", 9096, "hostward"), ("192.0.2.1", 10250, "")], ["warn"]),
        ([("192.0.2.1", 9096, "hostward"), ("192.0.2.1", 22, "")], ["ok"]),
        ([], ["ok"]),
    ],
)
def test_failsafe_ports(listening, expected):
    assert levels(judge.failsafe_findings(listening, [], BUILT_IN)) == expected


def test_a_failsafe_port_of_another_list():
    mine = replace(BUILT_IN, failsafe_inbound_host_ports=(FailsafePort(6, 2222), FailsafePort(17, 22)))
    assert levels(judge.failsafe_findings([("::", 2222, "sshd")], [], mine)) == ["ok"]
    (found,) = judge.failsafe_findings([("::", 22, "sshd")], [], mine)
    assert found.level == "fail"
    assert "tcp:22 to failsafeInboundHostPorts" in found.do
    some = replace(BUILT_IN, failsafe_inbound_host_ports=(FailsafePort(6, 22, "10.0.0.0/8"),))
    assert levels(judge.failsafe_findings([("::", 22, "sshd")], [], some)) == ["fail"]
    every = replace(BUILT_IN, failsafe_inbound_host_ports=(FailsafePort(6, 22, "0.0.0.0/0"), FailsafePort(6, 22, "::/0")))
    assert levels(judge.failsafe_findings([("::", 22, "sshd")], [], every)) == ["ok"]


def test_failsafe_ports_outbound():
    assert levels(judge.failsafe_findings([], [("10.0.0.1", 6443, "kubelet")], BUILT_IN)) == ["ok"]
    (found,) = judge.failsafe_findings([], [("10.0.0.1", 8443, "kubelet")], BUILT_IN)
    assert (found.level, "failsafeOutboundHostPorts" in found.do) == ("warn", True)


def test_packet_marks():
    uses = [(0x4000, "chain A"), (0x1000000, "a rule of IPv4 routing")]
    assert judge.mark_findings(0x00FF0000, uses).level == "ok"
    found = judge.mark_findings(0xFF000000, uses)
    assert found.level == "warn"
    assert "a rule of IPv4 routing uses 0x1000000" in found.finding
    assert "chain A" not in found.finding


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["ok"]),
        ({"written_at": NOW - timedelta(hours=1)}, ["ok", "fail"]),
        ({"written_at": None}, ["ok", "fail"]),
        ({"frozen": ("datastoreReady is false",)}, ["ok", "fail"]),
        ({"datastore": DatastoreStatus(state="lost", detail="gone")}, ["ok", "fail"]),
        ({"applied_revision": 4}, ["ok", "warn"]),
        ({"set_aside_count": 2}, ["ok", "warn"]),
    ],
)
def test_the_agent(fields, expected):
    assert levels(judge.agent_findings(True, msgspec.structs.replace(STATUS, **fields), "", NOW)) == expected


def test_no_agent_or_an_unreadable_one():
    assert levels(judge.agent_findings(False, STATUS, "", NOW)) == ["warn"]
    (found,) = judge.agent_findings(True, None, "no status", NOW)
    assert (found.level, found.finding) == ("fail", "no status")


def test_readiness():
    assert judge.readiness_finding(200, "fine").level == "ok"
    found = judge.readiness_finding(503, "Kernel: refused\nEngine: ok\n")
    assert (found.level, "Kernel: refused" in found.finding) == ("fail", True)
    health = HealthBoard(lambda: 0.0)
    for name, ready, detail in (("Datastore", False, ""), ("Kernel", False, "refused: a, b"), ("Links", True, "")):
        health.register(name, ready=True)
        health.report(name, ready=ready, detail=detail)
    found = judge.readiness_finding(503, health.readiness().text)
    assert found.finding == "not ready: Datastore: reporting non-ready; Kernel: refused: a, b"
    assert judge.readiness_finding(None, "refused").level == "warn"


@pytest.mark.parametrize(("skew", "expected"), [(None, "ok"), (0.4, "ok"), (-4.9, "ok"), (90.0, "warn"), (-90.0, "warn")])
def test_the_clock(skew, expected):
    found = judge.clock_finding(skew, "https://one")
    assert found.level == expected
    if expected == "warn":
        assert ("ahead of" if skew > 0 else "behind") in found.finding


@pytest.mark.parametrize(
    ("begins", "ends", "expected"), [(-10, 90, "ok"), (-10, 20, "warn"), (-10, -1, "fail"), (1, 90, "fail")]
)
def test_a_certificate(begins, ends, expected):
    days = [NOW + timedelta(days=number) for number in (begins, ends)]
    assert judge.certificate_finding("ca", *days, NOW).level == expected


def test_the_connection_table():
    assert judge.connections_finding(10, 100).level == "ok"
    assert judge.connections_finding(95, 100).level == "warn"


@pytest.mark.parametrize(
    ("seen", "name", "level"),
    [
        (Seen({"filter": frozenset({"cali-INPUT"})}), "Felix", "warn"),
        (Seen({"nat": frozenset({"KUBE-SERVICES"})}), "kube-proxy", "ok"),
        (Seen(nftables={"ip6 kube-proxy": frozenset()}), "kube-proxy", "ok"),
        (Seen(interfaces=frozenset({"kube-ipvs0", "lo"})), "IPVS", "warn"),
        (Seen(interfaces=frozenset({"cilium_host"})), "Cilium", "warn"),
        (Seen(nftables={"inet firewalld": frozenset({"filter_INPUT"})}), "firewalld", "warn"),
        (Seen({"filter": frozenset({"INPUT_ZONES"})}), "firewalld", "warn"),
        (Seen({"filter": frozenset({"ufw-before-input"})}), "ufw", "warn"),
        (Seen({"filter": frozenset({"DOCKER-USER"})}), "Docker", "warn"),
        (Seen(nftables={"ip filter": frozenset({"DOCKER"})}), "Docker", "warn"),
        (Seen({"filter": frozenset({"f2b-sshd"})}), "fail2ban", "warn"),
    ],
)
def test_who_else_is_there(seen, name, level):
    (found,) = recognise(seen)
    assert (found.check, found.level) == (name, level)


def test_nobody_else_is_there():
    assert recognise(Seen({"filter": frozenset({"MINE"})}, {"inet mine": frozenset({"input"})}, 0, frozenset({"eth0"}))) == ()


def test_the_other_variant_of_iptables():
    (found,) = recognise(Seen(nft_rules=3))
    assert (found.check, "3 rules while" in found.finding) == ("iptables variants", True)
    names = [found.check for found in recognise(Seen(nftables={"ip filter": frozenset({"KUBE-FORWARD"})}))]
    assert names == ["kube-proxy", "iptables variants"]


class World:
    """A neighbourhood with a clock and its metrics."""

    def __init__(self):
        self.now = 0.0
        self.registry = CollectorRegistry()
        self.beside = Neighbourhood(self.registry, lambda: self.now)

    def value(self, name, /, **labels):
        return self.registry.get_sample_value(f"hostward_{name}", labels)


def test_a_neighbour_is_shown_until_it_goes():
    world = World()
    felix = recognise(Seen({"filter": frozenset({"cali-INPUT"})}))
    for _ in range(2):
        world.beside.found(felix)
        assert world.value("other_firewall", program="Felix") == 1
        assert [text.startswith("Felix: chains in iptables-legacy filter") for text in world.beside.warnings()] == [True]
    world.beside.found(recognise(Seen({"nat": frozenset({"KUBE-SERVICES"})})))
    assert world.value("other_firewall", program="Felix") is None
    assert world.value("other_firewall", program="kube-proxy") == 1
    assert world.beside.warnings() == ()


def test_who_keeps_changing_ours_is_told_while_it_lasts():
    world = World()
    world.beside.found(recognise(Seen({"filter": frozenset({"cali-INPUT"})})))
    for number in range(MANY):
        assert world.value("contested") == 0
        world.now = number * 5.0
        world.beside.repaired(["filter/v4"])
    assert world.value("contested") == 1
    assert "in filter/v4" in world.beside.warnings()[0]
    assert "Felix" in world.beside.warnings()[0]
    world.now = WINDOW + 1
    assert world.value("contested") == 0
    assert len(world.beside.warnings()) == 1


def test_the_table_says_what_to_do_only_where_something_is():
    assert table([ok("a", "fine"), fail("b", "bad\x1b[2J", "mend")]) == [
        "ok    a                            fine",
        "fail  b                            bad\\x1b[2J",
        "                                   → mend",
    ]  # fmt: skip


def test_the_agents_environment_file(tmp_path: Path):
    file = tmp_path / "agent.env"
    file.write_text('# no\nETCD_ENDPOINTS=https://a:1\nETCD_PASSWORD="x=y"\n;FELIX_X=1\n', encoding="utf-8")
    assert read_environment(str(file)) == {"ETCD_ENDPOINTS": "https://a:1", "ETCD_PASSWORD": "x=y"}
    assert read_environment(str(tmp_path / "none")) == {}


def test_what_the_agents_file_adds(tmp_path: Path):
    file = tmp_path / "agent.env"
    file.write_text(
        "ETCD_ENDPOINTS=https://a:1\nETCD_CERT_FILE=/a.pem\nNODENAME=w1\nHOSTWARD_STATE_DIR=/s\nPATH=/tmp\n", "utf-8"
    )
    nothing: dict[str, str] = {"HOSTWARD_DATASTORE": ""}
    complete(nothing, str(file))
    assert (nothing["ETCD_CERT_FILE"], nothing["NODENAME"]) == ("/a.pem", "w1")
    assert "PATH" not in nothing
    elsewhere = {"CALICO_ETCD_ENDPOINTS": "https://b:1", "NODENAME": "w2"}
    complete(elsewhere, str(file))
    assert elsewhere == {"CALICO_ETCD_ENDPOINTS": "https://b:1", "NODENAME": "w2", "HOSTWARD_STATE_DIR": "/s"}


def test_which_commands_go_by_the_agents_file(tmp_path: Path):
    """Those that an operator types; the agent has its environment from its unit."""
    file = tmp_path / "agent.env"
    file.write_text(f"HOSTWARD_DATASTORE=dir:{tmp_path}\nNODENAME=w1\n", encoding="utf-8")
    (tmp_path / "tier.yaml").write_text(
        "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: mine}\nspec: {order: 1}\n", encoding="utf-8"
    )
    program = (
        "import os, sys; from functools import partial; from hostward.cli import agent, environment, main\n"
        f"agent.complete = main.complete = partial(environment.complete, path={str(file)!r})\n"
        "try: main.main(sys.argv[1:])\n"
        "finally: print(os.environ.get('HOSTWARD_DATASTORE'))"
    )
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    for words, shows in (
        (["get", "tier"], f"mine   .*dir:{tmp_path}"),
        (["agent", "--show-config"], rf"w1  \(NODENAME\).*dir:{tmp_path}"),
        (["agent", "--no-such-option"], "None"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, *words], env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert re.search(shows, done.stdout, re.DOTALL), done
        assert "can't be read" not in done.stderr
