"""The way into a datastore, by its URL: `etcd`, or `dir:PATH`; as a feed for the agent, as a store for commands. Any thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from hostward.datastore.connection import Connection, SettingsError, from_environment
from hostward.datastore.feed import Feed
from hostward.datastore.store import Store

DEFAULT_CONFIG: Final = Path("/etc/calico/calicoctl.cfg")


def _directory(datastore_url: str) -> Path | None:
    if datastore_url.startswith("dir:"):
        if path := datastore_url.removeprefix("dir:"):
            return Path(path)
    elif datastore_url == "etcd":
        return None
    raise SettingsError(f'datastore "{datastore_url}" is not known; write "etcd" or "dir:PATH"')


def open_feed(
    datastore_url: str,
    environ: Mapping[str, str],
    problem: Callable[[str, str], None] | None = None,
    cache: Path | None = None,
) -> Feed:
    """The feed of `etcd` (settings from the environment) or `dir:PATH`. SettingsError.

    Of a directory, `problem(path, text)` is told of manifests that can't be used ("" once they can), and `cache` keeps the last
    good text of each over a restart.
    """
    # Imported late: whoever uses a directory needs neither gRPC nor protobuf.
    if path := _directory(datastore_url):
        from hostward.datastore.directory.feed import DirFeed  # noqa: PLC0415 # as above

        return DirFeed(path, problem=problem, cache=cache)
    from hostward.datastore.etcd.feed import EtcdFeed  # noqa: PLC0415 # as above

    return EtcdFeed(from_environment(environ))


def open_store(
    datastore_url: str,
    config_path: Path | None,
    explicit: bool,
    environ: Mapping[str, str],
    notice: Callable[[str], None] | None = None,
) -> Store:
    """The store of `etcd` or `dir:PATH`; opens no connection yet. SettingsError.

    A config file wins whole over the environment; one that isn't there is an error only if the user named it (`explicit`).
    `notice` is told what the operator should know about settings that work.
    """

    def configured() -> Connection:
        connection = _configured(config_path or DEFAULT_CONFIG, explicit) or from_environment(environ)
        for text in connection.notices if notice else ():
            notice(text)  # type: ignore[misc] # the loop is empty without it
        return connection

    return _store(datastore_url, configured)


def open_agents_store(datastore_url: str, environ: Mapping[str, str]) -> Store:
    """The store as an agent with this environment reaches it, which knows no calicoctl.cfg. SettingsError."""
    return _store(datastore_url, lambda: from_environment(environ))


def _store(datastore_url: str, connection: Callable[[], Connection]) -> Store:
    if path := _directory(datastore_url):
        from hostward.datastore.directory.store import DirStore  # noqa: PLC0415 # as in open_feed

        return DirStore(path)
    from hostward.datastore.etcd.store import EtcdStore  # noqa: PLC0415 # as in open_feed

    return EtcdStore(connection())


def _configured(path: Path, explicit: bool) -> Connection | None:
    from hostward.datastore.config_file import from_config_file  # noqa: PLC0415 # as in open_feed: it reads YAML

    try:
        text = path.read_bytes()
    except OSError as error:
        if explicit or not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise SettingsError(f"Error reading config file: {path}: {error.strerror}") from error
        return None
    return from_config_file(text, str(path))
