"""A stream's pieces to its lines. Pure; any thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from hostward.kube.errors import ApiError

LONGEST: Final = 16 << 20  # bytes; etcd holds objects of 1.5 MiB, and JSON of them may be some times as long


def lines(pieces: Iterable[bytes], longest: int = LONGEST) -> Iterator[bytes]:
    """Whole lines without their ends, each as soon as it is complete; empty ones are left out.

    ApiError: TooLarge for a line of more than `longest` bytes, Cut for a last one without an end, which is no event.
    """
    begun = bytearray()
    for piece in pieces:
        *whole, rest = piece.split(b"\n")
        for part in whole:
            line = bytes(begun + part)
            begun.clear()
            _check(len(line), longest)
            if line.strip():
                yield line
        begun += rest
        _check(len(begun), longest)
    if begun:
        raise ApiError("Cut", "the stream ended in the middle of a line")


def _check(length: int, longest: int) -> None:
    if length > longest:
        raise ApiError("TooLarge", f"a line of more than {longest} bytes in a watch")
