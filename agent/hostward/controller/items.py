"""What a decision is about and what comes of it: items, stored documents, writes. Values; any thread.

An item is an object of Kubernetes, whether it is there or not. Everything that the controller owns in the store belongs to
exactly one item, so that a change of either side costs the decision over that item.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from msgspec import Struct

from hostward.model.fields import Problem
from hostward.model.keys import ResourceKey

Document = dict[str, Any]
Verb = Literal["create", "update", "delete"]


class Item(NamedTuple):
    """An object of Kubernetes: `Item("NetworkPolicy", "shop", "web")`. `namespace` is "" for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind}({where})"


class Stored(Struct, frozen=True):
    """What is in the store under a key: a document, None for a value that is no JSON object, and the revision that wrote it."""

    document: Document | None
    revision: int


class Write(Struct, frozen=True):
    """One transaction: creates (`revision` None), replaces or, with no document, deletes what still has `revision`."""

    key: ResourceKey
    document: Document | None
    revision: int | None

    @property
    def verb(self) -> Verb:
        """What it does."""
        if self.document is None:
            return "delete"
        return "create" if self.revision is None else "update"

    def __str__(self) -> str:
        return f"{self.verb} {self.key}"


class Decision(Struct, frozen=True):
    """The writes after which the store is as an item says, and what of the item isn't understood."""

    writes: tuple[Write, ...] = ()
    problems: tuple[Problem, ...] = ()


NOTHING: Final = Decision()
