"""What the agent remembers over a restart: the last understood value of every resource, and the cluster that it trusts.

An SQLite file in `stateDir`, written when a batch is in force. A memory that can't be read or written is reported and done
without: enforcement goes on. Engine thread only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from hostward.report.logs import get_logger

log = get_logger()
FILE: Final = "memory.db"
_VERSION: Final = 1
_SCHEMA = f"""
create table if not exists understood (key text primary key, value blob not null) without rowid;
create table if not exists facts (name text primary key, value text not null) without rowid;
pragma user_version = {_VERSION};
"""
_WORLDLY: Final = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM,
)  # fmt: skip # one thought
"""Errors that say nothing about the file's content."""


class _OtherVersionError(Exception):
    """The file isn't what this version writes."""


class Memory:
    """The file's content, read when opened. `understood` maps datastore keys to the JSON that was last wholly understood."""

    def __init__(self, directory: Path) -> None:
        self.understood: dict[str, bytes] = {}
        self.facts: dict[str, str] = {}
        self._path = directory / FILE
        self._db: sqlite3.Connection | None = None
        self._behind = False  # the file lacks something that is known, beside what is unwritten
        self._unwritten: dict[str, bytes | None] = {}
        try:
            self._open(f"{self._path.absolute().as_uri()}?mode=rwc")
        except _OtherVersionError as error:
            self._start_anew(error)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _WORLDLY:
                self._only_read(error)
            else:
                self._start_anew(error)

    def _open(self, uri: str, *, write: bool = True) -> None:
        self._db = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
        (version,) = self._db.execute("pragma user_version").fetchone()
        if version not in (0, _VERSION):
            raise _OtherVersionError(f"it is of version {version}, this agent knows {_VERSION}")
        if write:
            with suppress(OSError):
                self._path.chmod(0o600)
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=normal")
            self._db.execute("pragma cache_size=-256")  # KiB: it is written row by row, and read once
            self._db.executescript(_SCHEMA)
        understood = self._db.execute("select key, value from understood").fetchall()
        facts = self._db.execute("select name, value from facts").fetchall()
        if not all(isinstance(value, bytes) for _, value in understood):
            raise _OtherVersionError("it holds values that no agent writes")
        self.understood = {str(key): value for key, value in understood}
        self.facts = {str(name): str(value) for name, value in facts}

    def _only_read(self, error: sqlite3.DatabaseError) -> None:
        """A disk that is full, read-only or busy is no reason to forget what is on it."""
        self.close()
        try:
            self._open(f"{self._path.absolute().as_uri()}?mode=ro&immutable=1", write=False)
        except (_OtherVersionError, sqlite3.Error):
            log.error("no memory over restarts", file=str(self._path), error=str(error))
        else:
            log.error("memory can be read but not written", file=str(self._path), error=str(error))
        self.close()

    def _start_anew(self, error: Exception) -> None:
        log.error("memory unreadable, starting a new one", file=str(self._path), error=str(error))
        self.close()
        try:
            self._path.rename(self._path.with_suffix(".broken"))
            for suffix in ("-wal", "-shm"):
                self._path.with_name(FILE + suffix).unlink(missing_ok=True)
            self._open(f"{self._path.absolute().as_uri()}?mode=rwc")
        except (OSError, sqlite3.Error, _OtherVersionError) as again:
            log.error("no memory over restarts", file=str(self._path), error=str(again))
            self.close()

    def remember(self, changes: Mapping[str, bytes | None]) -> None:
        """Takes new understood values; None forgets. `write` puts them into the file."""
        for key, value in changes.items():
            if value is None:
                self.understood.pop(key, None)
            else:
                self.understood[key] = value
        self._unwritten.update(changes)

    def write(self) -> None:
        """Writes what was remembered since the last time."""
        changes, self._unwritten = self._unwritten, {}
        if changes:
            self._write(
                [("delete from understood where key = ?", (key,)) for key, value in changes.items() if value is None]
                + [("insert or replace into understood values (?, ?)", (k, v)) for k, v in changes.items() if v is not None]
            )

    def note(self, name: str, value: str) -> None:
        """Keeps a fact, such as the cluster's GUID."""
        self.facts[name] = value
        self._write([("insert or replace into facts values (?, ?)", (name, value))])

    def _write(self, statements: list[tuple[str, tuple[str | bytes, ...]]]) -> None:
        if self._db is None:
            return
        if self._behind:  # an earlier write failed: everything
            statements = [("delete from understood", ()), ("delete from facts", ())]
            statements += [("insert into understood values (?, ?)", item) for item in self.understood.items()]
            statements += [("insert into facts values (?, ?)", item) for item in self.facts.items()]
        try:
            self._db.execute("begin")
            for statement, values in statements:
                self._db.execute(statement, values)
            self._db.execute("commit")
        except (sqlite3.Error, UnicodeEncodeError) as error:
            with suppress(sqlite3.Error):
                self._db.execute("rollback")
            self._behind = True
            log.warning("memory not written", file=str(self._path), error=str(error))
        else:
            self._behind = False

    def close(self) -> None:
        """Writes what is left, and closes the file."""
        self.write()
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None
