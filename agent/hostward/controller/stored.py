"""Stored bytes to documents that decisions can work with, for any bytes at all. Pure; any thread."""

from __future__ import annotations

from typing import Any

from hostward.controller.items import Stored
from hostward.model import document as json_document
from hostward.model.document import DocumentError


def read_stored(raw: bytes, revision: int) -> Stored:
    """A stored value; without a document where its outer form, its labels or its annotations aren't those of a resource."""
    try:
        document = json_document.read(raw)
    except DocumentError:
        return Stored(None, revision)
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(document.get("spec"), dict | None):
        return Stored(None, revision)
    texts = (metadata.get("labels"), metadata.get("annotations"))
    return Stored(document if all(map(_is_texts, texts)) else None, revision)


def _is_texts(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(one, str) for one in value.values()))
