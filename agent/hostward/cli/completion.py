"""`hostward completion`: the script by which a shell completes commands, options and kinds. Runs in the main thread."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from hostward.cli import kinds

_SHELLS: Final = ("bash", "zsh", "fish")
_VARIABLE: Final = "_HOSTWARD_COMPLETE"


def complete_kind(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The words for kinds that begin like this."""
    return [CompletionItem(word) for word in kinds.words() if word.startswith(incomplete.lower())]


@click.command("completion", short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(_SHELLS))
def command(shell: str) -> None:
    """Print the script that completes commands, options, kinds and files.

    For bash: source <(hostward completion bash)
    """
    # The root group itself is not needed: the script calls the program again to complete.
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 # click knows all of _SHELLS
    click.echo(found(click.Group("hostward"), {}, "hostward", _VARIABLE).source())
