"""`hostward prepare`: the lock and the state directory belong to the agent's account afterwards, and nothing else changes."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostward.dataplane.prepare import MODULES
from tests.lab.agent import COMMAND, ROOT, clean_environment

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
NOBODY = pwd.getpwnam("nobody")
OWNER = (NOBODY.pw_uid, NOBODY.pw_gid)


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that every user can enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="hostward-prepare-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def prepare(home: Path, user: str = "nobody", *, expect: int = 0) -> str:
    """Runs it; what it said."""
    done = subprocess.run(
        [*COMMAND, "prepare", "--user", user, "--state-dir", str(home / "state"), "--lock-file", str(home / "xtables.lock")],
        env=clean_environment() | {"PYTHONPATH": str(ROOT / "agent")}, cwd="/", umask=0o077,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == expect, done.stderr
    assert not done.stdout
    return done.stderr


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_missing_is_made(home: Path) -> None:
    prepare(home)
    lock, state = home / "xtables.lock", home / "state"
    assert (owner(lock), mode(lock)) == ((0, OWNER[1]), 0o660)
    assert (owner(state), mode(state)) == (OWNER, 0o700)


def test_what_root_made_before_is_given_away_and_stays_the_same_file(home: Path) -> None:
    lock, state = home / "xtables.lock", home / "state"
    lock.touch(mode=0o600)
    inode = lock.stat().st_ino
    (state / "manifests.cache").mkdir(parents=True)
    (state / "memory.db").write_text("something")
    (state / "manifests.cache" / "one").write_text("something")
    prepare(home)
    assert (lock.stat().st_ino, owner(lock), mode(lock)) == (inode, (0, OWNER[1]), 0o660)
    for path in (state, state / "memory.db", state / "manifests.cache", state / "manifests.cache" / "one"):
        assert owner(path) == OWNER, path
    before = lock.stat()
    prepare(home)
    assert (lock.stat().st_ino, lock.stat().st_mode) == (before.st_ino, before.st_mode)


def test_a_program_that_holds_the_lock_keeps_it(home: Path) -> None:
    lock = home / "xtables.lock"
    lock.touch(mode=0o600)
    holder = subprocess.Popen(["flock", str(lock), "cat"], stdin=subprocess.PIPE, text=True)
    try:
        prepare(home)
        taken = subprocess.run(["flock", "-n", str(lock), "true"], timeout=20, check=False).returncode == 0
        # Held since before, or flock hadn't started yet: then it takes the very file that was prepared.
        assert not taken or owner(lock)[1] == OWNER[1]
    finally:
        holder.communicate("", timeout=20)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs util-linux's setpriv")
def test_the_group_can_take_it_and_nobody_else(home: Path) -> None:
    prepare(home)
    lock = str(home / "xtables.lock")
    for group, expected in ((OWNER[1], 0), (OWNER[1] - 1, 1)):
        become = ["setpriv", "--reuid", "1", "--regid", str(group), "--clear-groups"]
        done = subprocess.run([*become, "flock", "-n", lock, "true"], capture_output=True, timeout=20, check=False)
        assert (done.returncode != 0) == expected, done.stderr


def test_links_that_the_account_laid_lead_nowhere(home: Path) -> None:
    """The state directory is the agent's: it must not be able to make root give it anything else."""
    secret, linked = home / "secret", home / "linked"
    secret.write_text("root's")
    linked.mkdir()
    (linked / "inside").write_text("root's")
    state = home / "state"
    state.mkdir()
    (state / "soft").symlink_to(secret)
    (state / "deep").symlink_to(linked)
    os.link(secret, state / "hard")
    prepare(home)
    assert owner(secret) == owner(linked) == owner(linked / "inside") == (0, 0)


def test_numbers_do_for_an_account_that_has_no_name(home: Path) -> None:
    prepare(home, "12345")
    assert owner(home / "state") == (12345, 12345)
    prepare(home, "12346:12347")
    assert owner(home / "state") == (12346, 12347)


@pytest.mark.parametrize("works", [True, False])
def test_kernel_modules_are_loaded_as_far_as_that_goes(home: Path, monkeypatch: pytest.MonkeyPatch, works: bool) -> None:
    """A module may be built in, or not be needed: what isn't there is told and stops nothing."""
    stand_in = home / "bin" / "modprobe"
    stand_in.parent.mkdir()
    stand_in.write_text(f'#!/bin/sh\necho "$@" >{home}/asked\n' + ("" if works else "echo no ip_tables >&2\nexit 1\n"))
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}:{os.environ['PATH']}")
    assert ("no ip_tables" in prepare(home)) is not works
    assert set((home / "asked").read_text().split()) == {"-a", "-q", *MODULES}


@pytest.mark.parametrize(("there", "told"), [(False, "there is no modprobe here (package kmod)"), (True, "Permission denied")])
def test_without_a_modprobe_that_runs_the_rest_is_done(
    home: Path, monkeypatch: pytest.MonkeyPatch, there: bool, told: str
) -> None:
    (home / "bin").mkdir()
    if there:
        (home / "bin" / "modprobe").write_text("")
    monkeypatch.setenv("PATH", str(home / "bin"))
    said = prepare(home)
    assert said.startswith("Notice: no kernel modules were loaded")
    assert told in said
    assert "hostward doctor" in said
    assert "Errno" not in said
    assert owner(home / "state") == OWNER


@pytest.mark.parametrize("made", ["directory", "link", "fifo"])
def test_a_lock_that_is_no_file_is_told(home: Path, made: str) -> None:
    lock = home / "xtables.lock"
    match made:
        case "directory":
            lock.mkdir()
        case "link":
            lock.symlink_to(home / "elsewhere")
        case _:
            os.mkfifo(lock)
    said = prepare(home, expect=1)
    assert str(lock) in said
    assert ("remove it" in said) == (made != "link")
    assert not (home / "elsewhere").exists()


def test_an_account_that_is_not_there_is_told(home: Path) -> None:
    assert "systemd-sysusers" in prepare(home, "nobody-of-that-name", expect=1)
