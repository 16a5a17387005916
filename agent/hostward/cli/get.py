"""`hostward get`: prints resources. Runs in the main thread."""

from __future__ import annotations

from pathlib import Path

import click

from hostward.cli import lookup
from hostward.cli.completion import complete_kind
from hostward.cli.failures import CommandError, notice
from hostward.cli.options import datastore_options, manifest_options, opened
from hostward.cli.output import Format, FormatError, Listing, Named, parse_format, render
from hostward.cli.targets import Target, by_file, by_name, kinds_of, resolve
from hostward.convert.defaults import exported, shown
from hostward.datastore.store import Found, NotFoundError, Store, StoreError
from hostward.model.keys import KINDS

_FORMAT_HELP = "ps (the default), wide, yaml, json, custom-columns=NAME,..., go-template=TEMPLATE or go-template-file=FILE."


@click.command("get", short_help="Print resources.")
@click.argument("kind", required=False, shell_complete=complete_kind)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-o", "--output", default="ps", metavar="FORMAT", help=_FORMAT_HELP)
@click.option("--export", is_flag=True, help="Without what only this cluster knows; with a NAME or -f.")
@click.option("-A", "-a", "--all-namespaces", is_flag=True, help="Namespaced kinds of all namespaces.")
@manifest_options
@datastore_options
def command(
    *,
    kind: str | None,
    names: tuple[str, ...],
    output: str,
    export: bool,
    all_namespaces: bool,
    files: tuple[str, ...],
    recursive: bool,
    namespace: str | None,
    config: str | None,
    datastore: str | None,
) -> None:
    """Print resources: all of a KIND, those with a NAME, or those that manifests name.

    `policy` means global network policies, then network policies of all namespaces; with -n the network policies of that one.
    """
    if bool(files) == bool(kind):
        raise click.UsageError("Give either KIND [NAME]... or -f FILE.")
    try:
        form = parse_format(output, _template_file)
    except FormatError as error:
        raise click.UsageError(str(error)) from error
    if all_namespaces and (namespace or names or files):
        raise click.UsageError("-A can't be given with a namespace, a name or a file.")
    shows_namespace = bool(namespace) or all_namespaces
    if kind and not names:
        if export:
            notice("--export counts only with a NAME or a file, so it is ignored")
        kinds = kinds_of(kind, namespace)
        if all_namespaces and not KINDS[kinds[-1]].namespaced:
            raise CommandError(f"failed to execute command: {kinds[0]} lives in no namespace, so -A can't be meant for it")
        everywhere = all_namespaces or len(kinds) > 1
        with opened(config, datastore) as store:
            _print(_all(store, kinds, None if everywhere else namespace or "default", shows_namespace), form)
        return
    targets = by_name(kind, names, namespace) if kind else by_file(files, namespace, recursive=recursive)
    with opened(config, datastore) as store:
        _print_named(store, targets, form, shows_namespace, export=export)


def _template_file(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CommandError(f"failed to execute command: {name}: {getattr(error, 'strerror', None) or error}") from error


def _shown(found: Found) -> dict[str, object]:
    revision = str(found.revision) if found.revision != lookup.SYNTHETIC else ""
    return shown(found.key, lookup.real_name(found), found.document, revision)


def _all(store: Store, kinds: tuple[str, ...], namespace: str | None, shows_namespace: bool) -> list[Listing]:
    listings = []
    for kind in kinds:
        namespaced = KINDS[kind].namespaced
        try:
            revision, found = lookup.everything(store, kind, (namespace or "") if namespaced else "")
        except StoreError as error:
            raise CommandError(str(error)) from error
        listings.append(
            Listing(kind, revision, [_shown(one) for one in found], namespaced and (shows_namespace or not namespace))
        )
    return listings


def _print(found: list[Listing] | Named, form: Format) -> None:
    try:
        text = render(found, form)
    except FormatError as error:
        raise CommandError(f"failed to execute command: {error}") from error
    click.echo(text, nl=False)


def _exported(document: dict[str, object]) -> dict[str, object]:
    """As calicoctl does, without the namespace, too (C.3)."""
    copy = exported(document)
    copy["metadata"].pop("namespace", None)
    return copy


def _print_named(store: Store, targets: list[Target], form: Format, shows_namespace: bool, *, export: bool) -> None:
    """Prints what is there; what is not is an error at the end (C.3)."""
    documents, errors = [], []
    for target in targets:
        try:
            document = _shown(resolve(store, target))
            documents.append(_exported(document) if export else document)
        except StoreError as error:
            errors.append(str(error))
            if not isinstance(error, NotFoundError | lookup.AmbiguousError):
                break
    if documents:
        _print(Named(documents, len(targets) > 1, shows_namespace), form)
    if errors:
        raise CommandError("\n".join(errors))
