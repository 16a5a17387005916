"""The kinds of value that settings have: how each is read from a text or from JSON and TOML data, and shown again.

A `ValueType` reads both forms: texts from the environment, typed values from the file and the datastore (`statements.md`
C-5, C-6, H-63). A reader raises BadValueError and nothing else. Knows no setting. Pure; any thread.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from hostward.model.failsafe import MAX_PORTS, parse_failsafe
from hostward.model.interface_names import check_name, check_pattern, check_prefix
from hostward.model.value_errors import BadValueError, UnsupportedValueError, shown

MAX_SECONDS: Final = 10 * 365 * 86400.0
MAX_ITEMS: Final = 100
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_DURATION: Final = re.compile(r"(?:\d{1,15}(?:\.\d{0,15})?(?:ns|us|µs|ms|s|m|h))+")
_GO_PART: Final = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)")
_NUMBER: Final = re.compile(r"\d{1,15}(?:\.\d{0,15})?")
_RATE: Final = re.compile(r"([1-9]\d{0,3})/(second|minute|hour|day)")


class ValueType(Struct, frozen=True):
    """How a kind of value is read, shown (the text form that `read` takes back), and described to people."""

    read: Callable[[object], Any]
    show: Callable[[Any], str]
    form: str


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise BadValueError(f"{shown(raw)} is not a text")
    return raw.strip()


def _is_none(raw: object) -> bool:
    """`none` is how Felix's texts say nothing at all (C-2)."""
    return isinstance(raw, str) and raw.strip().lower() == "none"


def _read_bool(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    word = raw.strip().lower() if isinstance(raw, str) else str(raw) if raw in (0, 1) else ""
    if word in ("true", "1", "yes", "y", "t", "on", "enabled"):
        return True
    if word in ("false", "0", "no", "n", "f", "off", "disabled"):
        return False
    raise BadValueError(f"{shown(raw)} is neither true nor false")


BOOL: Final = ValueType(_read_bool, lambda value: "true" if value else "false", "true or false")


def integer(low: int, high: int) -> ValueType:
    """A whole number from `low` to `high`."""

    def read(raw: object) -> int:
        if isinstance(raw, str) and re.fullmatch(r"\s*-?\d{1,19}\s*", raw, re.ASCII):
            raw = int(raw)
        if isinstance(raw, float) and raw.is_integer():
            raw = int(raw)
        if isinstance(raw, int) and not isinstance(raw, bool) and low <= raw <= high:
            return raw
        raise BadValueError(f"{shown(raw)} is not a whole number from {low} to {high}")

    return ValueType(read, str, f"{low} to {high}")


def _seconds(raw: object) -> float:
    if isinstance(raw, (int, float)) and not isinstance(raw, bool) and 0 <= raw <= MAX_SECONDS:  # NaN fails both
        return float(raw)
    text = raw.strip() if isinstance(raw, str) else ""
    if _is_none(raw):
        return 0.0
    if _NUMBER.fullmatch(text):
        return float(text)
    if _GO_DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _GO_PART.findall(text))
    raise BadValueError(f"{shown(raw)} is not a duration like 90s, 1m30s or 500ms (a plain number is seconds)")


def duration(low: float, high: float = MAX_SECONDS, *, zero: bool = False, no_zero: str = "") -> ValueType:
    """Seconds from `low` to `high`; `zero`: 0 too, for "off". `no_zero` says why a 0 that Felix takes is not taken."""

    def read(raw: object) -> float:
        value = _seconds(raw)
        if value == 0 and no_zero:
            raise UnsupportedValueError(no_zero)
        if (zero and value == 0) or low <= value <= high:
            return value
        limit = f"at most {show(high)}" if value > high else f"at least {show(low)}"
        raise BadValueError(f"{shown(raw)} is out of range: {'0 or ' if zero else ''}{limit}")

    def show(value: float) -> str:
        return f"{value:g}s" if math.isfinite(value) else str(value)

    return ValueType(read, show, f"duration, 0 or {low:g}s and more" if zero else f"duration, {low:g}s and more")


