"""`hostward cleanup --felix`: takes what Felix has left out of the kernel, once ours is in force in its place."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path

import click

from hostward.dataplane.felix import TABLES, Left, look, processes, remove
from hostward.dataplane.kernel import KernelError
from hostward.dataplane.needs import families
from hostward.dataplane.xtables.lock import XtablesLock
from hostward.model.resolved import ANY_INTERFACE
from hostward.report.agent_lock import is_agent_running
from hostward.report.host_findings import STALE
from hostward.report.status import Status, StatusError, read_status


def cleanup_felix(state_dir: str, lock_file: Path, *, nat: bool) -> int:
    """1 when it would leave something unguarded, while Felix runs, or when the kernel refuses."""
    try:
        if refusal := _running() or _not_in_force(state_dir):
            return _refused(refusal)
        found = look(families())
        if not found:
            click.echo("Nothing of Felix's is left on this host")
            return 0
        if refusal := _would_open(found, read_status(state_dir)):
            return _refused(refusal)
        tables = [name for name in TABLES if name != "nat" or nat or not found.masquerades]
        left = remove(XtablesLock(lock_file), tables)
    except (KernelError, StatusError, OSError) as error:
        return _refused(str(error))
    chains = sum(map(len, found.chains.values())) - sum(map(len, left.chains.values()))
    click.echo(f"Removed: {chains} chains and {len(found.sets) - len(left.sets)} sets of Felix's")
    if "nat" not in tables:
        click.echo(
            "Its chains in nat stay: they masquerade what pods send. Remove them with --nat once another program does that."
        )
        return 0
    if left:
        return _refused(
            f"{sum(map(len, left.chains.values()))} chains and {len(left.sets)} sets of Felix's stay: who uses them?"
        )
    return 0


def _refused(text: str) -> int:
    click.echo(f"Error: {text}", err=True)
    return 1


def _running() -> str:
    """Felix would put everything back."""
    found = processes()
    return f"Felix runs ({found[0].name}, process {found[0].pid}): stop it first" if found else ""


def _not_in_force(state_dir: str) -> str:
    """Why it isn't sure that an agent of ours guards this host."""
    if not is_agent_running(state_dir):
        return "no agent of Hostward's runs here: this host would be open. Start it first"
    status = read_status(state_dir)
    if status.written_at is None or datetime.now(UTC) - status.written_at > STALE:
        return "the agent's status is old: see its log first"
    if status.frozen:
        return f"the agent doesn't follow the datastore: {'; '.join(status.frozen)}"
    if not status.applied_revision or status.applied_revision != status.desired_revision:
        return "the agent hasn't brought everything into the kernel yet: see its log, or try again"
    return ""


def _would_open(found: Left, status: Status) -> str:
    """What nobody would guard after it."""
    if found.unhooked:
        return f"ours isn't first in {', '.join(found.unhooked)}: is another program in the way?"
    mine = {item.name for item in status.interfaces} | {item.name for item in status.workloads} | set(status.cut_off)
    there = {name for _, name in socket.if_nameindex()} | {ANY_INTERFACE}
    missing = sorted(found.guarded & there - mine)
    if missing and ANY_INTERFACE not in mine:
        return (
            f"Felix guards {', '.join(missing)}, which no endpoint governs here: that would be open. "
            "Do both follow the same datastore, with the same node name?"
        )
    return ""
