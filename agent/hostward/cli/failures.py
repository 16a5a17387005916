"""How a command ends when it can't do what was asked: the text for the operator and the exit code. Any thread."""

from __future__ import annotations

import click

FAILURE = 1
USAGE = 2


class CommandError(click.ClickException):
    """The command failed; the text is printed on stderr as it is. Exit code 1."""

    exit_code = FAILURE

    def show(self, file: object = None) -> None:  # noqa: ARG002 # click's own signature
        """Prints the text without click's "Error: "."""
        click.echo(self.message, err=True)


def notice(text: str) -> None:
    """A message for the operator; never part of a command's result."""
    click.echo(text, err=True)
