"""`hostward cleanup`: takes everything of ours out of the kernel, and the agent's state; only ours."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import click

from hostward.model.settings import BUILT_IN


@click.command(name="cleanup", help="Remove every chain, rule and set of Hostward's from this host. Nothing guards it then.")
@click.option(
    "--state-dir",
    envvar="HOSTWARD_STATE_DIR",
    default=BUILT_IN.state_dir,
    show_default=True,
    help="The agent's state directory (stateDir).",
)
@click.option(
    "--lock-file",
    envvar=["HOSTWARD_IPTABLES_LOCK_FILE_PATH", "FELIX_IPTABLESLOCKFILEPATH"],
    default=BUILT_IN.iptables_lock_file_path,
    show_default=True,
    help="The xtables lock (iptablesLockFilePath).",
)
def command(state_dir: str, lock_file: str) -> None:
    """Exit 1 beside a running agent, or when the kernel refuses."""
    from hostward.dataplane.kernel import KernelError  # noqa: PLC0415 # heavy imports only when they are needed
    from hostward.dataplane.linux import LinuxKernel  # noqa: PLC0415 # the same
    from hostward.engine.applier import Applier  # noqa: PLC0415 # the same
    from hostward.render.marks import Marks  # noqa: PLC0415 # the same
    from hostward.render.ruleset import Ruleset  # noqa: PLC0415 # the same
    from hostward.report.agent_lock import AgentLock, AgentRunsError  # noqa: PLC0415 # the same

    try:
        lock = AgentLock(state_dir)
    except (AgentRunsError, OSError) as error:
        click.echo(f"Error: {error}. Stop the agent first.", err=True)
        sys.exit(1)
    try:
        kernel = LinuxKernel(Path(lock_file), 10.0)
        outcome = Applier(kernel).bring(Ruleset(), Marks.from_mask(BUILT_IN.mark_mask))
    except KernelError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    finally:
        lock.release()
    for name in ("memory.db", "memory.db-wal", "memory.db-shm", "status.json", "manifests.cache", "agent.lock"):
        with suppress(FileNotFoundError, IsADirectoryError):
            Path(state_dir, name).unlink()
    click.echo(f"Removed: {outcome.commits} table changes, {outcome.set_steps} sets")
