"""The rules on disk follow those in force: soon, not at every change, and never half."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hostward.dataplane.saved_rules import FILE, read
from hostward.engine.keeper import Keeper
from hostward.render.ruleset import Jump, Rule, Ruleset, Table, TableId

WITHIN = 30.0


def ruleset(number: int) -> Ruleset:
    return Ruleset({TableId(4, "filter"): Table({"hw-x": (Rule((), Jump("hw-y"), f"number-{number}"),), "hw-y": ()}, {})})


def kept(directory: Path) -> int:
    """The number of the ruleset on disk, 0 for none."""
    try:
        script = read((directory / FILE).read_bytes()).families[4].scripts["filter"]
    except FileNotFoundError:
        return 0
    return int(script.partition("number-")[2].split()[0].strip('"'))


@contextmanager
def running(keeper: Keeper) -> Iterator[threading.Event]:
    stop = threading.Event()
    thread = threading.Thread(target=keeper.run, args=(stop,))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        keeper.nudge()
        thread.join(WITHIN)
        assert not thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_in_force_is_kept_soon(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, quiet=0.05)
    with running(keeper):
        for number in (1, 2):
            keeper.offer(number, ruleset(number))
            until(lambda number=number: kept(tmp_path) == number)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert read((tmp_path / FILE).read_bytes()).origin.startswith("revision 2 of 20")


def test_what_comes_while_another_is_written_waits_for_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper(tmp_path, quiet=0.05)
    write = keeper._write

    def meanwhile(*arguments: Any) -> int:
        size = write(*arguments)
        if kept(tmp_path) == 1:
            keeper.offer(2, ruleset(2))
        return size

    monkeypatch.setattr(keeper, "_write", meanwhile)
    with running(keeper):
        keeper.offer(1, ruleset(1))
        until(lambda: kept(tmp_path) == 2)


def test_changes_in_quick_succession_are_written_together(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, quiet=WITHIN, latest=WITHIN)
    with running(keeper):
        for number in range(1, 200):
            keeper.offer(number, ruleset(number))
        time.sleep(0.1)
        assert kept(tmp_path) == 0
    assert kept(tmp_path) == 0, "the end is the main thread's"
    keeper.finish()
    assert kept(tmp_path) == 199


def test_changes_without_a_pause_are_written_in_the_end(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, quiet=WITHIN, latest=0.3)
    with running(keeper):
        number = 0
        while kept(tmp_path) == 0:
            keeper.offer(number := number + 1, ruleset(number))
            assert number < WITHIN / 0.01
            time.sleep(0.01)


def test_what_is_kept_already_is_not_written_again(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, quiet=0)
    same = ruleset(1)
    with running(keeper):
        keeper.offer(1, same)
        until(lambda: kept(tmp_path) == 1)
        (tmp_path / FILE).unlink()
        keeper.offer(2, same)
        time.sleep(0.1)
    keeper.finish()
    assert kept(tmp_path) == 0


def test_a_file_that_cannot_be_written_leaves_the_last_one_and_is_tried_again(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, quiet=0, latest=0.05)
    with running(keeper):
        keeper.offer(1, ruleset(1))
        until(lambda: kept(tmp_path) == 1)
        in_the_way = tmp_path / f".{FILE}.tmp"
        in_the_way.mkdir()
        keeper.offer(2, ruleset(2))
        time.sleep(0.2)
        assert kept(tmp_path) == 1
        in_the_way.rmdir()
        until(lambda: kept(tmp_path) == 2)


def test_rules_that_have_no_text_leave_the_last_ones(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    keeper.offer(1, ruleset(1))
    keeper.finish()
    keeper.offer(2, Ruleset({TableId(4, "filter"): Table({"hw-x": (Rule((), Jump("hw-y"), "a\nb"),)}, {})}))
    keeper.finish()
    assert kept(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole")
    (tmp_path / f".{FILE}.tmp").symlink_to(victim)
    (tmp_path / FILE).symlink_to(victim)
    keeper = Keeper(tmp_path)
    keeper.offer(1, ruleset(1))
    keeper.finish()
    assert victim.read_text() == "whole"
