"""`hostward cleanup`: takes everything of ours out of the kernel, and the agent's state; only ours."""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from pathlib import Path

import click

from hostward.cli.agent import LOCK_FILE, STATE_DIR
from hostward.model.settings import BUILT_IN


@click.command(name="cleanup", help="Remove every chain, rule and set of Hostward's from this host. Nothing guards it then.")
@click.option("--felix", is_flag=True, help="Remove Felix's instead, beside a running agent of ours (docs/from-felix.md).")
@click.option("--nat", is_flag=True, help="With --felix: also where it masquerades what pods send.")
@STATE_DIR
@LOCK_FILE
def command(felix: bool, nat: bool, state_dir: str, lock_file: str) -> None:
    """Exit 1 beside a running agent, or when the kernel refuses."""
    if felix:
        from hostward.cli.cleanup_felix import cleanup_felix  # noqa: PLC0415 # heavy imports only when they are needed

        sys.exit(cleanup_felix(state_dir, Path(lock_file), nat=nat))
    if nat:
        raise click.UsageError("--nat goes with --felix: nothing of Hostward's is in nat")
    from hostward.dataplane.kernel import KernelError  # noqa: PLC0415 # heavy imports only when they are needed
    from hostward.dataplane.linux import LinuxKernel  # noqa: PLC0415 # the same
    from hostward.dataplane.privileges import take_up  # noqa: PLC0415 # the same
    from hostward.engine.applier import Applier  # noqa: PLC0415 # the same
    from hostward.render.marks import Marks  # noqa: PLC0415 # the same
    from hostward.render.ruleset import Ruleset  # noqa: PLC0415 # the same
    from hostward.report.agent_lock import AgentLock, AgentRunsError  # noqa: PLC0415 # the same

    take_up()
    try:
        lock = AgentLock(state_dir)
    except AgentRunsError as error:
        click.echo(f"Error: {error}. Stop the agent first.", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"Error: {error.filename}: {error.strerror}; run this as root", err=True)
        sys.exit(1)
    try:
        kernel = LinuxKernel(Path(lock_file), 10.0)
        outcome = Applier(kernel).bring(Ruleset(), Marks.from_mask(BUILT_IN.mark_mask))
    except KernelError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    for name, why in outcome.left.items():
        click.echo(f"Error: set {name} stays: {why}", err=True)
    if outcome.left:
        sys.exit(1)
    _forget(Path(state_dir))
    lock.release()
    click.echo(f"Removed: {outcome.commits} table changes, {outcome.set_steps} sets")


def _forget(state: Path) -> None:
    """Removes the agent's state; the lock last, while it is held."""
    shutil.rmtree(state / "manifests.cache", ignore_errors=True)
    for name in (
        "memory.db",
        "memory.db-wal",
        "memory.db-shm",
        "memory.broken",
        "status.json",
        ".status.json.tmp",
        "rules.saved",
        ".rules.saved.tmp",
        "counts.json",
        ".counts.json.tmp",
        "agent.lock",
    ):
        with suppress(OSError):
            (state / name).unlink()
    with suppress(OSError):  # something that isn't ours is in it, or it is somebody's mount point
        state.rmdir()
