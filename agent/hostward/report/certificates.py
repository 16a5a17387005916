"""When certificates are valid, read from their DER, as Python's ssl module says it only of a peer's. And when those in some
files end: read again when a file has changed, by the metrics server's thread alone.

A file that can't be read or holds no certificate has no end; who uses it says why.
"""

from __future__ import annotations

import stat
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

MAX_FILE: Final = 2**20
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0


class Certificates:
    """The ends of certificates by name. `files` gives a path by name; "" for none."""

    def __init__(self, files: Callable[[], Mapping[str, str]]) -> None:
        self._files = files
        self._read: dict[str, tuple[object, float | None]] = {}

    def __call__(self) -> dict[str, float]:
        """In seconds since 1970."""
        found = {name: self._end(name, path) for name, path in self._files().items() if path}
        return {name: end for name, end in found.items() if end is not None}

    def _end(self, name: str, path: str) -> float | None:
        try:
            info = Path(path).stat()
            stamp = path, info.st_mtime_ns, info.st_size, info.st_ino
            if name not in self._read or self._read[name][0] != stamp:
                regular = stat.S_ISREG(info.st_mode) and info.st_size <= MAX_FILE
                self._read[name] = stamp, validity(Path(path).read_bytes())[1].timestamp() if regular else None
        except (OSError, ValueError):
            self._read.pop(name, None)
            return None
        return self._read[name][1]


class _Value(NamedTuple):
    tag: int
    content: bytes


class CertificateError(ValueError):
    """This is no certificate."""


def validity(pem: bytes) -> tuple[datetime, datetime]:
    """First and last moment of the first certificate in a PEM text. CertificateError."""
    _, begin, rest = pem.partition(_BEGIN)
    body, end, _ = rest.partition(_END)
    if not begin or not end:
        raise CertificateError("holds no certificate in PEM form")
    try:
        (certificate,) = _values(b64decode(body))
        signed, *_ = _values(certificate.content)
        # An optional version; serial number, signature algorithm, issuer; validity: from, to.
        fields = [value for value in _values(signed.content) if value.tag != _VERSION]
        if len(fields) < 4 or fields[3].tag != _SEQUENCE:
            raise CertificateError("is no certificate")
        first, last = _values(fields[3].content)
        return _time(first), _time(last)
    except ValueError as error:
        raise CertificateError("is no certificate") from error


def _values(der: bytes) -> Iterator[_Value]:
    """The values in a row of DER."""
    at = 0
    while at < len(der):
        if at + 2 > len(der):
            raise ValueError("cut off")
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        if at + length > len(der):
            raise ValueError("cut off")
        yield _Value(tag, der[at : at + length])
        at += length


def _time(value: _Value) -> datetime:
    text = value.content.decode("ascii")
    if value.tag == _UTC_TIME:  # two digits of the year; from 50 on they are of the last century
        text = ("19" if text[:2] >= "50" else "20") + text
    elif value.tag != _GENERALIZED_TIME:
        raise ValueError("no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
