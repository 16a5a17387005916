"""A store whose writes stay in memory: what a writing command would change, for `--dry-run`.

Reads go to the real store until something was written over them. The commands' own thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final, NamedTuple

from hostward.datastore.encode import stored_form
from hostward.datastore.store import (
    AlreadyExistsError,
    BrokenError,
    ConflictError,
    Document,
    Found,
    NotFoundError,
    Store,
)
from hostward.model.keys import ResourceKey

_FIRST_REVISION: Final = 1 << 60
"""No store counts this far, so a rehearsed revision is never taken for a stored one."""


class Change(NamedTuple):
    """One resource before and after; None where there is none. `unreadable`: what was stored before is no JSON object."""

    key: ResourceKey
    before: Document | None
    after: Document | None
    unreadable: bool = False


class Rehearsal:
    """A store.Store over another one that is only read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: dict[ResourceKey, Found | None] = {}
        self._before: dict[ResourceKey, Document | None] = {}
        self._unreadable: set[ResourceKey] = set()
        self._revision = _FIRST_REVISION

    def changes(self) -> list[Change]:
        """What was written, in the order of the first write of each resource."""
        return [
            Change(key, self._before[key], after.document if after else None, key in self._unreadable)
            for key, after in self._written.items()
        ]

    def get(self, key: ResourceKey) -> Found:
        """The resource, as written here or as stored; NotFoundError, BrokenError."""
        if key not in self._written:
            return self._store.get(key)
        if (found := self._written[key]) is None:
            raise NotFoundError(f"resource does not exist: {key}")
        return Found(key, deepcopy(found.document), found.revision)

    def list(self, kind: str, namespace: str = "") -> tuple[int, list[Found]]:
        """All resources of a kind, as written here or as stored."""
        revision, stored = self._store.list(kind, namespace)
        found = {one.key: one for one in stored} | {
            key: one for key, one in self._written.items() if key.kind == kind and namespace in ("", key.namespace)
        }
        return revision, [one for _, one in sorted(found.items()) if one is not None]

    def create(self, key: ResourceKey, document: Mapping[str, Any]) -> int:
        """Remembers a new resource; AlreadyExistsError."""
        try:
            self.get(key)
        except NotFoundError:
            return self._put(key, document, None)
        except BrokenError:
            pass  # it is there, though nobody can read it
        raise AlreadyExistsError(f"resource already exists: {key}")

    def update(self, key: ResourceKey, document: Mapping[str, Any], revision: int) -> int:
        """Remembers a new version; ConflictError, NotFoundError."""
        return self._put(key, document, self._expected(key, revision))

    def delete(self, key: ResourceKey, revision: int | None = None) -> None:
        """Remembers that a resource is gone; ConflictError, NotFoundError."""
        self._before.setdefault(key, self._expected(key, revision))
        self._written[key] = None

    def peers(self) -> tuple[tuple[str, int], ...]:
        """The real store's."""
        return self._store.peers()

    def close(self) -> None:
        """Closes the real store."""
        self._store.close()

    def _put(self, key: ResourceKey, document: Mapping[str, Any], before: Document | None) -> int:
        self._before.setdefault(key, before)
        self._revision += 1
        self._written[key] = Found(key, deepcopy(stored_form(key, document)), self._revision)
        return self._revision

    def _expected(self, key: ResourceKey, revision: int | None) -> Document | None:
        try:
            found = self.get(key)
        except BrokenError as broken:
            self._unreadable.add(key)
            document, actual = None, broken.revision
        else:
            document, actual = found.document, found.revision
        if revision is not None and revision != actual:
            raise ConflictError(f"update conflict: {key}: revision is {actual}, not {revision}")
        return document
