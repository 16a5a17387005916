"""The verbs that write what manifests describe: read all, warn, write each, say what became of each.

Runs in the main thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from hostward.cli import lockout
from hostward.cli.failures import CommandError, notice
from hostward.cli.lookup import AmbiguousError
from hostward.cli.manifests import Manifest, load
from hostward.cli.options import opened_to_write
from hostward.cli.results import Outcome
from hostward.cli.write import NotSupportedError, Say
from hostward.convert.defaults import filled
from hostward.datastore.store import AlreadyExistsError, ConflictError, NotFoundError, Store, StoreError

OF_ONE_RESOURCE = (AlreadyExistsError, AmbiguousError, ConflictError, NotFoundError, NotSupportedError)
"""Errors after which the other resources are still worth trying."""

Write = Callable[[Store, Manifest, Say], None]


def run(
    verb: tuple[str, str],
    write: Write,
    *,
    files: tuple[str, ...],
    recursive: bool,
    namespace: str | None,
    skip_empty: bool,
    dry_run: bool,
    config: str | None,
    datastore: str | None,
    skips: tuple[type[StoreError], ...] = (),
) -> None:
    """Writes the resources of files; `verb` is such as (`apply`, `applied`). Errors in `skips` count as success.

    Raises CommandError when anything is wrong with a file, before anything is written, or when a resource can't be written.
    """
    if not files:
        raise click.UsageError("Missing option '-f' / '--filename'.")
    manifests = load(files, namespace, recursive=recursive, may_be_empty=skip_empty)
    if not manifests:
        click.echo("No resources specified")
        return
    with opened_to_write(config, datastore, dry_run=dry_run) as store:
        lockout.warn(store, {one.key: filled(one.document) for one in manifests}, notice)
        outcome = write_all(verb, write, store, manifests, skips)
    finish(outcome, dry_run=dry_run)


def write_all(
    verb: tuple[str, str],
    write: Write,
    store: Store,
    manifests: Sequence[Manifest],
    skips: tuple[type[StoreError], ...] = (),
) -> Outcome:
    """Writes each; goes on after a resource that can't be written, but not with a store in trouble."""
    outcome = Outcome(*verb, [manifest.key.kind for manifest in manifests])
    for index, manifest in enumerate(manifests):
        place = f"{manifest.place}: {manifest.key}"
        try:
            write(store, manifest, notice)
        except StoreError as error:
            if not isinstance(error, skips):
                outcome.errors.append(str(error))
                outcome.each.append(f"{place}: not {verb[1]}: {error}")
                if isinstance(error, OF_ONE_RESOURCE):
                    continue
                # The store itself is in trouble: the others would only wait for the same answer.
                outcome.each += [f"{one.place}: {one.key}: not tried" for one in manifests[index + 1 :]]
                break
            outcome.each.append(f"{place}: skipped")
        else:
            outcome.each.append(f"{place}: {verb[1]}")
        outcome.succeeded += 1
        if manifest.v1_name and manifest.v1_name != manifest.key.name:
            notice(f"{manifest.v1_kind} '{manifest.v1_name}' is stored as {manifest.key.kind} '{manifest.key.name}'")
    return outcome


def finish(outcome: Outcome, *, dry_run: bool = False) -> None:
    """Prints the result, which a dry run has not. Raises CommandError when something failed."""
    if outcome.errors:
        raise CommandError(outcome.failure())
    if not dry_run:
        click.echo(outcome.success())
