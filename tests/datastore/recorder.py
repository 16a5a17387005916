"""A sink that keeps what a feed says, checks that nothing comes twice, and waits for what should come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from hostward.datastore.feed import Changes, Feed, Snapshot, Stored, Unread

WITHIN = 30.0


class Recorder:
    """Usable from any thread. `state` is what the feed's words add up to."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self.state: dict[str, Stored] = {}
        self.snapshots: list[Snapshot] = []
        self.changed: list[Changes] = []
        self.contacts = 0
        self.losses: list[str] = []
        self.revision = 0
        self.errors: list[str] = []
        self.files: Mapping[str, Unread] = {}

    def snapshot(self, snapshot: Snapshot) -> None:
        with self._news:
            self.snapshots.append(snapshot)
            self.state, self.revision = dict(snapshot.objects), snapshot.revision
            self._news.notify_all()

    def changes(self, changes: Changes) -> None:
        with self._news:
            if not self.snapshots:
                self.errors.append("changes before the first snapshot")
            if changes.revision <= self.revision:
                self.errors.append(f"revision {changes.revision} after {self.revision}")
            for key, stored in changes.objects.items():
                if stored is None:
                    # What came and went within several revisions is heard of as gone alone.
                    if self.state.pop(key, None) is None and changes.revision == self.revision + 1:
                        self.errors.append(f"{key} deleted, but it wasn't there")
                    continue
                before = self.state.get(key)
                if stored.revision > changes.revision or (before is not None and before.revision >= stored.revision):
                    self.errors.append(f"{key} at {stored.revision} in {changes.revision}, after {before}")
                self.state[key] = stored
            self.revision = changes.revision
            self.changed.append(changes)
            self._news.notify_all()

    def contact(self) -> None:
        with self._news:
            self.contacts += 1
            self._news.notify_all()

    def unread(self, files: Mapping[str, Unread]) -> None:
        with self._news:
            self.files = files
            self._news.notify_all()

    def lost(self, reason: str) -> None:
        with self._news:
            self.losses.append(reason)
            self._news.notify_all()

    def wait(self, what: Callable[[], object], why: str = "") -> None:
        """Waits until `what` is true; fails with all that was heard."""
        with self._news:
            assert self._news.wait_for(what, WITHIN), (
                f"{why}: {self.revision=} {self.losses=} {len(self.snapshots)=} {self.state.keys()}"
            )
        assert not self.errors, self.errors

    def wait_for(self, key: str, value: bytes | None) -> None:
        """Waits until a key has a value (or is gone)."""
        self.wait(lambda: (self.state[key].value if key in self.state else None) == value, f"{key} = {value!r}")


@contextmanager
def running(feed: Feed) -> Iterator[Recorder]:
    """Runs a feed in a thread until the end of the block; it must stop, without an error."""
    recorder, stop = Recorder(), threading.Event()
    failures: list[BaseException] = []

    def body() -> None:
        try:
            feed.run(recorder, stop)
        except BaseException as error:  # noqa: BLE001 # handed to the test, which raises it
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield recorder
    finally:
        stop.set()
        thread.join(WITHIN)
    assert not thread.is_alive(), "the feed didn't stop"
    if failures:
        raise failures[0]
    assert not recorder.errors, recorder.errors
