"""Operations as text for iptables-restore, and that program run once, as one atomic commit.

It runs while we hold the xtables lock, with a lock file of its own, or it would wait for us. Knows no binary layout. The engine
thread runs it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from hostward.dataplane.kernel import KernelError
from hostward.dataplane.xtables.delta import Create, Delete, Flush, Insert, Operation, Remove
from hostward.render.ruleset import Family, Interface, Rule, TableId
from hostward.render.text import rule_text

_TIMEOUT_SECONDS: Final = 120
NAMES: Final[dict[Family, tuple[str, str]]] = {
    4: ("iptables-legacy-restore", "iptables-restore"),
    6: ("ip6tables-legacy-restore", "ip6tables-restore"),
}
_LOST_RACE: Final = ("Resource temporarily unavailable", "doesn't exist", "Set ", "Too many links")


def script(table: TableId, todo: Iterable[Operation]) -> str:
    """The input of iptables-restore --noflush. Raises KernelError for a rule that has no text: see `rule_line`."""
    lines = [f"*{table.name}"]
    for operation in todo:
        match operation:
            case Create(chain):
                lines.append(f":{chain} - -")
            case Flush(chain):
                lines.append(f"-F {chain}")
            case Delete(chain):
                lines.append(f"-X {chain}")
            case Remove(chain, position):
                lines.append(f"-D {chain} {position + 1}")
            case Insert(chain, None, rule):
                lines.append(f"-A {chain} {rule_line(rule.rule, table)}")
            case Insert(chain, int() as position, rule):
                lines.append(f"-I {chain} {position + 1} {rule_line(rule.rule, table)}")
    return "\n".join([*lines, "COMMIT", ""])


def rule_line(rule: Rule, table: TableId) -> str:
    """A rule's arguments. KernelError where it has none: names of interfaces may hold control characters, or end in "+"."""
    if any(isinstance(match, Interface) and match.name.endswith("+") for match in rule.matches):
        raise KernelError(f"table {table}: iptables-restore can't take an interface whose name ends in +: {rule}")
    try:
        return rule_text(rule, table.family)
    except ValueError as error:
        raise KernelError(f"table {table}: iptables-restore can't take a rule: {error}") from error


def run(table: TableId, text: str) -> None:
    """Commits a script. Raises KernelError, with `retry` when it may have lost a race."""
    program = _program(table.family)
    try:
        lock = os.memfd_create("hostward-xtables-lock")  # in memory: at boot there may be nowhere to write to yet
        try:
            done = subprocess.run(
                [program, "--noflush"],
                input=text,
                capture_output=True,
                text=True,
                errors="surrogateescape",
                timeout=_TIMEOUT_SECONDS,
                check=False,
                pass_fds=(lock,),
                env={**os.environ, "XTABLES_LOCKFILE": f"/proc/self/fd/{lock}"},
            )
        finally:
            os.close(lock)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"table {table}: cannot run {program}: {error}", retry=True) from error
    if done.returncode:
        said = done.stderr.strip().replace("\n", "; ")
        raise KernelError(
            f"table {table}: {program} failed with exit code {done.returncode}: {said}",
            retry=any(words in said for words in _LOST_RACE),
        )


def is_legacy(name: str, version: str) -> bool:
    """Whether a program is the legacy one, by its name or by what it says of itself with --version."""
    return "-legacy" in name or "nf_tables" not in version


@lru_cache
def _program(family: Family) -> str:
    """The legacy program: by its own name, or under the plain name where that is the legacy one (H-94)."""
    legacy, plain = NAMES[family]
    found = shutil.which(legacy)
    if found:
        return found
    found = shutil.which(plain)
    if found:
        try:
            version = subprocess.run(
                [found, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise KernelError(f"cannot run {found}: {error}", retry=True) from error
        if is_legacy(plain, version.stdout):
            return found
    raise KernelError(f"{legacy} is not installed: install the package iptables, version 1.8 or later")
