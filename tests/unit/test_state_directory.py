"""What the agent keeps in `stateDir`: never in the way of enforcement, and never forgotten for want of a writable disk."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from hostward.engine.memory import FILE, Memory
from hostward.report.agent_lock import NAME, AgentLock, AgentRunsError

KNOWN = {"a": b"1", "b": b"\xff"}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    memory = Memory(tmp_path)
    memory.remember({**KNOWN, "gone": b"x"})
    memory.remember({"gone": None})
    memory.note("clusterGUID", "g")
    memory.close()
    return tmp_path


def content(directory: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    memory = Memory(directory)
    memory.close()
    return memory.understood, memory.facts


def tampered(directory: Path, statement: str) -> None:
    with sqlite3.connect(directory / FILE) as db:
        db.execute(statement)
    db.close()


def test_what_is_remembered_is_there_again_for_root_alone(kept: Path) -> None:
    assert content(kept) == (KNOWN, {"clusterGUID": "g"})
    assert (kept / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "statement",
    [
        "pragma user_version = 99",
        "insert into understood values ('c', 'text, not bytes')",
        "insert into understood values ('c', 10000000000000)",
        "insert into understood values (cast(x'ff' as text), x'00')",
        "alter table understood rename column value to other",
    ],
)
def test_another_version_is_put_aside(kept: Path, statement: str) -> None:
    tampered(kept, statement)
    assert content(kept) == ({}, {})
    assert (kept / "memory.broken").exists()
    memory = Memory(kept)
    memory.remember(KNOWN)
    memory.close()
    assert content(kept) == (KNOWN, {})


@pytest.mark.parametrize("damage", [b"", b"no database at all", None])
def test_a_damaged_file_is_put_aside(kept: Path, damage: bytes | None) -> None:
    whole = (kept / FILE).read_bytes()
    (kept / FILE).write_bytes(whole[:4096] + os.urandom(len(whole) - 4096) if damage is None else damage)
    assert content(kept) == ({}, {})
    memory = Memory(kept)
    memory.remember(KNOWN)
    memory.close()
    assert content(kept) == (KNOWN, {})


def test_a_busy_file_is_read_and_stays(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "connect", _impatient(sqlite3.connect))
    other = sqlite3.connect(kept / FILE, isolation_level=None)
    other.execute("pragma locking_mode=exclusive")
    other.execute("begin exclusive")
    other.execute("insert into facts values ('x', 'y')")
    found = content(kept)
    other.execute("rollback")
    other.close()
    assert found == (KNOWN, {"clusterGUID": "g"})
    assert not (kept / "memory.broken").exists()


def _impatient(connect):  # type: ignore[no-untyped-def] # sqlite3's own
    return lambda *arguments, **named: connect(*arguments, **{**named, "timeout": 0.05})


def test_what_could_not_be_written_is_written_with_the_next(kept: Path) -> None:
    memory = Memory(kept)
    assert memory._db is not None
    memory._db.execute("pragma query_only = 1")
    memory.remember({"late": b"2"})
    memory.write()
    memory.note("other", "fact")
    memory._db.execute("pragma query_only = 0")
    memory.remember({"c": b"3"})
    memory.close()
    assert content(kept) == ({**KNOWN, "late": b"2", "c": b"3"}, {"clusterGUID": "g", "other": "fact"})


def test_what_is_remembered_is_kept_once_it_is_written(kept: Path) -> None:
    memory = Memory(kept)
    memory.remember({"late": b"2", "a": None})
    assert memory.understood == {"b": KNOWN["b"], "late": b"2"}
    assert content(kept) == (KNOWN, {"clusterGUID": "g"})
    memory.remember({"late": b"3"})
    memory.write()
    assert content(kept) == ({"b": KNOWN["b"], "late": b"3"}, {"clusterGUID": "g"})
    memory.close()


def test_without_a_directory_there_is_no_memory_and_no_error(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "missing")
    memory.remember(KNOWN)
    assert memory.understood == KNOWN
    memory.close()


def test_nobody_gets_in_by_a_lock_that_was_removed(tmp_path: Path) -> None:
    """`hostward cleanup` removes the file while it holds it; who waited for it must not hold a file without a name."""
    first = AgentLock(str(tmp_path))
    waited: list[AgentLock] = []
    waiter = threading.Thread(target=lambda: waited.append(AgentLock(str(tmp_path), patience=5)))
    waiter.start()
    (tmp_path / NAME).unlink()
    first.release()
    waiter.join(10)
    with pytest.raises(AgentRunsError):
        AgentLock(str(tmp_path), patience=0.1)
    waited[0].release()


def test_a_lock_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        AgentLock(str(tmp_path))
    assert not (tmp_path / "elsewhere").exists()
