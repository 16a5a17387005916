"""`hostward patch`: changes fields of one stored resource. Runs in the main thread."""

from __future__ import annotations

import click

from hostward.cli import edits, lockout
from hostward.cli.completion import complete_kind
from hostward.cli.failures import CommandError, notice
from hostward.cli.options import datastore_options, dry_run_option, namespace_option, opened_to_write
from hostward.cli.targets import by_name, resolve
from hostward.cli.write import edit
from hostward.datastore.store import Document, Found, StoreError
from hostward.datastore.yaml12 import DocumentError, read


@click.command("patch", short_help="Change fields of a resource.")
@click.argument("kind", shell_complete=complete_kind)
@click.argument("name")
@click.option("-p", "--patch", required=True, metavar="JSON", help="The fields to change, as JSON or YAML; null removes one.")
@click.option("-t", "--type", "kind_of_patch", default="strategic", metavar="TYPE", help="strategic (the default) or merge.")
@namespace_option
@datastore_options
@dry_run_option
def command(
    *,
    kind: str,
    name: str,
    patch: str,
    kind_of_patch: str,
    namespace: str | None,
    config: str | None,
    datastore: str | None,
    dry_run: bool,
) -> None:
    """Change fields of the resource KIND NAME: objects are merged, lists and values replaced, null removes."""
    if kind_of_patch not in ("strategic", "merge"):
        raise click.UsageError(f"unknown patch type '{kind_of_patch}'; known are strategic and merge, which do the same here")
    wanted = _patch(patch)
    target = by_name(kind, [name], namespace)[0]

    def change(found: Found) -> Document:
        after = edits.patched(found, wanted)
        lockout.warn(store, {found.key: after}, notice)
        return after

    with opened_to_write(config, datastore, dry_run=dry_run, initialises=False) as store:
        try:
            key = edit(store, lambda: resolve(store, target), change, "patch", notice)
        except StoreError as error:
            raise CommandError(f"failed to patch '{target.kinds[0]}' resource: [{error}]") from error
    if not dry_run:
        click.echo(f"Successfully patched 1 '{key.kind}' resource")


def _patch(text: str) -> Document:
    try:
        documents = read(text, "--patch")
    except DocumentError as error:
        raise CommandError(f"failed to execute command: {error}") from error
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise CommandError('failed to execute command: --patch: expected one object, such as {"spec": {"order": 500}}')
    value: Document = documents[0].value
    return value
