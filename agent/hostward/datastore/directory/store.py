"""The command line's store in a directory of manifests: one file per new resource, others changed where they are.

Writers exclude each other by a lock file; a file is replaced by renaming, so that readers see the old one or the new one.
A resource's revision is a digest of its document. Any thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

from hostward.datastore.directory.manifests import LOCK, Entry, Manifest, interpret, listing, merge
from hostward.datastore.directory.rewrite import replaced, to_manifest
from hostward.datastore.documents import DocumentError
from hostward.datastore.encode import stored_form, to_json
from hostward.datastore.store import AlreadyExistsError, ConflictError, Found, NotFoundError, StoreError
from hostward.model.keys import ResourceKey

_LOCK_WITHIN: Final = 10.0  # seconds
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class _State(NamedTuple):
    """A reading of the whole directory. `broken` says what is wrong with files that can't be read as a whole."""

    manifests: dict[str, Manifest]
    resources: dict[ResourceKey, tuple[str, Entry]]
    broken: tuple[str, ...]


def _revision(*documents: Mapping[str, Any]) -> int:
    """52 bits, so that every JSON reader keeps it whole."""
    digest = blake2b(digest_size=8)
    for document in documents:
        digest.update(to_json(document))
    return (int.from_bytes(digest.digest(), "big") >> 12) or 1


class DirStore:
    """A store.Store in the directory `path`, which must exist."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _read(self) -> _State:
        manifests, broken = {}, []
        try:
            names = listing(self._path)
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror or error}") from error
        for name in names:
            file = str(self._path / name)
            try:
                manifests[name] = interpret((self._path / name).read_bytes(), file)
            except FileNotFoundError:
                continue
            except OSError as error:
                broken.append(f"{file}: {error.strerror or error}")
            except DocumentError as error:
                broken.append(str(error))
            else:
                broken += manifests[name].unknown
        resources = {entry.key: (name, entry) for name, entry, first in merge(manifests) if first is None}
        return _State(manifests, resources, tuple(broken))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[_State]:
        """The directory's state while no other writer changes it. Nothing is written beside files that nobody understands."""
        try:
            lock = os.open(self._path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"{self._path / LOCK}: {error.strerror or error}") from error
        try:
            deadline = time.monotonic() + _LOCK_WITHIN
            while not _try_lock(lock):
                if time.monotonic() > deadline:
                    raise StoreError(f"{self._path / LOCK}: held by another writer for more than {_LOCK_WITHIN:g} s")
                time.sleep(0.01)
            state = self._read()
            if state.broken:
                raise StoreError("nothing is written beside manifests that can't be read: " + "; ".join(state.broken))
            yield state
        except OSError as error:
            raise StoreError(f"{error.filename or self._path}: {error.strerror or error}") from error
        finally:
            os.close(lock)

    def broken(self) -> tuple[str, ...]:
        """What is wrong with the manifests that can't be read. StoreError."""
        return self._read().broken

    def get(self, key: ResourceKey) -> Found:
        """The resource with this key; NotFoundError."""
        state = self._read()
        if key not in state.resources:
            unread = f" (can't be read: {'; '.join(state.broken)})" if state.broken else ""
            raise NotFoundError(f"resource does not exist: {key}{unread}")
        return _found(state.resources[key][1])

    def list(self, kind: str, namespace: str = "") -> tuple[int, list[Found]]:
        """All resources of a kind (in a namespace), sorted by key, and a digest of all; what can't be read is left out."""
        found = [
            _found(entry)
            for key, (_, entry) in sorted(self._read().resources.items())
            if key.kind == kind and namespace in ("", key.namespace)
        ]
        return _revision(*(one.document for one in found)), found

    def create(self, key: ResourceKey, document: Mapping[str, Any]) -> int:
        """Writes a new file; the resource's revision. AlreadyExistsError."""
        with self._locked() as state:
            if key in state.resources:
                raise AlreadyExistsError(f"resource already exists: {key}")
            name = _file_name(key, state)
            return self._put(name, key, to_manifest([stored_form(key, document)]))

    def update(self, key: ResourceKey, document: Mapping[str, Any], revision: int) -> int:
        """Replaces a resource that still has `revision`, in its file; the new revision. ConflictError, NotFoundError."""
        with self._locked() as state:
            name, entry = _expected(state, key, revision)
            text = replaced(name, state.manifests[name], entry, stored_form(key, document))
            return self._put(name, key, text or "")

    def delete(self, key: ResourceKey, revision: int | None = None) -> None:
        """Removes a resource from its file, and the file with its last one. ConflictError, NotFoundError."""
        with self._locked() as state:
            name, entry = _expected(state, key, revision)
            text = replaced(name, state.manifests[name], entry, None)
            if text is None:
                (self._path / name).unlink()
            else:
                self._write(name, text)

    def peers(self) -> tuple[tuple[str, int], ...]:
        """None: no server is needed."""
        return ()

    def close(self) -> None:
        """Nothing is held between calls."""

    def _put(self, name: str, key: ResourceKey, text: str) -> int:
        self._write(name, text)
        entries = interpret(text.encode(), name).entries
        return next(_found(entry).revision for entry in entries if entry.key == key)

    def _write(self, name: str, text: str) -> None:
        target, fresh = self._path / name, self._path / f".{name}.new"
        with fresh.open("w", encoding="utf-8") as file:
            if target.exists():
                os.fchmod(file.fileno(), target.stat().st_mode & 0o7777)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, target)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _found(entry: Entry) -> Found:
    return Found(entry.key, entry.document, _revision(entry.document))


def _expected(state: _State, key: ResourceKey, revision: int | None) -> tuple[str, Entry]:
    if key not in state.resources:
        raise NotFoundError(f"resource does not exist: {key}")
    name, entry = state.resources[key]
    if revision is not None and _revision(entry.document) != revision:
        raise ConflictError(f"update conflict: {key}: revision is {_revision(entry.document)}, not {revision}")
    return name, entry


def _file_name(key: ResourceKey, state: _State) -> str:
    stem = ".".join(filter(None, (key.kind.lower(), key.namespace, key.name)))
    if not _FILE_NAME.fullmatch(stem):
        raise StoreError(f"{key}: this name can't be that of a file")
    numbered = (f"{stem}{number}.yaml" for number in ("", *(f"-{again}" for again in range(2, 1000))))
    return next(name for name in numbered if name not in state.manifests)
