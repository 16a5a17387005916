"""What is wrong with a value that somebody set, as errors with a text for the operator. Pure; any thread."""

from __future__ import annotations

import reprlib
from typing import Final


class BadValueError(ValueError):
    """A value that can't be understood; the text says what is wrong, not where."""


class UnsupportedValueError(BadValueError):
    """A value that Felix accepts and Hostward doesn't; the text says what happens instead."""


_brief: Final = reprlib.Repr()
_brief.maxlevel, _brief.maxstring, _brief.maxother, _brief.maxlist, _brief.maxdict = 2, 80, 80, 4, 4


def shown(raw: object) -> str:
    """A value in a message: its repr, cut short; never raises, however odd, deep or large the value is."""
    try:
        return _brief.repr(raw)
    except ValueError:  # an integer too long for its decimal text, somewhere inside
        return f"a huge {type(raw).__name__}"
