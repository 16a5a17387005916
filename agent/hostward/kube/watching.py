"""What watching a Kubernetes API server hands over: resources, names, raw objects, and the sink that takes them. No I/O.

Values are made by reflectors, each in a thread of its own; the sink is called from all of these threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

Object = Mapping[str, Any]
"""An object as the server gave it (or as `project` left it). Lists leave `apiVersion` and `kind` out of their items: they are
filled in before `project` sees them, so that a listed object and a watched one are equal."""


class Name(NamedTuple):
    """Which object of a resource; `namespace` is "" for cluster-scoped ones."""

    namespace: str
    name: str


class Resource(Struct, frozen=True):
    """One kind of object at the API server: `Resource("/apis/networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")`."""

    path: str
    """Group and version, without a slash at the end; `/api/v1` for the core group."""
    plural: str
    kind: str
    namespaced: bool = True
    older: tuple[str, ...] = ()
    """Further paths, tried in this order where `path` isn't served; an object's `apiVersion` says which one answered."""


class Sink(Protocol):
    """Takes what reflectors learn. Called from several threads, for one resource never twice at a time; must not block long.

    An event may come more than once, and an unchanged object again in every list: whoever compares has nothing to do then.
    """

    def replaced(self, resource: Resource, objects: Mapping[Name, Object]) -> None:
        """All objects there are, after every complete list; what isn't among them is gone. Never called for a failed list.

        Empty, too, once a ready server has shown that it doesn't serve this resource at all.
        """

    def changed(self, resource: Resource, name: Name, value: Object | None) -> None:
        """One object as it is now; None: it's gone. Only after a first `replaced`."""

    def contact(self, resource: Resource) -> None:
        """The server has just answered for this resource, so that what the sink knows was true a moment ago."""

    def lost(self, resource: Resource, reason: str) -> None:
        """The server can't be asked for this resource; trying goes on. What was known stays true until something else is heard.

        `reason` is one line without secrets. Called for every failed try, but for a missing permission (403) once a minute.
        """
