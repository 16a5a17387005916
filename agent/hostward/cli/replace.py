"""`hostward replace`: updates what manifests describe and is there. Runs in the main thread."""

from __future__ import annotations

from typing import Any

import click

from hostward.cli.options import writing_options
from hostward.cli.write import replace
from hostward.cli.writing import run


@click.command("replace", short_help="Replace resources by those of manifests.")
@writing_options
def command(**options: Any) -> None:
    """Replace stored resources by those of manifests, v3 or v1, YAML or JSON. What is not there yet is an error.

    Nothing is written if any document of the files is invalid.
    """
    run(("replace", "replaced"), replace, **options)
