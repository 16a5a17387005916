"""Options that several commands share, and the datastore that they name (`statements.md` C.3).

The commands' own thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hostward.cli.failures import CommandError, notice

if TYPE_CHECKING:
    from hostward.datastore.store import Store

DATASTORE_VARIABLE = "HOSTWARD_DATASTORE"
VALUE_OPTIONS = frozenset(
    (
        *("-c", "--config", "--datastore", "-n", "--namespace", "-o", "--output", "-f", "--filename"),
        *("-l", "--log-level", "--context", "-p", "--patch", "-t", "--type", "--poll"),
    )
)
"""Options with a value that may stand before the verb."""

_GUID_TO_COME = "(random, made when it is written)"

_RENAMED = (
    "warning: resources are stored, but no ClusterInformation: it is made anew, with another clusterGUID; agents that trust "
    "the one before keep the rules that they have, until their setting clusterGUID names it (docs/runbooks/HostwardFrozen.md)"
)

_LEVELS = ("panic", "fatal", "error", "warn", "warning", "info", "debug")

F = TypeVar("F", bound=Callable[..., Any])


def _check_level(_context: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value is not None and value.lower() not in _LEVELS:
        raise CommandError(f"unknown log level '{value}', expected one of: {', '.join(_LEVELS)}")


def calicoctl_options(function: F) -> F:
    """What calicoctl takes with every command and scripts may give; checked, and without effect here."""
    function = click.option(
        "-l",
        "--log-level",
        metavar="LEVEL",
        callback=_check_level,
        expose_value=False,
        help="Taken for calicoctl's sake; commands write no log.",
    )(function)
    function = click.option("--context", hidden=True, expose_value=False)(function)
    return click.option("--allow-version-mismatch", is_flag=True, hidden=True, expose_value=False)(function)


def datastore_options(function: F) -> F:
    """--config and --datastore, and what calicoctl takes everywhere."""
    function = calicoctl_options(function)
    function = click.option("-c", "--config", metavar="FILE", help="A calicoctl.cfg of either generation.")(function)
    return click.option("--datastore", metavar="URL", help=f"etcd (the default) or dir:PATH; else ${DATASTORE_VARIABLE}.")(
        function
    )


def manifest_options(function: F) -> F:
    """-f, -R and -n."""
    function = click.option(
        "-f",
        "--filename",
        "files",
        metavar="FILE",
        multiple=True,
        help="A manifest, a directory of them, or - for stdin. Repeatable.",
    )(function)
    function = click.option("-R", "--recursive", is_flag=True, help="Also the directories inside a directory.")(function)
    return namespace_option(function)


def writing_options(function: F) -> F:
    """Those of `apply`, `create` and `replace`."""
    function = click.option("--skip-empty", is_flag=True, help="Files without any resource are no error.")(function)
    return manifest_options(datastore_options(dry_run_option(function)))


def dry_run_option(function: F) -> F:
    """--dry-run."""
    return click.option("--dry-run", is_flag=True, help="Print what would change, as a diff; write nothing.")(function)


def namespace_option(function: F) -> F:
    """-n."""
    return click.option("-n", "--namespace", metavar="NAME", help="The namespace of namespaced kinds; default: default.")(
        function
    )


def _url(datastore: str | None) -> str:
    return datastore or os.environ.get(DATASTORE_VARIABLE) or "etcd"


@contextmanager
def opened(config: str | None, datastore: str | None, *, writes: bool = False) -> Iterator[Store]:
    """The store that the options and the environment name; closed at the end. With `writes` an empty etcd is initialised (A.6).

    Raises CommandError when the settings are wrong.
    """
    # Imported here: `hostward version` and usage errors need no datastore.
    from hostward.datastore.connection import SettingsError  # noqa: PLC0415 # as above
    from hostward.datastore.opening import open_store  # noqa: PLC0415 # as above

    url = _url(datastore)
    try:
        store = open_store(url, Path(config) if config else None, config is not None, os.environ, notice)
    except SettingsError as error:
        text = str(error)
        if not text.startswith("Error reading config file"):
            text = f"failed to create Calico API client: {text}"
        raise CommandError(text) from error
    try:
        if writes and url == "etcd":
            _initialise(store)
        yield store
    finally:
        store.close()


@contextmanager
def opened_to_write(config: str | None, datastore: str | None, *, dry_run: bool, initialises: bool = True) -> Iterator[Store]:
    """The store as `opened`; with `dry_run` one that writes nothing and prints at the end what it would change."""
    if not dry_run:
        with opened(config, datastore, writes=initialises) as store:
            yield store
        return
    from hostward.cli import difference  # noqa: PLC0415 # only a dry run needs them
    from hostward.cli.rehearsal import Rehearsal  # noqa: PLC0415 # as above

    with opened(config, datastore) as store:
        rehearsal = Rehearsal(store)
        if initialises and _url(datastore) == "etcd":
            _initialise(rehearsal, _GUID_TO_COME)
        yield rehearsal
    changes = rehearsal.changes()
    click.echo(difference.difference(changes), nl=False)
    notice(difference.summary(changes))


def _initialise(store: Store, guid: str = "") -> None:
    from hostward.datastore.initialise import initialise  # noqa: PLC0415 # as in `opened`
    from hostward.datastore.store import StoreError  # noqa: PLC0415 # as in `opened`

    try:
        if initialise(store, guid):
            notice(_RENAMED)
    except StoreError as error:
        # As calicoctl does, go on: the write itself may be allowed where this is not, and says so better when it isn't.
        notice(f"warning: the datastore could not be initialised: {error}")
