"""`hostward agent`: runs the daemon in the foreground, or shows its settings."""

from __future__ import annotations

import os
import socket
import sys
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from hostward.cli.environment import complete
from hostward.datastore.opening import open_agents_store
from hostward.datastore.store import NotFoundError, StoreError
from hostward.model.keys import ResourceKey

FILE = Path("/etc/hostward/agent.toml")


def read_file(path: Path) -> dict[str, Any]:
    """The settings file as a mapping, empty if there is none. Exits 1 with the line when it isn't TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        click.echo(f"Error: {path}: {error}", err=True)
        sys.exit(1)


def local(name: str) -> Any:
    """A setting as the agent of this host has it without its datastore: how commands beside it find its files."""
    from hostward.model.setting_sources import resolve  # noqa: PLC0415 # heavy imports only when they are needed

    return getattr(resolve(os.environ, read_file(FILE), None, None, socket.gethostname()).settings, name)


STATE_DIR = click.option(
    "--state-dir",
    envvar="HOSTWARD_STATE_DIR",
    default=lambda: local("state_dir"),
    show_default="as the agent's",
    help="The agent's state directory (stateDir).",
)
LOCK_FILE = click.option(
    "--lock-file",
    envvar=["HOSTWARD_IPTABLES_LOCK_FILE_PATH", "FELIX_IPTABLESLOCKFILEPATH"],
    default=lambda: local("iptables_lock_file_path"),
    show_default="as the agent's",
    help="The xtables lock (iptablesLockFilePath).",
)
"""Options of commands beside the agent: where its files are."""


@click.command(name="agent", help="Enforce policy on this host, in the foreground, until a signal.")
@click.option("--datastore", envvar="HOSTWARD_DATASTORE", default="etcd", show_default=True, help="etcd, or dir:PATH.")
@click.option("--show-config", is_flag=True, help="Print each effective setting with its source, and exit.")
def command(datastore: str, show_config: bool) -> None:
    """Exit 0 after a signal, 1 when it can't start."""
    from hostward.dataplane.privileges import take_up  # noqa: PLC0415 # heavy imports only when they are needed
    from hostward.dataplane.xtables.selftest import SelfTest  # noqa: PLC0415 # the same

    take_up()
    tested = None if show_config else SelfTest()
    # structlog loads it where it is, to print tracebacks in colour: 5 MiB for nothing, as ours are JSON or plain.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type] # None: as if it weren't there
    try:
        from hostward import daemon  # noqa: PLC0415 # heavy: gRPC, pyroute2, iptc
    except (ImportError, OSError) as error:  # a library that is missing or broken
        if tested is not None:
            tested.abandon()
        sys.exit(cannot_load(error))

    if show_config:
        complete(os.environ)
        if click.get_current_context().get_parameter_source("datastore") is ParameterSource.DEFAULT:
            datastore = os.environ.get("HOSTWARD_DATASTORE") or datastore
    sources = daemon.Sources(os.environ, read_file(FILE), socket.gethostname(), datastore)
    sys.exit(show(sources) if tested is None else daemon.run(sources, tested))


def cannot_load(error: Exception) -> int:
    """Says that the agent's libraries can't be loaded; 1."""
    from hostward.dataplane.xtables.selftest import LIBRARIES  # noqa: PLC0415 # as above
    from hostward.report import logs  # noqa: PLC0415 # as above

    writer = logs.configure(local("log_severity_screen"), local("log_format"))
    logs.get_logger().error("the agent can't start", what=f"a library can't be loaded: {error}", do=LIBRARIES)
    writer.close()
    return 1


def show(sources: Any) -> int:  # a daemon.Sources, whose module is imported late
    """Prints every setting's effective value and source, and what is wrong with them; 1 if anything stops the agent."""
    node = sources.resolve().settings.node_name
    try:
        stored = stored_specs(sources.datastore, f"node.{node}", "default")
    except StoreError as unread:
        stored = (None, None)
        click.echo(f"Notice: these are without what the datastore says, which can't be read: {unread}", err=True)
    resolved = sources.resolve(*stored)
    width = max(len(name) for name in resolved.sources)
    for name, sourced in resolved.sources.items():
        click.echo(f"{name:<{width}}  {sourced.value or '-'}  ({sourced.source})")
    for notice in resolved.notices:
        click.echo(f"Notice: {notice}", err=True)
    for error in resolved.errors:
        click.echo(f"Error: {error}", err=True)
    return 1 if resolved.errors else 0


def stored_specs(datastore: str, *names: str) -> tuple[dict[str, Any] | None, ...]:
    """The `spec` of each of these FelixConfigurations, None for one that isn't there. StoreError."""
    found: list[dict[str, Any] | None] = []
    with closing(open_agents_store(datastore, os.environ)) as store:
        for name in names:
            try:
                spec = store.get(ResourceKey("FelixConfiguration", "", name)).document.get("spec")
            except NotFoundError:
                spec = None
            found.append(spec if isinstance(spec, dict) else None)
    return tuple(found)