def choice(*words: str, unsupported: dict[str, str] | None = None, aliases: dict[str, str] | None = None) -> ValueType:
    """One of the words in any case (C-6), as spelt here. `aliases` and `unsupported` (word to why) are lower-case."""
    known = {word.lower(): word for word in words} | (aliases or {})

    def read(raw: object) -> str:
        word = _text(raw).lower()
        if unsupported and word in unsupported:
            raise UnsupportedValueError(unsupported[word])
        if word not in known:
            raise BadValueError(f"{shown(raw)} is none of {', '.join(words)}")
        return known[word]

    return ValueType(read, str, ", ".join(words))


def string(form: str, pattern: str, *, empty: bool = True) -> ValueType:
    """A text of which the whole matches `pattern`; with `empty`, also none at all."""
    expression = re.compile(pattern)

    def read(raw: object) -> str:
        text = _text(raw)
        if empty and (text == "" or _is_none(raw)):
            return ""
        if not expression.fullmatch(text):
            raise BadValueError(f"{shown(raw)} is not {form}")
        return text

    return ValueType(read, str, form)


def _read_mask(raw: object) -> int:
    text = raw.strip() if isinstance(raw, str) else ""
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10}", text):
        raw = int(text, 16 if text[:2] in ("0x", "0X") else 10)
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 <= raw <= 0xFFFFFFFF:
        raise BadValueError(f"{shown(raw)} is not a 32 bit mask like 0xff000000")
    if raw & 0xC000:
        raise BadValueError(f"{raw:#x} holds bits of 0xc000, which are kube-proxy's")
    if raw.bit_count() < 6:
        raise BadValueError(f"{raw:#x} has {raw.bit_count()} bits; 6 are needed")
    return raw


MASK: Final = ValueType(_read_mask, lambda value: f"{value:#010x}", "mask of at least 6 bits, none of 0xc000")


def items(read_item: Callable[[Any], Any], form: str, limit: int = MAX_ITEMS) -> ValueType:
    """A list: data, or comma separated in a text; `none` and an empty list are empty."""

    def read(raw: object) -> tuple[Any, ...]:
        if _is_none(raw):
            return ()
        parts = [part for part in raw.split(",") if part.strip()] if isinstance(raw, str) else raw
        if not isinstance(parts, (list, tuple)):
            raise BadValueError(f"{shown(raw)} is not a list")
        if len(parts) > limit:
            raise BadValueError(f"a list of {len(parts)} is too long; at most {limit}")
        if isinstance(raw, str) and not parts:
            raise BadValueError(f"{shown(raw)} names nothing; write none for an empty list")
        return tuple(dict.fromkeys(read_item(part) for part in parts))

    return ValueType(read, lambda value: ",".join(map(str, value)) or "none", form)


FAILSAFES: Final = items(parse_failsafe, "list of proto:port, proto:net:port, or {protocol, port, net}", MAX_PORTS)
INTERFACE_PREFIXES: Final = items(lambda raw: check_prefix(_text(raw)), "list of prefixes of names")
INTERFACES: Final = items(
    lambda raw: _text(raw) if raw == "*" else check_name(_text(raw)), "list of names, or * for all but lo"
)
INTERFACE_PATTERNS: Final = items(lambda raw: check_pattern(_text(raw)), "list of names and /regular expressions/")


def _read_rate(raw: object) -> str:
    text = _text(raw).lower()
    if text in ("", "none") or _RATE.fullmatch(text):
        return "" if text == "none" else text
    raise BadValueError(f"{shown(raw)} is not a rate like 10/minute (1 to 9999 per second, minute, hour or day)")


RATE: Final = ValueType(_read_rate, lambda value: value or "none", "N/second, N/minute, N/hour or N/day")


class NamedTimeout(Struct, frozen=True):
    """A health component's name, and its timeout in seconds."""

    name: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.name}={self.seconds:g}s"


def _read_named_timeout(raw: object) -> NamedTimeout:
    if isinstance(raw, dict):
        name, timeout = raw.get("name"), raw.get("timeout")
    else:
        name, _, timeout = _text(raw).partition("=")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", name.strip()):
        raise BadValueError(f"{shown(raw)} is not like Name=20s")
    return NamedTimeout(name.strip(), _seconds(timeout))


TIMEOUTS: Final = items(_read_named_timeout, "list of Name=duration")
