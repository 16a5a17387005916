"""`hostward version`: our version at once, and the cluster's when a datastore is named. Runs in the main thread."""

from __future__ import annotations

import click

import hostward
from hostward.cli.failures import CommandError
from hostward.cli.options import datastore_options, opened

_LABEL_WIDTH = 19


@click.command("version", short_help="Print versions.")
@click.option("--client", is_flag=True, help="Our own version only.")
@click.option("--cluster", is_flag=True, help="Also what the datastore says of its cluster; -c and --datastore imply it.")
@datastore_options
def command(client: bool, cluster: bool, config: str | None, datastore: str | None) -> None:
    """Print the version of this command, and with --cluster, -c or --datastore what the datastore says of its cluster."""
    _line("Client Version", hostward.__version__)
    if client or not (cluster or config or datastore):
        return
    version, kind = _cluster(config, datastore)
    _line("Cluster Version", version)
    _line("Cluster Type", kind)


def _line(label: str, value: str) -> None:
    click.echo(f"{label + ':':{_LABEL_WIDTH}}{value}")


def _cluster(config: str | None, datastore: str | None) -> tuple[str, str]:
    # Imported here: printing our own version needs no datastore and must be quick.
    from hostward.datastore.store import NotFoundError, StoreError  # noqa: PLC0415 # as above
    from hostward.model.keys import ResourceKey  # noqa: PLC0415 # as above

    with opened(config, datastore) as store:
        try:
            spec = store.get(ResourceKey("ClusterInformation", "", "default")).document.get("spec")
        except NotFoundError:
            spec = None
        except StoreError as error:
            raise CommandError(f"failed to read the cluster's version: {error}") from error
    values = spec if isinstance(spec, dict) else {}
    return str(values.get("calicoVersion") or "unknown"), str(values.get("clusterType") or "unknown")
