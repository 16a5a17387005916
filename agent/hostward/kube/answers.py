"""An API server's JSON to values: pages of lists, events of watches, what is served. Strict, and pure; any thread.

What isn't wholly understood is an error, never an empty answer (statements.md kubernetes 4.2 rule 8).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from hostward.kube.errors import ApiError, refusal
from hostward.kube.watching import Name, Object, Resource
from hostward.model.document import DocumentError, read


class Page(Struct, frozen=True):
    """Part of a list; `more` is the token for the next part, "" after the last one. `version` is opaque."""

    objects: Mapping[Name, Object]
    version: str
    more: str


class Change(Struct, frozen=True):
    """One object as it is now; `value` None: it's gone."""

    name: Name
    value: Object | None
    version: str


class Bookmark(Struct, frozen=True):
    """Nothing changed up to `version`."""

    version: str


def read_page(body: bytes, resource: Resource) -> Page:
    """A list's answer. Its items get the list's `apiVersion` and kind, which servers leave out. ApiError (Malformed)."""
    document = _document(body)
    if document.get("kind") != f"{resource.kind}List" or "items" not in document:
        raise _malformed(f"the answer to a list of {resource.plural} is no {resource.kind}List")
    items = document["items"]
    if not isinstance(items, list | None):
        raise _malformed("items isn't a list")
    metadata = _mapping(document, "metadata")
    about = {"apiVersion": document.get("apiVersion"), "kind": resource.kind}
    objects = {}
    for item in items or ():  # null is how Go writes a list that was never filled
        if not isinstance(item, dict):
            raise _malformed("an item isn't an object")
        objects[_name(item, resource)] = about | item
    return Page(objects, _text(metadata, "resourceVersion"), _text(metadata, "continue", needed=False))


def read_event(line: bytes, resource: Resource) -> Change | Bookmark:
    """A line of a watch. ApiError: Malformed, or what an ERROR line says."""
    document = _document(line)
    kind, value = document.get("type"), _mapping(document, "object")
    if kind == "ERROR":
        raise _failure(value)
    if value.get("kind") != resource.kind:
        raise _malformed(f"a watch of {resource.plural} holds an object that is no {resource.kind}")
    version = _text(_mapping(value, "metadata"), "resourceVersion")
    match kind:
        case "BOOKMARK":
            return Bookmark(version)
        case "ADDED" | "MODIFIED":
            return Change(_name(value, resource), value, version)
        case "DELETED":
            return Change(_name(value, resource), None, version)
        case _:
            raise _malformed("an event of unknown type")


def _failure(status: Mapping[str, Any]) -> ApiError:
    """What an ERROR line says. Only the two codes for a version that can't be served mean what they mean in HTTP."""
    code, message = status.get("code"), status.get("message")
    text = message if isinstance(message, str) else ""
    if code == 410 or code == 504:  # noqa: PLR1714 # a set would refuse a code that is a list
        return refusal(code, text)
    return ApiError("ErrorEvent", f"the server ended a watch with an error: {text or 'no message'}")


def read_groups(body: bytes) -> frozenset[str]:
    """The groups with versions (`networking.k8s.io/v1`) that the answer to `/apis` names. ApiError (Malformed)."""
    document = _document(body)
    if document.get("kind") != "APIGroupList":
        raise _malformed("the answer to /apis is no APIGroupList")
    versions = [version for group in _mappings(document, "groups") for version in _mappings(group, "versions")]
    return frozenset(_text(version, "groupVersion") for version in versions)


def read_plurals(body: bytes) -> frozenset[str]:
    """The resources of one group's version. ApiError (Malformed)."""
    document = _document(body)
    if document.get("kind") != "APIResourceList":
        raise _malformed("the answer about a group is no APIResourceList")
    return frozenset(_text(one, "name") for one in _mappings(document, "resources"))


def _document(raw: bytes) -> dict[str, Any]:
    try:
        return read(raw)
    except DocumentError as error:
        raise _malformed(str(error)) from error


def _name(value: Mapping[str, Any], resource: Resource) -> Name:
    metadata = _mapping(value, "metadata")
    return Name(_text(metadata, "namespace") if resource.namespaced else "", _text(metadata, "name"))


def _mapping(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    if not isinstance(found, dict):
        raise _malformed(f"{key} isn't an object")
    return found


def _mappings(value: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = value.get(key)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise _malformed(f"{key} isn't a list of objects")
    return found


def _text(value: Mapping[str, Any], key: str, *, needed: bool = True) -> str:
    found = value.get(key, "")
    if not isinstance(found, str) or (needed and not found):
        raise _malformed(f"{key} isn't a text")
    return found


def _malformed(what: str) -> ApiError:
    return ApiError("Malformed", f"the server's answer isn't understood: {what}")
