"""`hostward apply`: creates or updates what manifests describe. Runs in the main thread."""

from __future__ import annotations

import click

from hostward.cli.failures import CommandError, notice
from hostward.cli.manifests import Manifest, load
from hostward.cli.options import datastore_options, manifest_options, opened
from hostward.cli.results import Outcome
from hostward.cli.write import NotSupportedError, apply
from hostward.datastore.store import AlreadyExistsError, ConflictError, NotFoundError, Store, StoreError

_OF_ONE_RESOURCE = (AlreadyExistsError, ConflictError, NotFoundError, NotSupportedError)


@click.command("apply", short_help="Create or update resources from manifests.")
@manifest_options
@datastore_options
def command(files: tuple[str, ...], recursive: bool, namespace: str | None, config: str | None, datastore: str | None) -> None:
    """Create or update the resources of manifests, v3 or v1, YAML or JSON.

    Nothing is written if any document of the files is invalid.
    """
    if not files:
        raise click.UsageError("Missing option '-f' / '--filename'.")
    manifests = load(files, namespace, recursive=recursive)
    with opened(config, datastore, writes=True) as store:
        outcome = _apply_all(store, manifests)
    if outcome.errors:
        raise CommandError(outcome.failure())
    click.echo(outcome.success())


def _apply_all(store: Store, manifests: list[Manifest]) -> Outcome:
    outcome = Outcome("apply", "applied", [manifest.key.kind for manifest in manifests])
    for manifest in manifests:
        try:
            apply(store, manifest, notice)
        except StoreError as error:
            outcome.errors.append(str(error))
            if isinstance(error, _OF_ONE_RESOURCE):
                continue
            # The store itself is in trouble: the others would only wait for the same answer.
            break
        outcome.succeeded += 1
        if manifest.v1_name and manifest.v1_name != manifest.key.name:
            notice(f"{manifest.v1_kind} '{manifest.v1_name}' is stored as {manifest.key.kind} '{manifest.key.name}'")
    return outcome
