"""`hostward apply`: creates or updates what manifests describe. Runs in the main thread."""

from __future__ import annotations

from typing import Any

import click

from hostward.cli.options import writing_options
from hostward.cli.write import apply
from hostward.cli.writing import run


@click.command("apply", short_help="Create or update resources from manifests.")
@writing_options
def command(**options: Any) -> None:
    """Create or update the resources of manifests, v3 or v1, YAML or JSON.

    Nothing is written if any document of the files is invalid.
    """
    run(("apply", "applied"), apply, **options)
