"""`hostward delete`: removes resources by name or by manifest. Runs in the main thread."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from hostward.cli import lockout
from hostward.cli.completion import complete_kind
from hostward.cli.failures import CommandError, notice
from hostward.cli.options import datastore_options, dry_run_option, manifest_options, opened_to_write
from hostward.cli.results import Outcome
from hostward.cli.targets import Target, by_file, by_name, resolve
from hostward.cli.write import check_writable, delete
from hostward.cli.writing import OF_ONE_RESOURCE, finish
from hostward.datastore.store import BrokenError, NotFoundError, Store, StoreError
from hostward.model.keys import ResourceKey


@click.command("delete", short_help="Remove resources by name or by manifest.")
@click.argument("kind", required=False, shell_complete=complete_kind)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-s", "--skip-not-exists", is_flag=True, help="What is not there counts as deleted.")
@click.option("--skip-empty", is_flag=True, help="Files without any resource are no error.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask before several are deleted.")
@manifest_options
@datastore_options
@dry_run_option
def command(
    *,
    kind: str | None,
    names: tuple[str, ...],
    skip_not_exists: bool,
    skip_empty: bool,
    yes: bool,
    files: tuple[str, ...],
    recursive: bool,
    namespace: str | None,
    config: str | None,
    datastore: str | None,
    dry_run: bool,
) -> None:
    """Remove resources: KIND NAME..., or those that manifests name.

    On a terminal it asks before it removes more than one.
    """
    if bool(files) == bool(kind):
        raise click.UsageError("Give either KIND NAME... or -f FILE.")
    if kind and not names:
        raise click.UsageError("Give the NAME of what to delete.")
    if kind:
        targets = by_name(kind, names, namespace)
    else:
        targets = by_file(files, namespace, recursive=recursive, may_be_empty=skip_empty)
    if not targets:
        click.echo("No resources specified")
        return
    # A tier must be empty first, and the files that made it name it first.
    targets = sorted(targets, key=lambda target: target.kinds == ("Tier",))
    if len(targets) > 1 and not (yes or dry_run) and sys.stdin.isatty():
        _ask(targets)
    with opened_to_write(config, datastore, dry_run=dry_run, initialises=False) as store:
        lockout.warn(store, dict.fromkeys(_keys(targets)), notice)
        outcome = delete_all(store, targets, skip_not_exists)
    finish(outcome, dry_run=dry_run)


def _ask(targets: Sequence[Target]) -> None:
    for key in _keys(targets):
        notice(f"  {key}")
    if not click.confirm(f"Delete these {len(targets)} resources?", err=True):
        raise CommandError("nothing was deleted")


def _keys(targets: Sequence[Target]) -> list[ResourceKey]:
    return [ResourceKey(target.kinds[0], target.namespace, target.name) for target in targets]


def delete_all(store: Store, targets: Sequence[Target], skip_not_exists: bool) -> Outcome:
    """Deletes each; goes on after a resource that can't be deleted, but not with a store in trouble."""
    outcome = Outcome("delete", "deleted", [target.kinds[0] for target in targets])
    named = _keys(targets)
    for index, target in enumerate(targets):
        try:
            key = _delete(store, target)
        except StoreError as error:
            if not (skip_not_exists and isinstance(error, NotFoundError)):
                outcome.errors.append(str(error))
                outcome.each.append(f"{named[index]}: not deleted: {error}")
                if isinstance(error, OF_ONE_RESOURCE):
                    continue
                # The store itself is in trouble: the others would only wait for the same answer.
                outcome.each += [f"{key}: not tried" for key in named[index + 1 :]]
                break
            outcome.each.append(f"{named[index]}: not there")
        else:
            outcome.kinds[index] = key.kind
            outcome.each.append(f"{key}: deleted")
        outcome.succeeded += 1
    return outcome


def _delete(store: Store, target: Target) -> ResourceKey:
    """Deletes one; the key that it had."""
    named = ResourceKey(target.kinds[0], target.namespace, target.name)
    if len(target.kinds) == 1:
        check_writable("delete", named, of_kubernetes=target.of_kubernetes)
    try:
        found = resolve(store, target)
    except BrokenError as broken:
        # A value that can't be read can still be deleted, unless somebody has mended it meanwhile.
        check_writable("delete", broken.key, of_kubernetes=target.of_kubernetes)
        store.delete(broken.key, broken.revision)
        return broken.key
    delete(store, found, target.revision, of_kubernetes=target.of_kubernetes)
    return found.key
