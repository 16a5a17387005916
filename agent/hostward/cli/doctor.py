"""`hostward doctor`: looks at this host and says what would keep an agent from its work. Reads only; needs no agent."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable

import click
import msgspec

from hostward.cli.environment import ENV_FILE, complete
from hostward.model.findings import Finding


@click.command(name="doctor", help="Check this host: what the agent needs, who else filters packets, what would be cut off.")
@click.option("--datastore", metavar="URL", help="etcd or dir:PATH; default: as the agent's environment says.")
@click.option(
    "--env-file", metavar="FILE", default=ENV_FILE, show_default=True, help="The agent's environment, under this one's."
)
@click.option("-o", "--output", type=click.Choice(["json"]), help="Print JSON instead of a table.")
def command(datastore: str | None, env_file: str, output: str | None) -> None:
    """Exit 1 when any check fails."""
    from hostward.cli.checkups import checkups  # noqa: PLC0415 # heavy imports only when they are needed
    from hostward.dataplane.privileges import take_up  # noqa: PLC0415 # the same

    take_up()
    environ = dict(os.environ)
    complete(environ, env_file)
    found = list(checkups(environ, datastore or environ.get("HOSTWARD_DATASTORE") or "etcd"))
    if output == "json":
        click.echo(json.dumps([msgspec.to_builtins(finding) for finding in found], indent=2))
    else:
        click.echo("\n".join(table(found)))
    sys.exit(1 if any(finding.level == "fail" for finding in found) else 0)


def table(found: Iterable[Finding]) -> list[str]:
    """Findings for people: one line each, what to do on a line of its own."""
    lines = []
    for finding in found:
        lines.append(f"{finding.level:<5} {finding.check:<28} {_clean(finding.finding)}")
        if finding.do and finding.level != "ok":
            lines.append(f"{'':<5} {'':<28} → {_clean(finding.do)}")
    return lines


def _clean(text: str) -> str:
    """A text from the kernel or the datastore, without what could write to the operator's terminal."""
    return text if text.isprintable() else ascii(text)[1:-1]
