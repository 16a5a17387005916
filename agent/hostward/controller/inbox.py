"""What reflectors and the feed have said, until the reconcile thread takes it. Any thread.

One pending value an object, the newest: however long a round takes, memory is bounded by the number of objects.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Generic, TypeVar

from msgspec import Struct, field

from hostward.controller.facts import RELEVANT
from hostward.datastore.feed import Changes, Snapshot
from hostward.datastore.feed import Stored as Raw
from hostward.kube.watching import Name, Object, Resource
from hostward.model import keys
from hostward.model.keys import ResourceKey

K = TypeVar("K")
V = TypeVar("V")


class Pending(Struct, Generic[K, V]):
    """Values by key; None: gone. `whole`: what isn't among them is gone, too."""

    whole: bool = False
    values: dict[K, V | None] = field(default_factory=dict)

    def replace(self, values: Mapping[K, V]) -> None:
        """Everything that there is."""
        self.whole, self.values = True, dict(values)

    def change(self, key: K, value: V | None) -> None:
        """One key as it is now."""
        self.values[key] = value

    def present(self) -> dict[K, V]:
        """The values that are there."""
        return {key: value for key, value in self.values.items() if value is not None}


class Batch(Struct):
    """All that has come since the last one: objects by kind, and what is stored, None when nothing came of it."""

    objects: dict[str, Pending[Name, Object]] = field(default_factory=dict)
    stored: Pending[ResourceKey, Raw] | None = None


class Inbox:
    """The sink of all reflectors; `store` is that of the feed."""

    def __init__(self, kinds: Collection[str]) -> None:
        self._news = threading.Condition()
        self._batch = Batch()
        self._troubles: dict[str, str] = dict.fromkeys(kinds, "isn't listed yet")
        self._nudged = False
        self.store = StoreSink(self)

    # --- reflectors
    def replaced(self, resource: Resource, objects: Mapping[Name, Object]) -> None:
        """A complete list."""
        with self._news:
            self._batch.objects.setdefault(resource.kind, Pending()).replace(objects)
            self._troubles[resource.kind] = ""
            self._news.notify_all()

    def changed(self, resource: Resource, name: Name, value: Object | None) -> None:
        """One object as it is now; None: it's gone."""
        with self._news:
            self._batch.objects.setdefault(resource.kind, Pending()).change(name, value)
            self._news.notify_all()

    def contact(self, resource: Resource) -> None:
        """The server has answered. A list that isn't complete yet is no end of what troubles us."""
        with self._news:
            if self._troubles[resource.kind].startswith("lost: "):
                self._troubles[resource.kind] = ""

    def lost(self, resource: Resource, reason: str) -> None:
        """The server can't be asked; what is known stays."""
        with self._news:
            before = self._troubles[resource.kind]
            word = "lost" if not before or before.startswith("lost: ") else "isn't listed yet"
            self._troubles[resource.kind] = f"{word}: {reason}"

    # --- the reconcile thread
    def take(self, seconds: float) -> Batch:
        """What has come; waits up to `seconds` for something."""
        with self._news:
            self._news.wait_for(lambda: self._nudged or self._batch.objects or self._batch.stored, seconds)
            batch, self._batch, self._nudged = self._batch, Batch(), False
            return batch

    def nudge(self) -> None:
        """Ends a wait."""
        with self._news:
            self._nudged = True
            self._news.notify_all()

    def troubles(self) -> dict[str, str]:
        """By kind, why its objects may not be known as they are; without those about which nothing is wrong."""
        with self._news:
            return {kind: text for kind, text in self._troubles.items() if text}


class StoreSink:
    """The feed's sink. Keeps only what decisions look at."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.trouble = "isn't read yet"
        """Why the store may not be known as it is; empty when it is."""

    def snapshot(self, snapshot: Snapshot) -> None:
        """A complete state."""
        with self._inbox._news:
            pending = self._inbox._batch.stored = Pending()
            pending.replace({key: raw for path, raw in snapshot.objects.items() if (key := _relevant(path)) is not None})
            self.trouble = ""
            self._inbox._news.notify_all()

    def changes(self, changes: Changes) -> None:
        """What changed since."""
        with self._inbox._news:
            for path, raw in changes.objects.items():
                if (key := _relevant(path)) is not None:
                    if self._inbox._batch.stored is None:
                        self._inbox._batch.stored = Pending()
                    self._inbox._batch.stored.change(key, raw)
            self._inbox._news.notify_all()

    def contact(self) -> None:
        """The store has confirmed that nothing newer was missed."""
        self.trouble = ""

    def lost(self, reason: str) -> None:
        """The store can't be followed for now."""
        self.trouble = f"lost: {reason}"

    def unread(self, files: object) -> None:
        """The controller's store is etcd, which has no files."""


def _relevant(path: str) -> ResourceKey | None:
    key = keys.parse(path)
    return key if key is not None and key.kind in RELEVANT else None
