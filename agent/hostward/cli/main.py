"""The entry point: finds the verb, imports its module only then, and turns every failure into one message and an exit code.

Exit codes: 0 success, 1 failure, 2 usage, 130 interrupted. Runs in the main thread.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

from hostward.cli.environment import complete
from hostward.cli.failures import FAILURE, USAGE, CommandError, notice
from hostward.cli.options import VALUE_OPTIONS

COMMANDS: Final = {
    "agent": "Guard this host: run the daemon in the foreground.",
    "apply": "Create or update resources from manifests.",
    "boot": "Put the last rules into the kernel before the network is up.",
    "cleanup": "Remove everything of ours from the kernel.",
    "completion": "Print a shell's completion script.",
    "convert": "Print documents of v1 as v3.",
    "create": "Create resources from manifests.",
    "defaults": "Print the default worker policies and host endpoints.",
    "delete": "Remove resources by name or by manifest.",
    "doctor": "Check this host for what an agent needs, and what is in its way.",
    "get": "Print resources.",
    "kube-controller": "Keep etcd equal to what a Kubernetes cluster says.",
    "label": "Add, change or remove a label of a resource.",
    "patch": "Change fields of a resource.",
    "prepare": "As root: ready this host for an agent that isn't.",
    "replace": "Replace resources by those of manifests.",
    "status": "Print what the agent of this host does.",
    "validate": "Check manifests without a datastore.",
    "version": "Print versions.",
}
"""The verbs: each lives in `hostward.cli.<verb>`, with `_` for `-`, as `command`."""

_INTERRUPTED: Final = 130
_SUPERVISED: Final = ("agent", "doctor", "kube-controller")
"""Verbs that have their environment from whoever starts them, or look for the agent's by themselves."""


class _Verbs(click.Group):
    """The verbs, imported when used. Options that belong to a verb may stand before it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 # click's own signature
        """All verbs."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 # click's own signature
        """A verb's command; None for an unknown one."""
        if cmd_name not in COMMANDS:
            return None
        module = f"hostward.cli.{cmd_name.replace('-', '_')}"
        try:
            command = import_module(module).command
        except ModuleNotFoundError as error:
            if error.name != module:
                raise CommandError(f"hostward {cmd_name} can't start: {error}; is the installation complete?") from error
            raise CommandError(f"this build has no command {cmd_name!r}") from error
        assert isinstance(command, click.Command)  # noqa: S101 # a module of ours without its command is a bug
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 # click's own
        """The list of verbs, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Moves the verb to the front, so that it gets the options that were given before it."""
        ordered = _verb_first(args)
        if ordered and ordered[0].startswith("-") and not {"-h", "--help"} & set(ordered):
            raise click.UsageError("Missing command.", ctx)
        return super().parse_args(ctx, ordered)


def _verb_first(args: Sequence[str]) -> list[str]:
    takes_value = False
    for index, arg in enumerate(args):
        if takes_value:
            takes_value = False
        elif arg in VALUE_OPTIONS:
            takes_value = True
        elif not arg.startswith("-"):
            return [arg, *args[:index], *args[index + 1 :]]
    return list(args)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Hostward guards hosts with Calico-style policies from etcd or a directory."""
    if ctx.invoked_subcommand not in _SUPERVISED:
        complete(os.environ)


def _hold_standard_files() -> None:
    """Puts /dev/null where the parent closed stdin, stdout or stderr: the next file opened would get what is written there."""
    while (found := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(found, True)
    os.close(found)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115 # stays


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command; its exit code. `args` are without the program's name; default: those of the process."""
    _hold_standard_files()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a test's stream may be simpler
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # as above
    try:
        code = cli.main(args=list(sys.argv[1:] if args is None else args), prog_name="hostward", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except BrokenPipeError:
        # Who read our output has gone; the interpreter must not stumble over it once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except Exception as error:  # noqa: BLE001 # the last resort: users get a sentence, never a traceback
        notice(_bug(error))
        return FAILURE
    return code if isinstance(code, int) else 0


def _bug(error: Exception) -> str:
    """A sentence about an error that nobody expected, with the place that a report needs."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(last.filename)}:{last.lineno}"
    return f"hostward: internal error: {type(error).__name__}: {error} (at {place}); please report it"
