"""The manifests of one directory: which files count, and what one holds, as v3 resources with their places.

v1 documents are converted, valid ones are filled in as the writing verbs do. Reads no files but for the listing; any thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec import Struct

from hostward.convert import defaults, v1, validate, workload_names
from hostward.datastore.documents import Parsed, Source, objects
from hostward.datastore.yaml12 import RawDocument, read
from hostward.model.keys import API_VERSION, KINDS, ResourceKey

LOCK: Final = ".hostward.lock"
_SUFFIXES: Final = (".yaml", ".yml", ".json")


class Signature(NamedTuple):
    """What changes when a file does, as far as the file system tells."""

    modified: int
    changed: int
    size: int
    inode: int


class Entry(NamedTuple):
    """A resource in a manifest: its v3 document, where it stood, and the index of the YAML document that it is part of."""

    key: ResourceKey
    document: dict[str, Any]
    source: Source
    raw: int


class Manifest(Struct, frozen=True):
    """One file. `unknown` are objects that can't be told from any other; `faults` are those of objects that were kept."""

    text: str
    raws: tuple[RawDocument, ...]
    entries: tuple[Entry, ...]
    unknown: tuple[str, ...]
    faults: tuple[str, ...]


def listing(directory: Path) -> dict[str, Signature]:
    """The manifests of a directory by file name, in name order; no subdirectories, dotfiles or editors' backups. OSError."""
    found = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(".") or not entry.name.endswith(_SUFFIXES):
                continue
            try:
                about = entry.stat()
            except FileNotFoundError:
                continue  # removed between the listing and the look, or a dangling link
            if entry.is_file():
                found[entry.name] = Signature(about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_ino)
    return dict(sorted(found.items()))


def interpret(content: bytes, file: str) -> Manifest:
    """What a file holds. DocumentError if it isn't YAML or JSON at all."""
    raws = read(content, file)
    entries: list[Entry] = []
    unknown: list[str] = []
    faults: list[str] = []
    for index, raw in enumerate(raws):
        for parsed in objects(raw):
            try:
                document = workload_names.named(_v3(parsed))
            except v1.V1Error as error:
                unknown += [f"{parsed.source.where(one.path)}: {one}" for one in error.problems]
                continue
            key = key_of(document)
            if key is None:
                unknown.append(f"{parsed.source.where('kind')}: {_why_unknown(document)}")
                continue
            if wrong := validate.problems(document):
                faults += [f"{parsed.source.where(one.path)}: {key}: {one}" for one in wrong]
            else:
                document = defaults.filled(document)
            entries.append(Entry(key, document, parsed.source, index))
    text = content.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
    return Manifest(text, tuple(raws), tuple(entries), tuple(unknown), tuple(faults))


def _v3(parsed: Parsed) -> dict[str, Any]:
    return v1.to_v3(parsed.document).document if v1.is_v1(parsed.document) else parsed.document


def key_of(document: dict[str, Any]) -> ResourceKey | None:
    """The key of a v3 document, whatever else is wrong with it. None if kind or name don't say."""
    kind, metadata = KINDS.get(_text(document.get("kind"))), document.get("metadata")
    if kind is None or document.get("apiVersion") != API_VERSION or not isinstance(metadata, dict):
        return None
    name, namespace = _text(metadata.get("name")), _text(metadata.get("namespace"))
    if not name or "/" in name or "/" in namespace:
        return None
    return ResourceKey(kind.name, (namespace or "default") if kind.namespaced else "", name)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _why_unknown(document: dict[str, Any]) -> str:
    kind, version = document.get("kind"), document.get("apiVersion")
    if _text(kind) in KINDS and version == API_VERSION:
        return f"{kind} without a usable metadata.name"
    return f"unknown resource type ({kind}) and/or version ({version})"


def merge(manifests: dict[str, Manifest]) -> Iterator[tuple[str, Entry, Source | None]]:
    """All entries by file name and place. The first of a key counts; later ones come with the place of the first."""
    first: dict[ResourceKey, Source] = {}
    for name in sorted(manifests):
        for entry in manifests[name].entries:
            yield name, entry, first.get(entry.key)
            first.setdefault(entry.key, entry.source)
