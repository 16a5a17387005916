"""What the agent remembers over a restart: the last understood value of every resource, and the cluster that it trusts.

An SQLite file in `stateDir`, written after each batch. A memory that can't be read or written is reported and done without:
enforcement goes on. Engine thread only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from hostward.report.logs import get_logger

log = get_logger()
FILE: Final = "memory.db"
_SCHEMA = """
create table if not exists understood (key text primary key, value blob not null) without rowid;
create table if not exists facts (name text primary key, value text not null) without rowid;
"""


class Memory:
    """The file's content, read when opened. `understood` maps datastore keys to the JSON that was last wholly understood."""

    def __init__(self, directory: Path) -> None:
        self.understood: dict[str, bytes] = {}
        self.facts: dict[str, str] = {}
        self._path = directory / FILE
        self._db: sqlite3.Connection | None = None
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            log.error("memory unreadable, starting a new one", file=str(self._path), error=str(error))
            self.close()
            self._start_anew()

    def _open(self) -> None:
        self._db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=normal")
        self._db.executescript(_SCHEMA)
        self.understood = {str(key): bytes(value) for key, value in self._db.execute("select key, value from understood")}
        self.facts = {str(name): str(value) for name, value in self._db.execute("select name, value from facts")}

    def _start_anew(self) -> None:
        try:
            self._path.rename(self._path.with_suffix(".broken"))
            self._open()
        except (OSError, sqlite3.Error) as error:
            log.error("no memory over restarts", file=str(self._path), error=str(error))
            self.close()

    def remember(self, changes: Mapping[str, bytes | None]) -> None:
        """Takes new understood values; None forgets."""
        for key, value in changes.items():
            if value is None:
                self.understood.pop(key, None)
            else:
                self.understood[key] = value
        self._write(
            [("delete from understood where key = ?", (key,)) for key, value in changes.items() if value is None]
            + [("insert or replace into understood values (?, ?)", (k, v)) for k, v in changes.items() if v is not None]
        )

    def note(self, name: str, value: str) -> None:
        """Keeps a fact, such as the cluster's GUID."""
        self.facts[name] = value
        self._write([("insert or replace into facts values (?, ?)", (name, value))])

    def _write(self, statements: Iterable[tuple[str, tuple[str | bytes | None, ...]]]) -> None:
        if self._db is None:
            return
        try:
            self._db.execute("begin")
            for statement, values in statements:
                self._db.execute(statement, values)
            self._db.execute("commit")
        except (sqlite3.Error, UnicodeEncodeError) as error:
            with suppress(sqlite3.Error):
                self._db.execute("rollback")
            log.warning("memory not written", file=str(self._path), error=str(error))

    def close(self) -> None:
        """Closes the file."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None
