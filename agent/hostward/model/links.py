"""Network interfaces of this host as values (`statements.md` H-2, H-3)."""

from __future__ import annotations

from msgspec import Struct


class Link(Struct, frozen=True):
    """One interface. `addresses` are canonical local addresses of both families; `up` is IFF_RUNNING.

    `master`: the bridge, bond or VRF that it is a port of, in whose name the filter sees what comes in here; "": none.
    """

    name: str
    index: int
    up: bool
    addresses: frozenset[str] = frozenset()
    master: str = ""
