"""`hostward version`: our version at once, and the cluster's when a datastore is named. Runs in the main thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

import hostward
from hostward.cli.failures import CommandError, notice
from hostward.cli.options import datastore_options, opened

if TYPE_CHECKING:
    from hostward.datastore.store import Store

_LABEL_WIDTH: Final = 19
_OFTEN: Final = 0.1
"""Seconds; polling more often would only be a load."""


def _interval(_context: click.Context, _option: click.Parameter, text: str | None) -> float:
    """The seconds of --poll, in Go's words for durations; 0 is off, as in calicoctl."""
    if text is None:
        return 0.0
    # Imported here: printing our own version needs no settings and must be quick.
    from hostward.model.setting_values import duration  # noqa: PLC0415 # as above
    from hostward.model.value_errors import BadValueError  # noqa: PLC0415 # as above

    try:
        return float(duration(_OFTEN, zero=True).read(text))
    except BadValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command("version", short_help="Print versions.")
@click.option("--client", is_flag=True, help="Our own version only.")
@click.option(
    "--cluster", is_flag=True, help="Also what the datastore says of its cluster; -c, --datastore and --poll imply it."
)
@click.option(
    "--poll",
    metavar="DURATION",
    callback=_interval,
    help="Ask the datastore again and again, such as every 1s or 10m, and print its answer whenever it changed.",
)
@datastore_options
def command(client: bool, cluster: bool, poll: float, config: str | None, datastore: str | None) -> None:
    """Print the version of this command, and with --cluster, -c or --datastore what the datastore says of its cluster.

    With --poll it goes on, also while the datastore can't be reached, until it is interrupted.
    """
    _line("Client Version", hostward.__version__)
    if client or not (cluster or poll or config or datastore):
        return
    with opened(config, datastore) as store:
        if poll:
            _watch(store, poll)
        else:
            _print(_cluster(store))


def _watch(store: Store, interval: float) -> None:
    """Prints what the datastore says, or why it says nothing, whenever that changed; ends with KeyboardInterrupt only."""
    last: tuple[str, str] | str | None = None
    while True:
        answer: tuple[str, str] | str
        try:
            answer = _cluster(store)
        except CommandError as error:
            answer = f"{error.message}; trying again every {interval:g} s"
        if answer != last:
            notice(answer) if isinstance(answer, str) else _print(answer)
            last = answer
        time.sleep(interval)


def _print(cluster: tuple[str, str]) -> None:
    _line("Cluster Version", cluster[0])
    _line("Cluster Type", cluster[1])


def _line(label: str, value: str) -> None:
    click.echo(f"{label + ':':{_LABEL_WIDTH}}{value}")


def _cluster(store: Store) -> tuple[str, str]:
    """The cluster's version and type. Raises CommandError."""
    # Imported here: printing our own version needs no datastore and must be quick.
    from hostward.datastore.store import NotFoundError, StoreError  # noqa: PLC0415 # as above
    from hostward.model.keys import ResourceKey  # noqa: PLC0415 # as above

    try:
        spec = store.get(ResourceKey("ClusterInformation", "", "default")).document.get("spec")
    except NotFoundError:
        spec = None
    except StoreError as error:
        raise CommandError(f"failed to read the cluster's version: {error}") from error
    values = spec if isinstance(spec, dict) else {}
    return str(values.get("calicoVersion") or "unknown"), str(values.get("clusterType") or "unknown")
