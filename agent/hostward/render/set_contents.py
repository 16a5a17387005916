"""What the sets hold that rules name: of each family its own members, at the cost of what changes.

Owned by the engine thread's renderer; pure but for its memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from hostward.model.members import Members
from hostward.model.nets import family as family_of
from hostward.model.nets import set_members
from hostward.model.sets import NetSet, SetRef, holds_ports
from hostward.render import names
from hostward.render.ruleset import Family, IPSet, set_family


def filled(ref: SetRef, source: Set[str] | NetSet, family: Family, room: int) -> IPSet:
    """A set with its members of one family; those of a NetSet are of one family already, once in each.

    It outgrows `maxIpsetSize` rather than lose members: a missing one would open a Deny.
    """
    if isinstance(source, NetSet):
        members = Members(member for net in source.nets for member in set_members(net))
    else:
        members = Members(_of_family(source, family))
    return IPSet("hash:ip,port" if holds_ports(ref) else "hash:net", family, members, _room(members, room))


def _of_family(members: Iterable[str], family: Family) -> frozenset[str]:
    return frozenset(member for member in members if family_of(member.partition(",")[0]) == family)


def _room(members: Set[str], room: int) -> int:
    while room < len(members):
        room *= 2
    return room


class SetContents:
    """`sets` by their names in the kernel: those that chains use, and no others."""

    def __init__(self, families: Iterable[Family], room: int) -> None:
        self.sets: dict[str, IPSet] = {}
        self._families = tuple(families)
        self._room = room
        self._refs: dict[str, tuple[SetRef, Family]] = {}
        self._uses: dict[str, int] = {}
        self._listed: dict[str, NetSet] = {}
        self._sources: dict[str, Members] = {}
        self._dirty: set[str] = set()

    def take(self, name: str, listed: NetSet | None) -> None:
        """One chain more uses a set; `listed` are its networks, if rules list them."""
        if not self._uses.get(name):
            self._dirty.add(name)
            if listed is not None:
                self._listed[name] = listed
        self._uses[name] = self._uses.get(name, 0) + 1

    def release(self, name: str) -> None:
        """One chain less uses a set."""
        self._uses[name] -= 1
        if not self._uses[name]:
            self._dirty.add(name)

    def settle(self, sources: Mapping[SetRef, Set[str]], changed: Iterable[SetRef]) -> frozenset[str]:
        """Makes `sets` hold what they should, where what is used or what was calculated has changed; the names that differ."""
        for ref in changed:
            for family in self._families:
                name = names.set_name(ref, family)
                if ref in sources:
                    self._refs[name] = ref, family
                else:
                    self._refs.pop(name, None)
                self._dirty.add(name)
        differing = {name for name in self._dirty if self._settle(name, sources)}
        self._dirty.clear()
        return frozenset(differing)

    def _settle(self, name: str, sources: Mapping[SetRef, Set[str]]) -> bool:
        if not self._uses.get(name):
            self._uses.pop(name, None)
            self._listed.pop(name, None)
            self._sources.pop(name, None)
            return self.sets.pop(name, None) is not None
        old = self.sets.get(name)
        if name in self._refs:
            ref, family = self._refs[name]
            new = self._calculated(name, ref, family, Members.of(sources[ref]))
        elif old is None:
            listed = self._listed[name]
            new = filled(listed, listed, set_family(name), self._room)
        else:
            new = old
        self.sets[name] = new
        return new is not old

    def _calculated(self, name: str, ref: SetRef, family: Family, source: Members) -> IPSet:
        old, before = self.sets.get(name), self._sources.get(name)
        self._sources[name] = source
        if old is None or before is None:
            return filled(ref, source, family, self._room)
        if before is source:
            return old
        change = source.since(before)
        added, removed = _of_family(change.added, family), _of_family(change.removed, family)
        if not added and not removed:
            return old
        members = Members.of(old.members).changed(added, removed)
        return IPSet(old.type, family, members, _room(members, self._room))
