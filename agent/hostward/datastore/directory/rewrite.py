"""Manifests with one resource changed or removed, the rest of the file as its author wrote it. Pure; any thread."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hostward.datastore.directory.manifests import Entry, Manifest, interpret
from hostward.datastore.store import StoreError
from hostward.datastore.yaml_text import to_yaml


def to_manifest(documents: Sequence[dict[str, Any]]) -> str:
    """Documents as YAML, keys in their own order, separated by `---`."""
    return "---\n".join(to_yaml(one, sort_keys=False) for one in documents)


def _to_json(documents: Sequence[dict[str, Any]]) -> str:
    whole: Any = documents[0] if len(documents) == 1 else {"apiVersion": "v1", "kind": "List", "items": documents}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def replaced(name: str, manifest: Manifest, entry: Entry, document: dict[str, Any] | None) -> str | None:
    """The file's text with `document` in place of `entry`, or without it. None if nothing is left of the file.

    The YAML document around it is written anew, the other ones and comments between them are kept. StoreError if the result
    would not read back as meant.
    """
    around = [one for one in manifest.entries if one.raw == entry.raw]
    rest = [document if one is entry else one.document for one in around]
    written = [one for one in rest if one is not None]
    if not written and all(raw.value is None or index == entry.raw for index, raw in enumerate(manifest.raws)):
        return None
    if name.endswith(".json"):
        text = _to_json(written)
    else:
        lines = manifest.text.split("\n")
        raw = manifest.raws[entry.raw]
        begin, end = _core(lines, raw.begin, min(raw.end, len(lines)))
        fresh = to_manifest(written).rstrip("\n").split("\n") if written else []
        if fresh and lines[begin].startswith("--- "):
            fresh = ["---", *fresh]
        text = "\n".join(lines[:begin] + fresh + lines[end:])
    _check(name, text, manifest, entry, document)
    return text


def _core(lines: list[str], begin: int, end: int) -> tuple[int, int]:
    """The lines of a document without the comments, blank lines and markers around it."""

    def outer(line: str) -> bool:
        return not line.strip() or line.lstrip().startswith("#") or line.rstrip() in ("---", "...")

    while begin < end and outer(lines[begin]):
        begin += 1
    while end > begin and outer(lines[end - 1]):
        end -= 1
    return begin, end


def _check(name: str, text: str, before: Manifest, entry: Entry, document: dict[str, Any] | None) -> None:
    expected = [one.key for one in before.entries if one is not entry or document is not None]
    if [one.key for one in interpret(text.encode(), name).entries] != expected:
        raise StoreError(f"{name}: this file can't be changed without changing more; edit it by hand")
