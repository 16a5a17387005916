"""The systemd units agree with the code and with each other, and systemd itself finds little to object to."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hostward.cli.main import COMMANDS
from hostward.cli.prepare import USER
from hostward.model.settings import BUILT_IN
from hostward.report.supervisor import PATIENCE_SECONDS
from tests.lab.figures import Figures
from tests.lab.units import FOLDER, PROGRAM, Unit

AGENT, BOOT = Unit("hostward-agent.service"), Unit("hostward-boot.service")
UNITS = pytest.mark.parametrize("unit", [AGENT, BOOT], ids=lambda unit: unit.name)
CAPABILITIES = {"CAP_NET_ADMIN", "CAP_NET_RAW"}
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def test_every_unit_is_looked_at() -> None:
    assert {path.name for path in FOLDER.glob("*.service")} == {AGENT.name, BOOT.name}


@UNITS
def test_what_they_run_exists(unit: Unit) -> None:
    runs = [line for name in ("ExecStartPre", "ExecStart") for line in unit.all("Service", name)]
    assert len(runs) == 2
    for line in runs:
        program, verb = line.lstrip("-+").split()
        assert program == PROGRAM
        assert verb in COMMANDS


@UNITS
def test_who_reads_the_state_is_no_root_and_has_two_capabilities(unit: Unit) -> None:
    assert unit.one("Service", "User") == unit.one("Service", "Group") == USER
    assert unit.words("Service", "CapabilityBoundingSet") == CAPABILITIES
    assert unit.words("Service", "AmbientCapabilities") == CAPABILITIES
    assert unit.one("Service", "NoNewPrivileges") == "yes"
    assert "+" not in unit.one("Service", "ExecStart")
    assert unit.one("Service", "ExecStartPre").partition("/")[0] in ("+", "-+"), "what root prepares, root prepares"


def test_their_user_is_made() -> None:
    made = [line.split()[:2] for line in (FOLDER / "hostward.sysusers").read_text().splitlines() if not line.startswith("#")]
    assert made == [["u", USER]]


def test_the_agent_keeps_its_state_where_it_looks_for_it() -> None:
    assert f"/var/lib/{AGENT.one('Service', 'StateDirectory')}" == BUILT_IN.state_dir
    assert BUILT_IN.state_dir in BOOT.words("Unit", "RequiresMountsFor")


def test_the_agent_is_always_started_again() -> None:
    assert AGENT.one("Service", "Restart") == "always"
    assert AGENT.one("Unit", "StartLimitIntervalSec") == "0"
    assert not [name for unit in (AGENT, BOOT) for name in ("ExecStop", "ExecStopPost") if unit.all("Service", name)]


def test_the_last_rules_come_before_the_network_and_the_agent_after_them() -> None:
    assert "network-pre.target" in BOOT.words("Unit", "Before")
    assert "network-pre.target" in BOOT.words("Unit", "Wants"), "it is there only where somebody wants it"
    assert BOOT.one("Unit", "DefaultDependencies") == "no", "else it waits for basic.target"
    assert BOOT.one("Install", "WantedBy") == "sysinit.target"
    assert BOOT.name in AGENT.words("Unit", "After")
    assert BOOT.name in AGENT.words("Install", "Also")


def test_systemd_waits_for_the_agent_and_watches_it() -> None:
    assert AGENT.one("Service", "Type") == "notify"
    assert float(AGENT.one("Service", "WatchdogSec")) > 0
    # Else the agent of a host without etcd would be ended and started again and again.
    assert float(AGENT.one("Service", "TimeoutStartSec")) > PATIENCE_SECONDS
    assert not AGENT.all("Unit", "Before"), "an agent that waits for etcd must not hold up the network"


@needs_systemd
def test_systemd_finds_nothing_wrong_with_them(tmp_path: Path) -> None:
    # The program is not installed here: any other that exists stands for it.
    copies = [str(unit.copied(tmp_path, sys.executable)) for unit in (AGENT, BOOT)]
    done = subprocess.run(["systemd-analyze", "verify", *copies], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_the_agent_is_exposed_little(figures: Figures) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(FOLDER / AGENT.name)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout
    figures.tell("Q2", "exposure level", float(found[1]))
    assert float(found[1]) <= 2.0
