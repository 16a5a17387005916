"""The members of a set as a value that is cheap to change: a frozen set, and a few members more and less.

A set of 100,000 members that gets one more costs that one, not the copy. Compares equal to any other set of the same members.
Pure values; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from math import isqrt
from typing import Final, NamedTuple

_FEWEST: Final = 16


class MemberChange(NamedTuple):
    """What one set has that another hasn't, both ways."""

    added: frozenset[str]
    removed: frozenset[str]


class Members(Set[str]):
    """Immutable. `base` with `more` members that it hasn't and without `less` of those that it has."""

    __slots__ = ("_base", "_less", "_more")

    def __init__(self, members: Iterable[str] = ()) -> None:
        self._base = members if isinstance(members, frozenset) else frozenset(members)
        self._more: frozenset[str] = frozenset()
        self._less: frozenset[str] = frozenset()

    @classmethod
    def of(cls, members: Set[str]) -> Members:
        """Any set as one of these; the same object if it is one."""
        return members if isinstance(members, Members) else cls(members)

    def changed(self, add: Set[str], remove: Set[str]) -> Members:
        """The same with these added and those removed, at the cost of the change; a member in both is there afterwards.

        Now and then, when many changes have come together, at the cost of the whole.
        """
        add = frozenset(add)
        gone = frozenset(remove) - add
        result = Members.__new__(Members)
        result._more = (self._more | (add - self._base)) - gone
        result._less = (self._less - add) | (gone & self._base)
        result._base = self._base
        if len(result._more) + len(result._less) > max(_FEWEST, isqrt(len(self._base))):
            result._base = (self._base | result._more) - result._less
            result._more = result._less = frozenset()
        return result

    def since(self, older: Set[str]) -> MemberChange:
        """What came and what went since; at the cost of the changes where this set was made from the other by `changed`."""
        if isinstance(older, Members):
            if older._base is not self._base:
                return MemberChange(self.whole() - older.whole(), older.whole() - self.whole())
            added = (self._more - older._more) | (older._less - self._less)
            return MemberChange(added, (older._more - self._more) | (self._less - older._less))
        mine, other = self.whole(), frozenset(older)
        return MemberChange(mine - other, other - mine)

    def whole(self) -> frozenset[str]:
        """All members as a plain set."""
        return (self._base | self._more) - self._less if self._more or self._less else self._base

    def __contains__(self, member: object) -> bool:
        return member in self._more or (member in self._base and member not in self._less)

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole())

    def __len__(self) -> int:
        return len(self._base) + len(self._more) - len(self._less)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Members):
            if self._base is other._base:
                return self._more == other._more and self._less == other._less
            return len(self) == len(other) and self.whole() == other.whole()
        return isinstance(other, Set) and len(self) == len(other) and self.whole() == other

    def __hash__(self) -> int:
        return hash(self.whole())

    @classmethod
    def _from_iterable(cls, it: Iterable[str]) -> frozenset[str]:  # type: ignore[override] # what set operations make is a plain set
        return frozenset(it)

    def __repr__(self) -> str:
        return f"Members({sorted(self)!r})"


NO_MEMBERS: Final = Members()
