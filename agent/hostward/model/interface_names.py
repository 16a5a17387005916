"""Interface names: which are workloads' by prefix, and which the agent leaves out (`interfacePrefix`, `interfaceExclude`).

An exclusion is a name or a `/regular expression/`. Expressions come from the datastore too, so their size and their freedom
to backtrack are bounded. Pure; any thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from hostward.model.value_errors import BadValueError, shown

MAX_NAME: Final = 15
_NAME: Final = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")
_QUANTIFIED_GROUP: Final = re.compile(r"\)[*+?{]")
_MAX_CHOICES: Final = 4


def check_name(text: str) -> str:
    """The text if it can be an interface's name. BadValueError."""
    if not _NAME.fullmatch(text):
        raise BadValueError(f"{shown(text)} is not an interface name (1 to {MAX_NAME} of A-Za-z0-9_.:@-)")
    return text


def check_prefix(text: str) -> str:
    """The text if it can be the beginning of an interface's name; behind 15 a rule has no room for "any". BadValueError."""
    if len(check_name(text)) == MAX_NAME:
        raise BadValueError(f"{shown(text)} is too long for a prefix of interface names (1 to {MAX_NAME - 1})")
    return text


def check_pattern(text: str) -> str:
    """The text if it is an interface name or a `/regular expression/` that can't run away. BadValueError."""
    if not (len(text) > 2 and text.startswith("/") and text.endswith("/")):
        return check_name(text)
    body = text[1:-1]
    # With few choices and no repeated groups, matching 15 characters takes at most some 10^5 steps.
    choices = sum(body.count(sign) for sign in "*+?{")
    if len(body) > 200 or choices > _MAX_CHOICES or body.count("|") > _MAX_CHOICES or _QUANTIFIED_GROUP.search(body):
        raise BadValueError(
            f"{shown(text)} is too complex: at most {_MAX_CHOICES} of *+?{{}}, {_MAX_CHOICES} of |, and no repeated group"
        )
    try:
        re.compile(body)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadValueError(f"{shown(text)} is not a regular expression: {error}") from error
    return text


def excluder(patterns: Iterable[str]) -> Callable[[str], bool]:
    """A predicate of an interface's name: whether a checked pattern names it. Expressions match anywhere, as in Go."""
    names = frozenset(p for p in patterns if not p.startswith("/"))
    expressions = tuple(re.compile(p[1:-1]) for p in patterns if p.startswith("/"))
    return lambda name: name in names or any(e.search(name) for e in expressions)
