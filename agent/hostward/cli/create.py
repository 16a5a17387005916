"""`hostward create`: creates what manifests describe and is not there yet. Runs in the main thread."""

from __future__ import annotations

from typing import Any

import click

from hostward.cli.options import writing_options
from hostward.cli.write import create
from hostward.cli.writing import run
from hostward.datastore.store import AlreadyExistsError


@click.command("create", short_help="Create resources from manifests.")
@click.option("--skip-exists", is_flag=True, help="What is there already stays as it is, and counts as created.")
@writing_options
def command(*, skip_exists: bool, **options: Any) -> None:
    """Create the resources of manifests, v3 or v1, YAML or JSON. What is there already is an error.

    Nothing is written if any document of the files is invalid.
    """
    run(("create", "created"), create, skips=(AlreadyExistsError,) if skip_exists else (), **options)
