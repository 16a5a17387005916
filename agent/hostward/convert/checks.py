"""Small checks that validators are made of: each looks at one value and reports what is wrong with it, and where.

A check is `check(value, path, report)`. It never raises, whatever the value. `None` counts as absent, as it does for Calico's
readers. Knows no kind of resource. Pure functions; any thread.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any

from hostward.model.fields import Problem, show

Report = Callable[[str, str], None]
Check = Callable[[Any, str, Report], None]


def problems_of(check: Check, value: object) -> list[Problem]:
    """All that a check finds wrong with a whole document, in the order of its fields."""
    found: list[Problem] = []
    check(value, "", lambda path, reason: found.append(Problem(path, reason)))
    return found


def suggestion(word: object, known: Collection[str]) -> str:
    """`; did you mean 'x'?` when a known word is close, else nothing."""
    if not isinstance(word, str) or len(word) > 64:
        return ""
    folded = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), folded, 1)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


def under(path: str, step: str | int) -> str:
    """The path of a field or item below `path`."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    return f"{path}.{step}" if path else step


def fields(table: Mapping[str, Check], *, required: Collection[str] = (), also: Check | None = None) -> Check:
    """A mapping with these fields and no others (D13); `also` then looks at the mapping as a whole."""

    def check(value: Any, path: str, report: Report) -> None:
        if not isinstance(value, dict):
            report(path, f"expected a mapping, not {show(value)}")
            return
        for name, item in value.items():
            if name not in table:
                takes = suggestion(name, table) or f"; this place takes {', '.join(sorted(table))}"
                report(under(path, str(name)), f"unknown field{takes}")
            elif item is not None:
                table[name](item, under(path, name), report)
        for name in required:
            if value.get(name) is None or value[name] == "":
                report(under(path, name), "missing")
        if also is not None:
            also(value, path, report)

    return check


def listing(item: Check, *, most: int | None = None) -> Check:
    """A list whose items all pass."""

    def check(value: Any, path: str, report: Report) -> None:
        if not isinstance(value, list):
            report(path, f"expected a list, not {show(value)}")
            return
        if most is not None and len(value) > most:
            report(path, f"{len(value)} items; at most {most} are allowed")
        for index, one in enumerate(value):
            item(one, under(path, index), report)

    return check


def text(value: Any, path: str, report: Report) -> None:
    """Any text."""
    if not isinstance(value, str):
        report(path, f"expected a text, not {show(value)}")


def boolean(value: Any, path: str, report: Report) -> None:
    """true or false."""
    if not isinstance(value, bool):
        report(path, f"expected true or false, not {show(value)}")


def number(value: Any, path: str, report: Report) -> None:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        report(path, f"expected a number, not {show(value)}")
    elif not is_finite(value):
        report(path, "the number is out of range")


def is_finite(value: float) -> bool:
    """Whether a number fits in a float64, the only numbers that Calico's readers know."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def integer(low: int, high: int) -> Check:
    """A whole number of this range, both ends included."""

    def check(value: Any, path: str, report: Report) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            report(path, f"expected a whole number, not {show(value)}")
        elif not low <= value <= high:
            report(path, f"expected {low} to {high}")

    return check


def one_of(*words: str) -> Check:
    """Exactly one of these words."""

    def check(value: Any, path: str, report: Report) -> None:
        if not isinstance(value, str) or value not in words:
            report(path, f"{show(value)} is none of {', '.join(words)}{suggestion(value, words)}")

    return check


def matching(pattern: str, expected: str) -> Check:
    """A text that matches a whole pattern; `expected` says it in words."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: Any, path: str, report: Report) -> None:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            report(path, f"{show(value)} is not {expected}")

    return check


def mapping(key: Callable[[str], str | None], item: Check) -> Check:
    """A mapping with free keys; `key` says what is wrong with one, or None."""

    def check(value: Any, path: str, report: Report) -> None:
        if not isinstance(value, dict):
            report(path, f"expected a mapping, not {show(value)}")
            return
        for name, one in value.items():
            here = under(path, str(name))
            reason = key(name) if isinstance(name, str) else f"the key {show(name)} is no text"
            if reason:
                report(here, reason)
            item(one, here, report)

    return check


def anything(value: Any, path: str, report: Report) -> None:
    """Whatever it is: fields that are kept by others and never read."""


def each_of(*checks: Check) -> Check:
    """All of these."""

    def check(value: Any, path: str, report: Report) -> None:
        for one in checks:
            one(value, path, report)

    return check
