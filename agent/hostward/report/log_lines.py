"""A log event as one line, JSON or for people. Whatever is in it, it becomes a line and no error. Pure; any thread."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from hostward.report.secrets import MASKED, names_secret, scrub

MAX_VALUE: Final = 8000  # a traceback fits; a 1 MB object from the datastore doesn't
MAX_ITEMS: Final = 100
MAX_DEPTH: Final = 4


def plain(value: object, depth: int = 0) -> Any:
    """A value as JSON can carry it: short, scrubbed, of plain types, without lone surrogates."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < 64 else hex(value)[:80]
    if isinstance(value, Mapping) and depth < MAX_DEPTH:
        pairs = list(value.items())[:MAX_ITEMS]
        return {str(k)[:200]: MASKED if names_secret(str(k)) else plain(v, depth + 1) for k, v in pairs}
    if isinstance(value, (list, tuple, set, frozenset)) and depth < MAX_DEPTH:
        kept = [plain(item, depth + 1) for item in list(value)[:MAX_ITEMS]]
        return kept if len(value) <= MAX_ITEMS else [*kept, f"... {len(value) - MAX_ITEMS} more"]
    return _short(value)


def _short(value: object) -> str:
    try:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    except Exception as error:  # noqa: BLE001 # somebody's broken __str__ must not cost the line that would tell of it
        text = f"<{type(value).__name__} without text: {type(error).__name__}>"
    text = scrub(text).encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}... {len(text) - MAX_VALUE} more"


def prepare(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event with every value plain and secret fields masked."""
    return {str(key): MASKED if names_secret(str(key)) else plain(value) for key, value in event.items()}


def json_line(event: Mapping[str, Any]) -> bytes:
    """A prepared event as one line of JSON."""
    return msgspec.json.encode(event) + b"\n"


def _word(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text and text.isprintable() and not any(sign in text for sign in ' "='):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())  # no newline or escape sequence reaches a terminal


def console_line(event: Mapping[str, Any]) -> bytes:
    """A prepared event for people: time, level, what happened, then name=value; a traceback below."""
    rest = dict(event)
    time, level, what = rest.pop("timestamp", ""), str(rest.pop("level", "")), str(rest.pop("event", ""))
    trace = rest.pop("exception", None)
    line = f"{time} {level.upper():<8}{what if what.isprintable() else _word(what)}"
    line += "".join(f" {key}={_word(value)}" for key, value in rest.items())
    if trace is not None:
        shown = "".join(c for c in str(trace) if c == "\n" or c.isprintable())
        line += "\n    " + shown.rstrip().replace("\n", "\n    ")
    return line.encode("utf-8", "replace") + b"\n"
