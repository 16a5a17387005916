"""The agent's feed from a directory of manifests, looked at twice a second.

Whatever can't be read keeps its last good version in force: a file that doesn't parse, a directory that vanished or is
suddenly empty (a volume that isn't mounted looks like that). `run` is the body of the feed's own thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final

import structlog

from hostward.datastore.directory.manifests import LOCK, Manifest, Signature, interpret, listing, merge
from hostward.datastore.documents import DocumentError
from hostward.datastore.encode import stored_form, to_json
from hostward.datastore.feed import Changes, Sink, Snapshot, Stored, Unread
from hostward.model import keys
from hostward.model.keys import ResourceKey

POLL: Final = 0.5  # seconds
_SETTLE: Final = 0.1  # a writer that pauses for longer than this may be read half-way
_SETTLE_ROUNDS: Final = 20
_OLDER: Final = "the file's last good version stays in force"
_CLUSTER: Final = ResourceKey("ClusterInformation", "", "default")
_READY: Final = to_json(stored_form(_CLUSTER, {"spec": {"clusterGUID": "dir", "datastoreReady": True}}))

Problem = Callable[[str, str], None]


def _log(path: str, text: str) -> None:
    if text:
        structlog.get_logger().warning("manifest set aside", path=path, reason=text)
    else:
        structlog.get_logger().info("manifest in order again", path=path)


class DirFeed:
    """Feeds the resources of the manifests in `path`, and a ClusterInformation that is always ready (D12).

    `problem(path, text)` is told once per change what is wrong with a file, and "" when nothing is any more. `cache` is a
    directory for the last good version of each file, which serves a new agent that finds it broken.
    """

    def __init__(self, path: Path, *, problem: Problem | None = None, cache: Path | None = None, poll: float = POLL) -> None:
        self._path, self._cache, self._poll = path, cache, poll
        self._tell = problem or _log
        self._told: dict[str, str] = {}
        self._seen: dict[str, Signature] | None = None
        self._digests: dict[str, bytes] = {}
        self._good: dict[str, Manifest] = {}
        self._faults: dict[str, list[str]] = {}
        self._values: dict[str, Stored] = {}
        self._revision = 0

    def peers(self) -> tuple[tuple[str, int], ...]:
        """None: no server is needed."""
        return ()

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Feeds the sink until `stop` is set."""
        while not stop.is_set():
            try:
                names = self._settled(stop)
                if not names and not (self._path / LOCK).exists():
                    sink.lost(f"{self._path} holds no manifests; if that is meant, put an empty file none.yaml there")
                else:
                    if names != self._seen:
                        self._absorb(names, sink)
                    sink.contact()
            except OSError as error:
                sink.lost(f"{error.filename or self._path}: {error.strerror or error}")
            stop.wait(self._poll)

    def _settled(self, stop: threading.Event) -> dict[str, Signature]:
        """The listing; after a change, once nothing changes any more, so that files are seldom read half-written."""
        names = listing(self._path)
        for _ in range(_SETTLE_ROUNDS):
            if names == self._seen or stop.wait(_SETTLE):
                break
            again = listing(self._path)
            if again == names:
                break
            names = again
        return names

    def _absorb(self, names: dict[str, Signature], sink: Sink) -> None:
        contents = {name: self._content(name) for name in names}
        changed = self._seen is None
        if changed:
            self._forget_all_but(names)
        for name in self._digests.keys() - names.keys():
            changed = True
            del self._digests[name]
            self._good.pop(name, None)
            self._faults.pop(name, None)
            self._forget(name)
        for name, content in contents.items():
            digest = blake2b(content if isinstance(content, bytes) else content.encode()).digest()
            if self._digests.get(name) != digest:
                changed = True
                self._digests[name] = digest
                self._take(name, content)
        if changed:
            self._publish(sink)
        self._seen = names

    def _content(self, name: str) -> bytes | str:
        """A file's content, or why it can't be read. A file that went meanwhile ends this look; the next one is settled."""
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            return f"{self._path / name}: {error.strerror or error}"

    def _take(self, name: str, content: bytes | str) -> None:
        fresh: Manifest | None = None
        if isinstance(content, bytes):
            try:
                fresh = interpret(content, str(self._path / name))
            except DocumentError as error:
                wrong = [str(error)]
            else:
                wrong = list(fresh.unknown)
                if not wrong:
                    self._good[name] = fresh
                    self._faults[name] = list(fresh.faults)
                    self._remember(name, content)
                    return
        else:
            wrong = [content]
        known = self._good.get(name)
        if known is None or known.unknown:
            known = self._remembered(name)
        if known is not None:
            self._good[name] = known
            self._faults[name] = [*wrong, _OLDER]
        elif fresh is not None:  # never good as a whole: what can be told apart is better than nothing
            self._good[name] = fresh
            self._faults[name] = [*wrong, *fresh.faults]
        else:
            self._faults[name] = wrong

    # --- the cache: a help for the next agent, never in the way of this one ------------------------------------------------
    def _remember(self, name: str, content: bytes) -> None:
        if self._cache:
            with self._without_fail():
                self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
                fresh = self._cache / f".{name}.new"
                fresh.write_bytes(content)
                os.replace(fresh, self._cache / name)

    def _forget(self, name: str) -> None:
        if self._cache:
            with self._without_fail():
                (self._cache / name).unlink(missing_ok=True)

    def _forget_all_but(self, names: Collection[str]) -> None:
        """What was removed while no agent ran is gone for good: a broken file of that name has no last good version."""
        if self._cache:
            with self._without_fail(), suppress(FileNotFoundError):
                for path in self._cache.iterdir():
                    if path.name not in names:
                        path.unlink()

    @contextmanager
    def _without_fail(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            structlog.get_logger().warning("manifests are not kept over a restart", cache=str(self._cache), error=str(error))

    def _remembered(self, name: str) -> Manifest | None:
        if self._cache is None:
            return None
        try:
            return interpret((self._cache / name).read_bytes(), str(self._path / name))
        except (OSError, DocumentError):
            return None

    def _publish(self, sink: Sink) -> None:
        self._revision += 1
        faults = {name: list(texts) for name, texts in self._faults.items() if texts}
        values = {keys.path(_CLUSTER): _READY}
        for name, entry, first in merge(self._good):
            if first is not None:
                faults.setdefault(name, []).append(
                    f"{entry.source.where()}: {entry.key} is already in {first.where()}, which counts"
                )
            elif entry.key != _CLUSTER:
                values[keys.path(entry.key)] = to_json(stored_form(entry.key, entry.document))
        fresh = {
            path: self._values[path]
            if path in self._values and self._values[path].value == value
            else Stored(value, self._revision)
            for path, value in values.items()
        }
        changes: dict[str, Stored | None] = {path: one for path, one in fresh.items() if self._values.get(path) is not one}
        changes |= dict.fromkeys(self._values.keys() - fresh.keys())
        self._values = fresh
        if self._seen is None:
            sink.snapshot(Snapshot(self._revision, dict(fresh)))
        else:
            sink.changes(Changes(self._revision, changes))
        sink.unread(
            {
                str(self._path / name): Unread("; ".join(text for text in texts if text != _OLDER), _OLDER in texts)
                for name, texts in faults.items()
            }
        )
        self._report({name: "; ".join(texts) for name, texts in faults.items()})

    def _report(self, faults: dict[str, str]) -> None:
        for name in sorted(faults.keys() | self._told.keys()):
            if faults.get(name, "") != self._told.get(name, ""):
                self._tell(str(self._path / name), faults.get(name, ""))
        self._told = faults
