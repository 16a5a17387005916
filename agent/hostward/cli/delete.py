"""`hostward delete`: removes resources by name or by manifest. Runs in the main thread."""

from __future__ import annotations

from collections.abc import Sequence

import click

from hostward.cli.failures import CommandError
from hostward.cli.lookup import AmbiguousError
from hostward.cli.options import datastore_options, manifest_options, opened
from hostward.cli.results import Outcome
from hostward.cli.targets import Target, by_file, by_name, resolve
from hostward.cli.write import NotSupportedError, check_writable, delete
from hostward.datastore.store import ConflictError, NotFoundError, Store, StoreError
from hostward.model.keys import ResourceKey

_OF_ONE_RESOURCE = (AmbiguousError, ConflictError, NotFoundError, NotSupportedError)


@click.command("delete", short_help="Remove resources by name or by manifest.")
@click.argument("kind", required=False)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-s", "--skip-not-exists", is_flag=True, help="What is not there counts as deleted.")
@manifest_options
@datastore_options
def command(
    *,
    kind: str | None,
    names: tuple[str, ...],
    skip_not_exists: bool,
    files: tuple[str, ...],
    recursive: bool,
    namespace: str | None,
    config: str | None,
    datastore: str | None,
) -> None:
    """Remove resources: KIND NAME..., or those that manifests name."""
    if bool(files) == bool(kind):
        raise click.UsageError("Give either KIND NAME... or -f FILE.")
    if kind and not names:
        raise click.UsageError("Give the NAME of what to delete.")
    targets = by_name(kind, names, namespace) if kind else by_file(files, namespace, recursive=recursive)
    with opened(config, datastore) as store:
        outcome = _delete_all(store, targets, skip_not_exists)
    if outcome.errors:
        raise CommandError(outcome.failure())
    click.echo(outcome.success())


def _delete_all(store: Store, targets: Sequence[Target], skip_not_exists: bool) -> Outcome:
    outcome = Outcome("delete", "deleted", [target.kinds[0] for target in targets])
    for index, target in enumerate(targets):
        try:
            outcome.kinds[index] = _delete(store, target)
        except StoreError as error:
            if not (skip_not_exists and isinstance(error, NotFoundError)):
                outcome.errors.append(str(error))
                if isinstance(error, _OF_ONE_RESOURCE):
                    continue
                # The store itself is in trouble: the others would only wait for the same answer.
                break
        outcome.succeeded += 1
    return outcome


def _delete(store: Store, target: Target) -> str:
    """Deletes one; the kind that it had."""
    named = ResourceKey(target.kinds[0], target.namespace, target.name)
    if len(target.kinds) == 1:
        check_writable("delete", named)
    try:
        found = resolve(store, target)
    except _OF_ONE_RESOURCE:
        raise
    except StoreError:
        if len(target.kinds) > 1 or "/" in target.name:
            raise
        # A value that can't be read can still be deleted; a store that can't be reached says so once more.
        store.delete(named)
        return named.kind
    delete(store, found, target.revision)
    return found.key.kind
