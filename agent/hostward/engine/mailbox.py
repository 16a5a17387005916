"""Where feeds leave what they learned until the engine takes it: one pending value a resource, the newest wins.

Put from any thread, taken by the engine thread. Memory is bounded by the number of resources, however slow a commit is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from msgspec import Struct, field

from hostward.datastore.feed import Changes, Snapshot, Stored, Unread
from hostward.model.links import Link


class Batch(Struct, frozen=True):
    """All that came since the last one. `snapshot`: `objects` is everything, not a difference. `revision` is the newest.

    `since`: when the first of it came, on the monotonic clock.
    """

    snapshot: bool = False
    objects: Mapping[str, Stored | None] = field(default_factory=dict)
    revision: int | None = None
    links: Mapping[str, Link] | None = None
    since: float = 0.0


class Mailbox:
    """Implements `feed.Sink`. `contact_at` is when the store last confirmed itself, on the monotonic clock; None before."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._snapshot = False
        self._objects: dict[str, Stored | None] = {}
        self._revision: int | None = None
        self._links: Mapping[str, Link] | None = None
        self._nudged = False
        self._since = 0.0
        self.newest_revision = 0
        self.contact_at: float | None = None
        self.trouble: str | None = None
        self.files: Mapping[str, Unread] = {}

    def snapshot(self, snapshot: Snapshot) -> None:
        """Replaces everything that was pending."""
        with self._condition:
            self._begin()
            self._snapshot, self._objects = True, dict(snapshot.objects)
            self._arrived(snapshot.revision)

    def changes(self, changes: Changes) -> None:
        """Adds changes to what is pending."""
        with self._condition:
            self._begin()
            if self._snapshot:
                for key, stored in changes.objects.items():
                    if stored is None:
                        self._objects.pop(key, None)
                    else:
                        self._objects[key] = stored
            else:
                self._objects.update(changes.objects)
            self._arrived(changes.revision)

    def _begin(self) -> None:
        if not self._pending():
            self._since = time.monotonic()

    def _arrived(self, revision: int) -> None:
        self._revision = self.newest_revision = revision
        self._confirm()
        self._condition.notify()

    def _confirm(self) -> None:
        self.contact_at = time.monotonic()
        self.trouble = None

    def contact(self) -> None:
        """The store confirmed that nothing newer was missed."""
        with self._condition:
            self._confirm()

    def lost(self, reason: str) -> None:
        """The store can't be reached; said again by status and readiness until it is back."""
        with self._condition:
            self.trouble = reason

    def unread(self, files: Mapping[str, Unread]) -> None:
        """The files that aren't wholly understood now; said by status and metrics."""
        self.files = files

    def links(self, links: Mapping[str, Link]) -> None:
        """The whole new link table."""
        with self._condition:
            self._begin()
            self._links = links
            self._condition.notify()

    def nudge(self) -> None:
        """Makes a waiting `take` return."""
        with self._condition:
            self._nudged = True
            self._condition.notify()

    def has_something(self) -> bool:
        """Whether `take` would answer at once with a batch."""
        with self._condition:
            return self._pending()

    def take(self, timeout: float) -> Batch | None:
        """All that is pending, as soon as there is any; None after `timeout` seconds or a nudge without any."""
        with self._condition:
            self._condition.wait_for(lambda: self._nudged or self._pending(), max(timeout, 0))
            self._nudged = False
            if not self._pending():
                return None
            batch = Batch(self._snapshot, self._objects, self._revision, self._links, self._since)
            self._snapshot, self._objects, self._revision, self._links = False, {}, None, None
            return batch

    def _pending(self) -> bool:
        return self._snapshot or self._revision is not None or self._links is not None
