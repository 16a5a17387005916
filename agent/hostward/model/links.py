"""Network interfaces of this host as values (`enforcement.md` H-2, H-3)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Link:
    """One interface. `addresses` are canonical local addresses of both families; `up` is IFF_RUNNING."""

    name: str
    index: int
    up: bool
    addresses: frozenset[str] = frozenset()
