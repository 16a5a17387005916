"""`hostward label`: adds, changes or removes a label of one stored resource. Runs in the main thread."""

from __future__ import annotations

import click

from hostward.cli import edits, lockout
from hostward.cli.completion import complete_kind
from hostward.cli.failures import CommandError, notice
from hostward.cli.options import datastore_options, dry_run_option, namespace_option, opened_to_write
from hostward.cli.targets import by_name, resolve
from hostward.cli.write import edit
from hostward.convert import names
from hostward.datastore.store import Document, Found, StoreError

_DONE = {"set": "Successfully set label {} on {}", "updated": "Successfully updated label {} on {}"}


@click.command("label", short_help="Add, change or remove a label of a resource.")
@click.argument("kind", shell_complete=complete_kind)
@click.argument("name")
@click.argument("label", metavar="KEY=VALUE|KEY")
@click.option("--overwrite", is_flag=True, help="Change a label that has another value.")
@click.option("--remove", is_flag=True, help="Remove the label KEY.")
@namespace_option
@datastore_options
@dry_run_option
def command(
    *,
    kind: str,
    name: str,
    label: str,
    overwrite: bool,
    remove: bool,
    namespace: str | None,
    config: str | None,
    datastore: str | None,
    dry_run: bool,
) -> None:
    """Put the label KEY=VALUE on the resource KIND NAME, or take KEY off it with --remove."""
    label_name, value = _parsed(label, remove=remove)
    target = by_name(kind, [name], namespace)[0]
    done = ""

    def change(found: Found) -> Document:
        nonlocal done
        document, done = edits.labelled(found, label_name, value, overwrite=overwrite)
        lockout.warn(store, {found.key: document}, notice)
        return document

    with opened_to_write(config, datastore, dry_run=dry_run, initialises=False) as store:
        try:
            key = edit(store, lambda: resolve(store, target), change, "label", notice)
        except StoreError as error:
            raise CommandError(f"failed to label '{target.kinds[0]}' resource: [{error}]") from error
    if not dry_run:
        what = f"{key.kind} {name}"
        click.echo(
            _DONE[done].format(label_name, what)
            if value is not None
            else f"Successfully removed label {label_name} from {what}"
        )


def _parsed(label: str, *, remove: bool) -> tuple[str, str | None]:
    name, equals, value = label.partition("=")
    reason = names.wrong_label_key(name) or (names.wrong_label_value(value) if not remove else None)
    if reason or bool(equals) == remove:
        expected = "KEY with --remove" if remove else "KEY=VALUE"
        raise CommandError(f"invalid label {label}: {reason or f'expected {expected}'}")
    return name, None if remove else value
