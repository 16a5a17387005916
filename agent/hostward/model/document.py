"""Stored bytes to a JSON object, for any bytes at all (`docs/reliability.md` C1).

Knows JSON and its limits, nothing of resources. Pure; any thread.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec


class DocumentError(ValueError):
    """The bytes hold no JSON object; the message says why."""


def read(raw: bytes | str) -> dict[str, Any]:
    """The JSON object in `raw`; of a name given twice the last one wins. Raises DocumentError, and nothing else.

    A number that no machine type holds is read as infinity, which no field accepts: so it spoils its own field only.
    """
    try:
        document = msgspec.json.decode(raw)
    except msgspec.ValidationError:
        document = _read_with_huge_numbers(raw)
    except UnicodeError as error:
        raise DocumentError("not UTF-8 text") from error
    except msgspec.DecodeError as error:
        raise DocumentError(f"broken JSON: {error}") from error
    except RecursionError as error:
        raise DocumentError("broken JSON: nested too deeply") from error
    if not isinstance(document, dict):
        raise DocumentError("not a JSON object")
    return document


def _read_with_huge_numbers(raw: bytes | str) -> Any:
    try:
        document = json.loads(raw, parse_int=_integer, parse_float=float, parse_constant=_refuse)
        json.dumps(document, ensure_ascii=False).encode()  # fails on lone surrogates, which the faster reader refuses too
    except RecursionError as error:
        raise DocumentError("broken JSON: nested too deeply") from error
    except ValueError as error:
        raise DocumentError(f"broken JSON: {error}") from error
    return document


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= 20 else math.inf


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no JSON number")
