"""Certificates and keys to a TLS context. Any thread."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field

from hostward.kube.access import Access
from hostward.kube.errors import ApiError


@dataclass(frozen=True, slots=True)
class Material:
    """PEM texts, read from their sources."""

    ca: bytes | None
    cert: bytes | None
    key: bytes | None = field(repr=False)


def read_material(access: Access) -> Material:
    """Reads certificates and key anew. ApiError (Credentials)."""
    return Material(*(source.read() if source else None for source in (access.ca, access.cert, access.key)))


def tls_context(access: Access, material: Material) -> ssl.SSLContext:
    """A context that verifies the server, unless `access` says not to. ApiError (Credentials) names what can't be used."""
    try:
        context = ssl.create_default_context(cadata=_authorities(material.ca))
    except (ssl.SSLError, ValueError) as error:
        raise ApiError("Credentials", f"{access.ca}: holds no certificate in PEM form") from error
    if not access.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if material.cert is not None and material.key is not None:
        _load_pair(context, access, material.cert, material.key)
    return context


def _authorities(ca: bytes | None) -> str | None:
    if ca is None:
        return None
    if not ca.strip():
        raise ValueError("empty")  # from which Python would make a context that trusts the system's authorities
    return ca.decode("ascii")


def _load_pair(context: ssl.SSLContext, access: Access, cert: bytes, key: bytes) -> None:
    # OpenSSL takes the pair from files only: these live in memory, so that no key is written anywhere.
    descriptor = os.memfd_create("client-certificate")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(cert + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    except (ssl.SSLError, OSError) as error:
        raise ApiError("Credentials", f"{access.cert} and {access.key}: can't be used together") from error
    finally:
        os.close(descriptor)
