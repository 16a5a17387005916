"""Reading the fields of a stored document: each reader gives a value, or reports a problem and gives "absent" (D4).

Readers are as lenient as Calico's own: null is absent, numbers may come as digit strings where Calico writes them so. They know
nothing of resources. Every list but a network set's is all or nothing. Pure; any thread.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

from msgspec import Struct

from hostward.model.nets import parse_address, parse_net
from hostward.model.value_errors import BadValueError, shown

T = TypeVar("T")

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_NET: Final = 64  # longer texts are refused before they reach the address parser's cache


class Problem(Struct, frozen=True):
    """Something in a document that isn't understood. `path` as `spec.ingress[2].source.nets[1]`; "" is the whole document."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


Found = list[Problem]


def show(value: object) -> str:
    """A value for a message: short, one line, in JSON's words; never fails."""
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case dict():
            return "an object"
        case list():
            return "a list"
        case float() if not math.isfinite(value):
            return "a huge number"
        case _:
            return shown(value)


def member(path: str, name: str) -> str:
    """The path of a named member; an odd name is quoted and cut, as it may be anything."""
    if _PLAIN_NAME.fullmatch(name):
        return f"{path}.{name}" if path else name
    return f"{path}[{show(name)}]"


def read_object(value: object, path: str, known: Collection[str] | None, found: Found) -> dict[str, Any]:
    """A JSON object without its nulls; {} for null. Reports what isn't one, and members that aren't `known` (None: any are)."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        found.append(Problem(path, f"expected an object, not {show(value)}"))
        return {}
    if known is not None:
        found.extend(Problem(member(path, name), "unknown field") for name in value if name not in known)
    return {name: inner for name, inner in value.items() if inner is not None}


def read_text(value: object, path: str, found: Found) -> str:
    """A text; "" for null and for what isn't one."""
    if value is None or isinstance(value, str):
        return value or ""
    found.append(Problem(path, f"expected a text, not {show(value)}"))
    return ""


def read_labels(value: object, path: str, found: Found) -> dict[str, str]:
    """The entries of a label or annotation map whose values are texts; reports the others."""
    labels = read_object(value, path, None, found)
    for name, text in labels.items():
        if not isinstance(text, str):
            found.append(Problem(member(path, name), f"expected a text, not {show(text)}"))
    return {name: text for name, text in labels.items() if isinstance(text, str)}


def read_flag(value: object, path: str, found: Found) -> bool:
    """true or false; False for null. What is neither, but is written like a yes, counts as one beside its problem."""
    if value is None or isinstance(value, bool):
        return bool(value)
    found.append(Problem(path, f"expected true or false, not {show(value)}"))
    return value == 1 or (isinstance(value, str) and value.strip().lower() in ("true", "yes", "on", "1"))


def read_number(value: object, path: str, found: Found) -> float | None:
    """A finite number; None for null and for what isn't one."""
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    found.append(Problem(path, f"expected a number, not {show(value)}"))
    return None


def read_integer(value: object, first: int, last: int, path: str, found: Found) -> int | None:
    """An integer from `first` to `last`; None for null and for what isn't one."""
    if value is None:
        return None
    if type(value) is int and first <= value <= last:
        return value
    found.append(Problem(path, f"expected an integer from {first} to {last}, not {show(value)}"))
    return None


def read_members(value: object, convert: Callable[[object], T], path: str, found: Found) -> list[T]:
    """The elements of a list that are understood, in order; `convert` raises BadValueError for one that isn't."""
    if value is None:
        return []
    if not isinstance(value, list):
        found.append(Problem(path, f"expected a list, not {show(value)}"))
        return []
    members = []
    for index, element in enumerate(value):
        try:
            members.append(convert(element))
        except BadValueError as error:
            found.append(Problem(f"{path}[{index}]", str(error)))
    return members


def read_list(value: object, convert: Callable[[object], T], path: str, found: Found) -> list[T]:
    """The elements of a list, in order; [] when one isn't understood: a part of a list means something else than the list."""
    before = len(found)
    members = read_members(value, convert, path, found)
    return members if len(found) == before else []


def to_text(value: object) -> str:
    """Converter: a text with something in it."""
    if not isinstance(value, str) or not value:
        raise BadValueError(f"expected a text, not {show(value)}")
    return value


def to_net(value: object) -> str:
    """Converter: a CIDR or bare address as a canonical CIDR (R-7)."""
    net = parse_net(value) if isinstance(value, str) and len(value) <= _LONGEST_NET else None
    if net is None:
        raise BadValueError(f"not a CIDR or address: {show(value)}")
    return net


def to_address(value: object) -> str:
    """Converter: an address in its canonical form."""
    address = parse_address(value) if isinstance(value, str) and len(value) <= _LONGEST_NET else None
    if address is None:
        raise BadValueError(f"not an IP address: {show(value)}")
    return address
