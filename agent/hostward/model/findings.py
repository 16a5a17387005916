"""What a look at a host found: values that the agent's start, `hostward doctor` and coexistence share. Pure; any thread."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check's answer: what was found, and what to do about it ("" where nothing is to be done)."""

    level: Level
    check: str
    finding: str
    do: str = ""


def ok(check: str, finding: str) -> Finding:
    """All is well."""
    return Finding(level="ok", check=check, finding=finding)


def warn(check: str, finding: str, do: str) -> Finding:
    """Something works less well, or couldn't be looked at."""
    return Finding(level="warn", check=check, finding=finding, do=do)


def fail(check: str, finding: str, do: str) -> Finding:
    """Something keeps the agent from its work."""
    return Finding(level="fail", check=check, finding=finding, do=do)
