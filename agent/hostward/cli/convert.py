"""`hostward convert`: prints documents of v1 and of Kubernetes as v3; needs no datastore. Runs in the main thread."""

from __future__ import annotations

import click

from hostward.cli.failures import CommandError, notice
from hostward.cli.manifests import load, read
from hostward.cli.options import calicoctl_options
from hostward.cli.output import Named, render
from hostward.convert.defaults import exported


@click.command("convert", short_help="Print documents of v1 and Kubernetes as v3.")
@click.option("-f", "--filename", "files", metavar="FILE", multiple=True, help="A manifest, a directory, or - for stdin.")
@click.option("-R", "--recursive", is_flag=True, help="Also the directories inside a directory.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@click.option("--ignore-validation", is_flag=True, help="Print also what is converted and not valid.")
@click.option("-c", "--config", hidden=True, expose_value=False)
@calicoctl_options
def command(files: tuple[str, ...], recursive: bool, output: str, ignore_validation: bool) -> None:
    """Print the documents of files as v3: v1 and Kubernetes converted. One is an object, several are a sequence."""
    if not files:
        raise click.UsageError("Missing option '-f' / '--filename'.")
    if ignore_validation:
        found = read(files, None, recursive=recursive, judges=False)
        if found.wrong:
            raise CommandError("\n".join(["failed to execute command:", *map(str, found.wrong)]))
        manifests = found.manifests
        if not manifests:
            raise CommandError(f"failed to execute command: no resources specified in {', '.join(files)}")
    else:
        manifests = load(files, None, recursive=recursive)
    for one in manifests:
        if one.v1_name and one.v1_name != one.key.name:
            notice(f"{one.v1_kind} '{one.v1_name}' becomes {one.key.kind} '{one.key.name}'")
    click.echo(render(Named([exported(one.document) for one in manifests], len(manifests) > 1), output), nl=False)
