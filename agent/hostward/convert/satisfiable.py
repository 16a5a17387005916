"""Whether any labels at all can match a selector: by trying the few values per label that make a difference.

Exact for ==, !=, in, not in and has(); for contains, starts with and ends with it tries the likely ones. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice, permutations, product
from typing import Final

from hostward.convert import names
from hostward.model import selector_syntax, selectors
from hostward.model.selector_syntax import Compare, Group, Member, Node, Not

_MOST_TRIED: Final = 20_000
_MOST_PARTS: Final = 4
_OTHER: Final = ("a0-other", "b1-other")  # values that no author writes


@lru_cache(maxsize=1024)
def never_matches(text: str) -> bool:
    """True only if no labels were found to match, and all combinations were tried. SelectorError for no selector."""
    selector = selectors.parse(text)
    values: dict[str, list[str | None]] = {label: [None, *_OTHER] for label in sorted(selector.labels_used)}
    parts: dict[str, list[tuple[str, str]]] = {}
    for label, word, value in _literals(selector_syntax.parse(text)):
        if word in ("starts with", "ends with", "contains"):
            parts.setdefault(label, []).append((word, value))
        values[label].append(value)
    for label, pieces in parts.items():
        values[label] += _composed(pieces)
    # A literal that can't be a label's value is one that no label ever has.
    for label, tried in values.items():
        values[label] = [one for one in dict.fromkeys(tried) if one is None or names.wrong_label_value(one) is None]
    count = 0
    for combination in islice(product(*values.values()), _MOST_TRIED):
        count += 1
        if selector.matches({label: one for label, one in zip(values, combination, strict=True) if one is not None}):
            return False
    return count < _MOST_TRIED


def _literals(node: Node) -> Iterator[tuple[str, str, str]]:
    match node:
        case Compare(label, word, value):
            yield label, word, value
        case Member(label, word, members):
            for value in members:
                yield label, word, value
        case Not(operand):
            yield from _literals(operand)
        case Group(_, operands):
            for operand in operands:
                yield from _literals(operand)
        case _:
            return


def _composed(pieces: list[tuple[str, str]]) -> Iterator[str]:
    """Values that begin, end and go on in between as the pieces ask, in every order of the few that are tried."""
    starts = ["", *(value for word, value in pieces if word == "starts with")]
    ends = ["", *(value for word, value in pieces if word == "ends with")]
    inner = [value for word, value in pieces if word == "contains"][:_MOST_PARTS]
    for count in range(len(inner) + 1):
        for middle in permutations(inner, count):
            for start, end in product(starts, ends):
                for filler in ("", "0"):
                    yield filler.join((start or "0", *middle, end or "0"))
                yield start + "".join(middle) + end
