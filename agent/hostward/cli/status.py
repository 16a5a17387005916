"""`hostward status`: what the agent of this host does, as text or JSON. Reads files in `stateDir`, asks nobody."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import click
import msgspec

from hostward.cli.agent import STATE_DIR
from hostward.report.agent_lock import is_agent_running
from hostward.report.status import InterfaceStatus, Status, StatusError, WorkloadStatus, read_status


@click.command(name="status", help="Say what the agent of this host does.")
@STATE_DIR
@click.option("-o", "--output", type=click.Choice(["json"]), help="Print JSON instead of text.")
def command(state_dir: str, output: str | None) -> None:
    """Prints the status; exit 1 when no agent is running or its status can't be read."""
    try:
        running = is_agent_running(state_dir)
    except OSError as error:
        click.echo(f"Error: {error.filename}: {error.strerror}; run this as root", err=True)
        sys.exit(1)
    status, trouble = None, ""
    try:
        status = read_status(state_dir)
    except StatusError as error:
        trouble = str(error)
    if output == "json":
        document = {"running": running} | (msgspec.to_builtins(status) if status else {})
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    elif status is not None:
        click.echo("\n".join(lines(status, datetime.now(UTC), running=running)))
    if trouble:
        click.echo(f"Error: {trouble}", err=True)
    if not running:
        last = " Its last status may no longer hold." if status else ""
        click.echo(f"No agent is running on this host (nobody holds {state_dir}/agent.lock).{last}", err=True)
    sys.exit(0 if running and status is not None else 1)


def lines(status: Status, now: datetime, *, running: bool) -> Iterator[str]:
    """The status for people, line by line."""
    state = f"running, process {status.pid}, since {_time(status.started_at)}" if running else "not running"
    yield f"Agent:      hostward {_clean(status.version)} on {_clean(status.node)}, {state}"
    if not running or _seconds(status.written_at, now) > 60:
        yield f"Status of:  {_time(status.written_at)} ({_ago(status.written_at, now)})"
    yield f"Datastore:  {status.datastore.state}, last contact {_ago(status.datastore.last_contact, now)}" + (
        f": {_clean(status.datastore.detail)}" if status.datastore.detail else ""
    )
    behind = "" if status.applied_revision == status.desired_revision else f", {status.desired_revision} received"
    yield f"Revision:   {status.applied_revision} applied{behind}"
    for reason in status.frozen:
        yield f"Frozen:     {_clean(reason)}; the kernel keeps the rules that it has"
    for warning in status.warnings:
        yield f"Warning:    {_clean(warning)}"
    yield ""
    if not status.interfaces:
        yield "No interface of this host is governed by a host endpoint."
    for interface in status.interfaces:
        isolated = " (not understood: denies all but failsafe ports)" if interface.isolated else ""
        yield f"{_clean(interface.name)}: host endpoint {_clean(interface.endpoint)}{isolated}"
        yield from _policies(interface, "denies all but failsafe ports")
    for workload in status.workloads:
        isolated = " (not understood: cut off)" if workload.isolated else ""
        yield f"{_clean(workload.name)}: workload endpoint {_clean(workload.endpoint)}{isolated}"
        yield from _list("addresses", workload.addresses)
        yield from _policies(workload, "denies all")
    for name in status.cut_off:
        yield f"{_clean(name)}: no workload endpoint: cut off"
    if status.set_aside:
        yield ""
        yield f"Not understood ({max(status.set_aside_count, len(status.set_aside))}):"
        for item in status.set_aside:
            older = "its last understood version stays in force" if item.older_in_force else "no older version is known"
            where = f" {_clean(item.path)}:" if item.path else ""
            yield f"  {_clean(item.key)}:{where} {_clean(item.reason)} ({older})"
        if status.set_aside_count > len(status.set_aside):
            yield f"  and {status.set_aside_count - len(status.set_aside)} more"


def _policies(interface: InterfaceStatus | WorkloadStatus, without: str) -> Iterator[str]:
    for hook in interface.hooks:
        yield f"  {hook.hook:<10} {hook.direction:<8} {', '.join(map(_clean, hook.policies))}"
    if not interface.hooks:
        # One that isn't understood has said so in its own line.
        yield "  no policy" if interface.profiles or interface.isolated else f"  no policy and no profile: {without}"
    yield from _list("profiles", interface.profiles)


def _list(title: str, items: tuple[str, ...]) -> Iterator[str]:
    if items:
        yield f"  {title:<10} {'':<8} {', '.join(map(_clean, items))}"


def _clean(text: str) -> str:
    """A text from the datastore, without what could write to the operator's terminal."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _time(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else "never"


def _seconds(moment: datetime | None, now: datetime) -> float:
    return max(0.0, (now - moment).total_seconds()) if moment else float("inf")


def _ago(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "never"
    seconds = round(_seconds(moment, now))
    if seconds < 120:
        return f"{seconds} s ago"
    return f"{seconds // 60} min ago" if seconds < 7200 else f"{seconds // 3600} h ago"
