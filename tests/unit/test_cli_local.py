"""Commands beside the agent look where its settings file sends it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from hostward.cli import agent, cleanup, prepare, status
from hostward.report.agent_lock import AgentLock


@pytest.mark.parametrize("command", [cleanup.command, status.command])
def test_the_state_directory_is_the_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: object) -> None:
    """`cleanup` would otherwise not see that an agent runs, and open the host."""
    file = tmp_path / "agent.toml"
    file.write_text(f'stateDir = "{tmp_path}/state"\n')
    monkeypatch.setattr(agent, "FILE", file)
    monkeypatch.delenv("HOSTWARD_STATE_DIR", raising=False)
    lock = AgentLock(str(tmp_path / "state"))
    try:
        done = CliRunner().invoke(command, [])  # type: ignore[arg-type] # click's own
    finally:
        lock.release()
    assert done.exit_code == 1
    assert f"{tmp_path}/state" in done.output
    assert ("an agent is running already" in done.output) is (command is cleanup.command)


def test_prepare_is_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    arguments = ["--user", "1000", "--state-dir", f"{tmp_path}/state", "--lock-file", f"{tmp_path}/lock"]
    done = CliRunner().invoke(prepare.command, arguments)
    assert (done.exit_code, done.output) == (1, "Error: run this as root\n")
    assert not list(tmp_path.iterdir())
