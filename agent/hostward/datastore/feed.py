"""What a datastore gives the agent: one snapshot at a revision, then every change after it, none twice and none missed.

etcd and a directory of manifests both implement `Feed`; the agent knows only this module. A feed runs in a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct


class Stored(Struct, frozen=True):
    """A stored value: the JSON bytes, and the revision that wrote them."""

    value: bytes
    revision: int


class Snapshot(Struct, frozen=True):
    """Everything under the resources' root at one revision: datastore key to value. Replaces all that was known."""

    revision: int
    objects: Mapping[str, Stored]


class Changes(Struct, frozen=True):
    """All changes of the revisions after the last one up to `revision`, whole revisions only; None deletes.

    Also sent, with no changes, when only the revision moved on.
    """

    revision: int
    objects: Mapping[str, Stored | None]


class Unread(Struct, frozen=True):
    """Why a file isn't wholly understood, and whether its last good version is in force instead."""

    reason: str
    older_in_force: bool


class Sink(Protocol):
    """Where a feed puts what it learns. Called from the feed's thread; must not block."""

    def snapshot(self, snapshot: Snapshot) -> None:
        """A complete state; also after a compaction, a restore or a long loss."""

    def changes(self, changes: Changes) -> None:
        """What changed since the last call."""

    def contact(self) -> None:
        """The store has just confirmed that nothing newer was missed."""

    def lost(self, reason: str) -> None:
        """The store can't be reached or refuses; the feed goes on trying."""

    def unread(self, files: Mapping[str, Unread]) -> None:
        """All files, by path, that aren't wholly understood now; of a store without files never called."""


class Feed(Protocol):
    """A source of snapshots and changes."""

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Feeds the sink until `stop` is set. Trouble with the store is reported and retried, never raised."""

    def peers(self) -> tuple[tuple[str, int], ...]:
        """The store's own addresses and ports (IP texts, names resolved), for automatic failsafes (D8); last ones kept."""
