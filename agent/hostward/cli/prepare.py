"""`hostward prepare`: as root, what an agent needs that isn't root; run before it by systemd or an init container."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from hostward.cli.agent import LOCK_FILE, STATE_DIR
from hostward.cli.failures import notice

USER = "hostward"


@click.command(name="prepare", help="As root: load kernel modules, and give an agent that isn't root its lock and state.")
@click.option("--user", default=USER, show_default=True, metavar="NAME|UID[:GID]", help="Who the agent runs as.")
@STATE_DIR
@LOCK_FILE
def command(user: str, state_dir: str, lock_file: str) -> None:
    """Exit 1 when the lock or the state can't be given; modules that can't be loaded may be there already."""
    from hostward.dataplane.prepare import PrepareError, account, give_state, load_modules, share_lock  # noqa: PLC0415 # its verb alone

    if os.geteuid() != 0:
        click.echo("Error: run this as root", err=True)
        sys.exit(1)
    if trouble := load_modules():
        notice(f"Notice: {trouble}")
    try:
        owner = account(user)
        share_lock(Path(lock_file), owner.gid)
        give_state(Path(state_dir), owner)
    except PrepareError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
