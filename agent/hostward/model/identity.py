"""Values of which some fields tell something and aren't part of what they are: they don't count when two are compared."""

from __future__ import annotations

from msgspec import Struct


class Identified(Struct, frozen=True, eq=False):
    """Two of a class are equal when their `_identity` is."""

    def _identity(self) -> object:
        """What one is compared by; each class says it."""
        raise TypeError(f"{type(self).__name__} doesn't say what it is compared by")

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and self._identity() == other._identity())

    def __ne__(self, other: object) -> bool:
        return not self == other  # a Struct has a `!=` of its own, which would ask for the same object

    def __hash__(self) -> int:
        return hash(self._identity())
