"""`hostward validate`: checks manifests without a datastore, and warns about what is legal but probably wrong.

Runs in the main thread.
"""

from __future__ import annotations

import json
from typing import Any

import click

from hostward.cli.failures import FAILURE, CommandError, notice
from hostward.cli.manifests import Files, Finding, read
from hostward.cli.options import calicoctl_options, manifest_options
from hostward.cli.results import Outcome
from hostward.convert import lint


@click.command("validate", short_help="Check manifests without a datastore.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="Print JSON instead of text.")
@click.option("--strict", is_flag=True, help="Warnings fail, too.")
@click.option("--skip-empty", is_flag=True, help="Files without any resource are no error.")
@click.option("-c", "--config", hidden=True, expose_value=False)
@manifest_options
@calicoctl_options
def command(
    *, output: str | None, strict: bool, skip_empty: bool, files: tuple[str, ...], recursive: bool, namespace: str | None
) -> None:
    """Check the documents of files: all errors with file, line, document and field, and warnings.

    Nothing is asked of a datastore, so whether a tier or a profile is there is not checked. Exit 1 for errors, and with
    --strict for warnings.
    """
    if not files:
        raise click.UsageError("Missing option '-f' / '--filename'.")
    found = read(files, namespace, recursive=recursive)
    empty = not found.manifests and not found.wrong
    if empty and not skip_empty:
        raise CommandError(f"failed to execute command: no resources specified in {', '.join(files)}")
    warned = _warnings(found)
    failed = bool(found.wrong or (strict and warned))
    if output == "json":
        click.echo(json.dumps(_report(found, warned, valid=not failed), indent=2, ensure_ascii=False))
    else:
        _print(found, warned, failed=failed, empty=empty)
    if failed:
        click.get_current_context().exit(FAILURE)


def _warnings(found: Files) -> list[Finding]:
    """What `lint` has to say, with the places in the files."""
    places = [(one.key, one.document) for one in found.manifests]
    warned = []
    for index, path, reason in lint.warnings(places):
        source = found.manifests[index].source
        assert source is not None  # noqa: S101 # what was read from a file has a place
        warned.append(Finding(source.file, source.line(path), source.number, path, reason))
    return warned


def _print(found: Files, warned: list[Finding], *, failed: bool, empty: bool) -> None:
    for finding in warned:
        notice(f"warning: {finding}")
    for finding in found.wrong:
        notice(f"error: {finding}")
    if empty:
        click.echo("No resources specified")
    elif not failed:
        kinds = [one.key.kind for one in found.manifests]
        click.echo(Outcome("validate", "validated", kinds, len(kinds)).success())
    else:
        counts = f"{len(found.wrong)} error(s), {len(warned)} warning(s)"
        notice(f"failed to validate: {counts}; {len(found.manifests)} document(s) are valid")


def _report(found: Files, warned: list[Finding], *, valid: bool) -> dict[str, Any]:
    return {
        "valid": valid,
        "resources": [{"kind": key.kind, "namespace": key.namespace, "name": key.name} for key, *_ in found.manifests],
        "errors": [one._asdict() for one in found.wrong],
        "warnings": [one._asdict() for one in warned],
    }
