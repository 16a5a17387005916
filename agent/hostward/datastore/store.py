"""What a datastore gives the command line: get, list and write with compare-and-swap (`statements.md` A.7).

etcd and a directory of manifests both implement `Store`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from hostward.model.keys import ResourceKey

Document = dict[str, Any]


class Found(Struct, frozen=True):
    """A stored resource: its whole v3 document as stored (no resourceVersion inside) and its revision."""

    key: ResourceKey
    document: Document
    revision: int


class StoreError(Exception):
    """The store can't be reached or refused; the text is for the operator."""


class AlreadyExistsError(StoreError):
    """Create found the key taken."""


class NotFoundError(StoreError):
    """The key is not there."""


class ConflictError(StoreError):
    """Somebody else changed the resource since it was read."""


class FencedError(StoreError):
    """The writer doesn't lead (any more), so that nothing was written."""


class BrokenError(StoreError):
    """What is stored under a key is no JSON object. `revision` is the one that a write in its place must name."""

    def __init__(self, key: ResourceKey, revision: int) -> None:
        super().__init__(f"{key}: the stored value is not a JSON object")
        self.key, self.revision = key, revision


class Store(Protocol):
    """Reads and transactional writes of documents. Every call may raise StoreError."""

    def get(self, key: ResourceKey) -> Found:
        """The resource under exactly this key; NotFoundError, BrokenError."""

    def list(self, kind: str, namespace: str = "") -> tuple[int, list[Found]]:
        """All resources of a kind, sorted by key, and the revision of the whole list. Broken JSON is left out."""

    def create(self, key: ResourceKey, document: Mapping[str, Any]) -> int:
        """Writes a new resource; its revision. AlreadyExistsError."""

    def update(self, key: ResourceKey, document: Mapping[str, Any], revision: int) -> int:
        """Replaces a resource that still has `revision`; the new revision. ConflictError, NotFoundError."""

    def delete(self, key: ResourceKey, revision: int | None = None) -> None:
        """Removes a resource, if given only while it still has `revision`. ConflictError, NotFoundError."""

    def peers(self) -> tuple[tuple[str, int], ...]:
        """The store's own addresses and ports, as IP texts; () for one without a server. Names are looked up first."""

    def close(self) -> None:
        """Lets go of connections."""
