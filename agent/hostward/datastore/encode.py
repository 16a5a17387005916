"""Documents to the bytes that are stored, as Calico's own client writes them (`datamodel-and-cli.md` A.2). Pure; any thread."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hostward.model.keys import API_VERSION, ResourceKey

_FIRST = ("kind", "apiVersion", "metadata", "spec", "status")
_NOT_STORED = ("resourceVersion", "selfLink")


def stored_form(key: ResourceKey, document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as it is stored under `key`: kind and apiVersion forced, keys in Calico's order."""
    metadata = {name: value for name, value in (document.get("metadata") or {}).items() if name not in _NOT_STORED}
    metadata = {"name": key.name} | ({"namespace": key.namespace} if key.namespace else {}) | metadata
    filled: dict[str, Any] = {**document, "kind": key.kind, "apiVersion": API_VERSION, "metadata": metadata}
    ordered = [name for name in _FIRST if name in filled] + sorted(name for name in filled if name not in _FIRST)
    return {name: _integral(filled[name]) for name in ordered}


def to_json(document: Mapping[str, Any]) -> bytes:
    """Compact JSON; integral numbers are written without a fraction."""
    return json.dumps(_integral(document), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        "utf-8", "backslashreplace"
    )


def _integral(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, Mapping):
        return {name: _integral(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_integral(one) for one in value]
    return value
