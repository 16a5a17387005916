"""The floor's writes, learned beforehand: which entries stand where in two states of the tables, and the commit between them.

It uses the agent's own thin layer over libiptc and the socket options, and nothing above it: entries are read back from the
kernel after the system's tool has put them there, and kept as bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from benchmarks import dumps
from hostward.dataplane.ipset_wire import ADD, DELETE, batches, kind_of, packed
from hostward.dataplane.netlink import NETLINK_NETFILTER, Netlink
from hostward.dataplane.xtables.layout import LAYOUTS, OFFSETS, TO_CHAIN, TO_VERDICT
from hostward.dataplane.xtables.libiptc import Handle
from hostward.dataplane.xtables.sockopt import TableSocket
from hostward.render.ruleset import Family, TableId, TableName

_NAME = slice(2, 31)  # of a match or target, counted from where it starts
Entries = dict[str, list[bytes] | None]


@dataclass(frozen=True)
class ChainEdit:
    """Rules to remove from a place on, then to insert there; `rules` None: the chain goes."""

    chain: str
    at: int
    remove: int
    rules: Sequence[bytes] | None
    new: bool


def read(table: TableId, chains: Sequence[str]) -> Entries:
    """The entries of some chains as libiptc takes them back, None where there is no such chain."""
    with Handle(table) as handle:
        return {
            name: [_reusable(handle, entry, leads_to) for entry, leads_to in handle.rules(name)]
            if handle.has_chain(name)
            else None
            for name in chains
        }


def _reusable(handle: Handle, entry: bytes, leads_to: bytes | None) -> bytes:
    """An entry that names where it leads, for the number that stands there is only good where it was read."""
    if leads_to is None:
        return entry
    found = bytearray(entry)
    target = OFFSETS.unpack_from(entry, handle.layout.offsets)[0]
    name = leads_to.removeprefix(TO_VERDICT).removeprefix(TO_CHAIN)
    found[target + _NAME.start : target + _NAME.stop] = name.ljust(_NAME.stop - _NAME.start, b"\0")
    found[handle.layout.counters : handle.layout.header] = bytes(16)
    return bytes(found)


def edits(before: Entries, after: Entries, table: TableId) -> list[ChainEdit]:
    """What leads from one to the other, keeping what is the same at both ends of a chain."""
    found = []
    for name, new in after.items():
        old = before[name]
        if new is None:
            if old is not None:
                found.append(ChainEdit(name, 0, len(old), None, new=False))
            continue
        keys = [[_without_counters(table, entry) for entry in rules] for rules in (old or [], new)]
        head, tail = ends(*keys)
        found.append(ChainEdit(name, head, len(old or ()) - head - tail, new[head : len(new) - tail], new=old is None))
    return sorted(found, key=lambda edit: (not edit.new, edit.rules is None))


def ends(old: Sequence[bytes], new: Sequence[bytes]) -> tuple[int, int]:
    """How many are the same at the beginning, and of the rest at the end."""
    most = min(len(old), len(new))
    head = next((at for at in range(most) if old[at] != new[at]), most)
    tail = next((at for at in range(most - head) if old[-1 - at] != new[-1 - at]), most - head)
    return head, tail


def _without_counters(table: TableId, entry: bytes) -> bytes:
    layout = LAYOUTS[table.family]
    return entry[: layout.counters] + entry[layout.header :]


def commit(table: TableId, todo: Sequence[ChainEdit]) -> None:
    """One commit."""
    with Handle(table) as handle:
        for edit in todo:
            if edit.new:
                handle.create(edit.chain)
        for edit in todo:
            for _ in range(edit.remove):
                handle.remove(edit.chain, edit.at)
            for at, entry in enumerate(edit.rules or (), start=edit.at):
                if edit.new:
                    handle.append(edit.chain, entry)
                else:
                    handle.insert(edit.chain, at, entry)
        for edit in todo:
            if edit.rules is None:
                handle.delete(edit.chain)
        handle.commit()


def _spans(family: Family, blob: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(blob):
        length = OFFSETS.unpack_from(blob, at + LAYOUTS[family].offsets)[1]
        yield at, at + length
        at += length


@dataclass
class Check:
    """What of a table's blob must be as it was when this state was there first: the entries in which two states differ."""

    family: Family
    blob: bytes
    spans: Sequence[tuple[int, int]] = ()

    def narrow(self, other: Check) -> None:
        """Looks only at where it differs from the other state from now on."""
        mine, others = list(_spans(self.family, self.blob)), list(_spans(self.family, other.blob))
        head, tail = ends([self._part(*span) for span in mine], [other._part(*span) for span in others])
        self.spans = mine[head : len(mine) - tail]

    def _part(self, start: int, end: int) -> bytes:
        layout = LAYOUTS[self.family]
        return self.blob[start : start + layout.counters] + self.blob[start + layout.header : end]

    def holds(self, blob: bytes) -> bool:
        """Whether a blob that was just read is this state."""
        return len(blob) == len(self.blob) and all(
            Check(self.family, blob)._part(*span) == self._part(*span) for span in self.spans
        )


def look(table: TableId) -> bytes:
    """A table's blob."""
    with TableSocket(table.family) as tables:
        return bytes(tables.read(table)[1])


class SetWriter:
    """Members to add and to remove, packed beforehand; one message for each set."""

    def __init__(self, before: str, after: str, families: Mapping[str, Family]) -> None:
        old, new = dumps.members(before), dumps.members(after)
        self._messages = []
        for name in sorted(old.keys() & new.keys()):
            for kind, members in ((ADD, new[name] - old[name]), (DELETE, old[name] - new[name])):
                if members:
                    entries = packed(kind_of(members), families[name], members)
                    self._messages += [(kind, body) for body in batches(name, entries)]
        self.messages = len(self._messages)

    def write(self, socket: Netlink) -> None:
        """Sends them, each acknowledged."""
        for kind, body in self._messages:
            socket.request(kind, body)


def families_of(sets: str) -> dict[str, Family]:
    """Each set's family, of an `ipset save`."""
    lines = (line.split(" ") for line in sets.splitlines() if line.startswith("create "))
    return {words[1]: 6 if "inet6" in words else 4 for words in lines}


def opened_socket() -> Netlink:
    """For `SetWriter`."""
    return Netlink(NETLINK_NETFILTER)


def table_id(family: int, name: str) -> TableId:
    """A table by what a dump calls it."""
    return TableId(cast("Family", family), cast("TableName", name))
