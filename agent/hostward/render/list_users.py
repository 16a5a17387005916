"""Who goes through which groups of policies: what a change of one of them concerns. Owned by the engine thread's renderer."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TypeVar

from hostward.render.groups import Group
from hostward.render.names import Direction

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)
Groups = frozenset[Group]
User = tuple[str, str, Direction]
"""Whose lists: "host" or "workload", the interface, and the direction."""


class ListUsers:
    """Users and their groups. Many users have the same groups, which are kept once."""

    def __init__(self) -> None:
        self._groups: dict[User, Groups] = {}
        self._users: dict[Groups, set[User]] = {}
        self._lists: dict[str, set[Groups]] = {}
        self._by_member: dict[str, set[str]] = {}
        self._by_chain: dict[str, Group] = {}

    def replace(self, user: User, groups: Groups) -> list[str]:
        """Says which groups a user goes through now; none forgets it. Answers with the chains that nobody goes through now."""
        before = self._groups.pop(user, frozenset())
        if groups == before:
            groups = before
        if groups:
            self._groups[user] = groups
        if groups is before:
            return []
        if groups:
            if groups not in self._users:
                self._add(groups)
            self._users.setdefault(groups, set()).add(user)
        if before:
            users = self._users[before]
            users.discard(user)
            if not users:
                del self._users[before]
                return self._remove(before)
        return []

    def group(self, chain: str) -> Group | None:
        """The group of a chain, if anybody goes through it."""
        return self._by_chain.get(chain)

    def with_member(self, member: str) -> frozenset[str]:
        """The chains of the groups that a policy or profile is in, by its own chain."""
        return frozenset(self._by_member.get(member, ()))

    def users(self, chain: str) -> Iterator[User]:
        """All who go through a group, by its chain."""
        for groups in self._lists.get(chain, ()):
            yield from self._users[groups]

    def _add(self, groups: Groups) -> None:
        for group in groups:
            if group.chain not in self._by_chain:
                self._by_chain[group.chain] = group
                for member in group.members:
                    _file(self._by_member, member, group.chain)
            _file(self._lists, group.chain, groups)

    def _remove(self, groups: Groups) -> list[str]:
        idle = [group for group in groups if _unfile(self._lists, group.chain, groups)]
        for group in idle:
            del self._by_chain[group.chain]
            for member in group.members:
                _unfile(self._by_member, member, group.chain)
        return [group.chain for group in idle]


def _file(table: dict[K, set[V]], key: K, value: V) -> None:
    table.setdefault(key, set()).add(value)


def _unfile(table: dict[K, set[V]], key: K, value: V) -> bool:
    """Whether it was the last one."""
    values = table[key]
    values.discard(value)
    if values:
        return False
    del table[key]
    return True
