"""A strict datastore.store.Store in memory: whole-store revisions, compare-and-swap, and races that a test provokes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from hostward.datastore.store import AlreadyExistsError, BrokenError, ConflictError, Found, NotFoundError, StoreError
from hostward.model.keys import KINDS, ResourceKey


class MemoryStore:
    """Holds JSON texts, so that nothing is shared with the caller. `before_write` runs before each write, once per setting."""

    def __init__(self) -> None:
        self.revision = 1
        self.objects: dict[ResourceKey, tuple[str, int]] = {}
        self.before_write: Callable[[], None] | None = None
        self.down = ""
        self.closed = False
        self.served: tuple[tuple[str, int], ...] = ()

    def _check(self, key: ResourceKey | None = None, *, write: bool = False) -> None:
        if self.down:
            raise StoreError(self.down)
        if key is not None and (not key.name or "/" in key.name or bool(key.namespace) != KINDS[key.kind].namespaced):
            raise AssertionError(f"no key of a resource: {key!r}")
        if write and (race := self.before_write):
            self.before_write = None
            race()

    def put(self, key: ResourceKey, document: Mapping[str, Any]) -> int:
        """Somebody else's write: blind."""
        self.revision += 1
        self.objects[key] = (json.dumps(document), self.revision)
        return self.revision

    def get(self, key: ResourceKey) -> Found:
        self._check(key)
        if key not in self.objects:
            raise NotFoundError(f"not there: {key}")
        text, revision = self.objects[key]
        if not text.startswith("{"):
            raise BrokenError(key, revision)
        return Found(key, json.loads(text), revision)

    def list(self, kind: str, namespace: str = "") -> tuple[int, list[Found]]:
        self._check()
        keys = [key for key in sorted(self.objects) if key.kind == kind and namespace in ("", key.namespace)]
        return self.revision, [self.get(key) for key in keys if self.objects[key][0].startswith("{")]

    def peers(self) -> tuple[tuple[str, int], ...]:
        return self.served

    def create(self, key: ResourceKey, document: Mapping[str, Any]) -> int:
        self._check(key, write=True)
        if key in self.objects:
            raise AlreadyExistsError(f"there already: {key}")
        metadata = {"uid": f"uid-{self.revision}", "creationTimestamp": "2026-01-02T03:04:05Z"} | document["metadata"]
        return self.put(key, {**document, "metadata": metadata})

    def update(self, key: ResourceKey, document: Mapping[str, Any], revision: int) -> int:
        self._check(key, write=True)
        self._compare(key, revision)
        return self.put(key, document)

    def delete(self, key: ResourceKey, revision: int | None = None) -> None:
        self._check(key, write=True)
        self._compare(key, revision)
        self.revision += 1
        del self.objects[key]

    def _compare(self, key: ResourceKey, revision: int | None) -> None:
        if key not in self.objects:
            raise NotFoundError(f"not there: {key}")
        if revision is not None and self.objects[key][1] != revision:
            raise ConflictError(f"update conflict: {key}")

    def close(self) -> None:
        self.closed = True
