"""Texts of manifests to objects, each with the place where it stood; lists and sequences are taken apart.

Knows the outer form of documents (`kind`, `apiVersion`, `items`), not what is inside; reads no files; any thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from hostward.datastore.yaml12 import DocumentError, RawDocument, Source, join, read

__all__ = ["DocumentError", "Parsed", "Source", "objects", "parse"]

_LIST_DEPTH = 3


class Parsed(NamedTuple):
    """One object of a file, and where it stood."""

    document: dict[str, Any]
    source: Source


def parse(text: str | bytes, file: str) -> list[Parsed]:
    """All objects in a text, in order: of several documents, of top-level sequences, of `List` (v1) and `<Kind>List`.

    Empty documents are left out. DocumentError (`file:line: reason`) for everything else that is no mapping. An item without
    `apiVersion` or `kind` has those of its `<Kind>List`.
    """
    return [parsed for raw in read(text, file) for parsed in objects(raw)]


def objects(raw: RawDocument) -> Iterator[Parsed]:
    """The objects of one document, lists taken apart."""
    if raw.value is not None:
        yield from _objects(raw.value, raw.source, 0)


def _objects(value: Any, source: Source, depth: int) -> Iterator[Parsed]:
    inherited: dict[str, Any] = {}
    steps = source.prefix
    if isinstance(value, list):
        items = value
    elif not isinstance(value, dict):
        raise DocumentError(source.file, source.line(), f"expected a mapping or a list of mappings, not {_what(value)}")
    elif not _is_list(value):
        yield Parsed(value, source)
        return
    else:
        items = value.get("items") or []
        if not isinstance(items, list):
            raise DocumentError(source.file, source.line("items"), f"items: expected a list, not {_what(items)}")
        kind = value["kind"].removesuffix("List")
        if kind:
            inherited = {"apiVersion": value.get("apiVersion"), "kind": kind}
        steps = join(source.prefix, "items")
    if depth >= _LIST_DEPTH:
        raise DocumentError(source.file, source.line(), f"lists are nested more than {_LIST_DEPTH} deep")
    for index, item in enumerate(items):
        filled = inherited | item if isinstance(item, dict) else item
        yield from _objects(filled, Source(source.file, source.number, f"{steps}[{index}]", source.lines), depth + 1)


def _is_list(value: dict[str, Any]) -> bool:
    kind = value.get("kind")
    if not isinstance(kind, str) or not kind.endswith("List"):
        return False
    return kind != "List" or value.get("apiVersion") == "v1"


def _what(value: object) -> str:
    names = {str: "a text", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return names.get(type(value), "nothing")
