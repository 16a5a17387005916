"""`hostward get`: prints resources. Runs in the main thread."""

from __future__ import annotations

import click

from hostward.cli import lookup
from hostward.cli.failures import CommandError
from hostward.cli.options import datastore_options, manifest_options, opened
from hostward.cli.output import FORMATS, Listing, Named, render
from hostward.cli.targets import Target, by_file, by_name, kinds_of, resolve
from hostward.convert.defaults import shown
from hostward.datastore.store import Found, NotFoundError, Store, StoreError
from hostward.model.keys import KINDS


@click.command("get", short_help="Print resources.")
@click.argument("kind", required=False)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-o", "--output", default="ps", metavar="FORMAT", help="ps (the default), wide, yaml or json.")
@click.option("-A", "-a", "--all-namespaces", is_flag=True, help="Namespaced kinds of all namespaces.")
@manifest_options
@datastore_options
def command(
    *,
    kind: str | None,
    names: tuple[str, ...],
    output: str,
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
    if output not in FORMATS:
        raise click.UsageError(f"unrecognized output format '{output}'; known are {', '.join(FORMATS)}")
    if all_namespaces and (namespace or names or files):
        raise click.UsageError("-A can't be given with a namespace, a name or a file.")
    shows_namespace = bool(namespace) or all_namespaces
    if kind and not names:
        kinds = kinds_of(kind, namespace)
        if all_namespaces and not KINDS[kinds[-1]].namespaced:
            raise CommandError(f"failed to execute command: {kinds[0]} lives in no namespace, so -A can't be meant for it")
        everywhere = all_namespaces or len(kinds) > 1
        with opened(config, datastore) as store:
            _print(_all(store, kinds, None if everywhere else namespace or "default", shows_namespace), output)
        return
    targets = by_name(kind, names, namespace) if kind else by_file(files, namespace, recursive=recursive)
    with opened(config, datastore) as store:
        _print_named(store, targets, output, shows_namespace)


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


def _print(found: list[Listing] | Named, output: str) -> None:
    click.echo(render(found, output), nl=False)


def _print_named(store: Store, targets: list[Target], output: str, shows_namespace: bool) -> None:
    """Prints what is there; what is not is an error at the end (C.3)."""
    documents, errors = [], []
    for target in targets:
        try:
            documents.append(_shown(resolve(store, target)))
        except StoreError as error:
            errors.append(str(error))
            if not isinstance(error, NotFoundError | lookup.AmbiguousError):
                break
    if documents:
        _print(Named(documents, len(targets) > 1, shows_namespace), output)
    if errors:
        raise CommandError("\n".join(errors))
