"""When a certificate is valid, read from its DER: Python's ssl module says it only of a peer's. Pure; any thread."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from typing import Final

_SEQUENCE, _UTC_TIME, _VERSION = 0x30, 0x17, 0xA0
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class CertificateError(ValueError):
    """This is no certificate."""


def validities(pem: bytes) -> list[tuple[datetime, datetime]]:
    """First and last moment of each certificate in a PEM text. CertificateError."""
    found = [validity(ssl.PEM_cert_to_DER_cert(one)) for one in _PEM.findall(pem.decode("ascii", "replace"))]
    if not found:
        raise CertificateError("holds no certificate in PEM form")
    return found


def validity(der: bytes) -> tuple[datetime, datetime]:
    """First and last moment of a certificate: RFC 5280 has them after version, serial, algorithm and issuer."""
    try:
        _, certificate, _ = _item(der)
        _, body, _ = _item(certificate)
        if body[0] == _VERSION:
            _, _, body = _item(body)
        for _ in ("serial", "algorithm", "issuer"):
            _, _, body = _item(body)
        kind, span, _ = _item(body)
        if kind != _SEQUENCE:
            raise CertificateError("is no certificate")
        first, begins, rest = _item(span)
        last, ends, _ = _item(rest)
        return _time(first, begins), _time(last, ends)
    except (IndexError, ValueError) as error:
        raise CertificateError("is no certificate") from error


def _item(data: bytes) -> tuple[int, bytes, bytes]:
    """The first item: its kind, its content, and what comes after it."""
    size, at = data[1], 2
    if size & 0x80:
        at += size & 0x7F
        size = int.from_bytes(data[2:at])
    return data[0], data[at : at + size], data[at + size :]


def _time(kind: int, value: bytes) -> datetime:
    """A UTCTime has two digits of the year, from 1950 on; a GeneralizedTime four."""
    text = value.decode("ascii").removesuffix("Z")
    if kind == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
