"""Stored bytes to documents that decisions can work with, for any bytes at all. Pure; any thread."""

from __future__ import annotations

import json
from typing import Any

from hostward.controller.items import Stored
from hostward.model import document as json_document
from hostward.model.decode import decode
from hostward.model.document import DocumentError
from hostward.model.keys import ResourceKey


def read_stored(raw: bytes, revision: int) -> Stored:
    """A stored value; without a document if it is no JSON object."""
    try:
        return Stored(json_document.read(raw), revision)
    except DocumentError:
        return Stored(None, revision)


def sound(stored: Stored) -> Stored:
    """A stored value as decisions take it: without a document where its outer form isn't that of a resource."""
    document = stored.document or {}
    metadata, spec = document.get("metadata"), document.get("spec")
    if not isinstance(metadata, dict | None) or not isinstance(spec, dict | None):
        return Stored(None, stored.revision)
    texts = [(metadata or {}).get(name) for name in ("labels", "annotations")]
    return stored if all(map(_is_texts, texts)) else Stored(None, stored.revision)


def understood(key: ResourceKey, stored: Stored) -> bool:
    """Whether an agent understands a stored value without reserve."""
    return stored.document is not None and not decode(key, json.dumps(stored.document).encode()).problems


def _is_texts(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(one, str) for one in value.values()))
