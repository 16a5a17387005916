"""One edit of one table, from its encoded form to the kernel, as one atomic commit.

What is changed is found from the very copy of the table that is then committed, so no other program's change can get between.
Large edits go through iptables-restore. Knows no Rule. The engine thread runs it, under the xtables lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Final, NamedTuple

from hostward.dataplane.kernel import KernelError
from hostward.dataplane.xtables import restore
from hostward.dataplane.xtables.delta import (
    Create,
    Delete,
    EncodedEdit,
    Flush,
    Held,
    Insert,
    Operation,
    Remove,
    StillUsedError,
    after,
    operations,
)
from hostward.dataplane.xtables.layout import COUNTERS, content, jump_of
from hostward.dataplane.xtables.libiptc import Handle
from hostward.dataplane.xtables.sockopt import SetSocket
from hostward.render.ruleset import TableId

BULK_RULES: Final = 200_000
"""From how many inserted rules on iptables-restore does it.

`make bench` (bulk) measures both ways: through libiptc, entries that were encoded before took 0.16 to 0.32 of the time of
iptables-restore for 1,000, 10,000 and 50,000 rules of either family, and the ratio doesn't grow. Recognising rules needs their
entries encoded anyway, and appending those is cheaper than writing and parsing text. Far beyond that it wasn't measured, so the
tool made for it has it.
"""

Chains = dict[str, Held | None]
"""What chains hold, None where there is none."""
Counts = dict[str, list[tuple[int, int]]]
"""Packets and bytes that the rules of a chain had counted when the copy of the table was taken, by chain."""


class Removed(NamedTuple):
    """A rule that went: where it stood, what it was, and the packets and bytes that it had counted."""

    chain: str
    position: int
    content: bytes
    packets: int
    bytes: int


class _Sets(NamedTuple):
    """Names by indexes and indexes by names, each asked for once in a commit."""

    name_of: Callable[[int], str]
    index_of: Callable[[str], int]


class Written(NamedTuple):
    """What a commit cost: bytes of the entries that were put in, and whether a child process did it; and what it removed."""

    entry_bytes: int
    by_process: bool
    removed: list[Removed]


def commit(table: TableId, edit: EncodedEdit, *, bulk_rules: int = BULK_RULES) -> tuple[Chains, Written]:
    """Carries out an edit; what its chains must hold now, and what it cost. Nothing differs: nothing is written.

    Raises KernelError.
    """
    counts: Counts = {}
    with Handle(table) as handle, SetSocket() as socket:
        sets = _Sets(cache(socket.name), cache(socket.index))
        present = _present(handle, edit, sets, counts)
        try:
            todo = operations(edit, present, _others(handle, edit, present, sets))
        except StillUsedError as error:
            raise KernelError(f"table {table}: {error}") from error
        inserted = [len(operation.rule.entry) for operation in todo if isinstance(operation, Insert)]
        in_bulk = len(inserted) >= bulk_rules
        if todo and not in_bulk:
            _carry_out(handle, todo, sets)
            handle.commit()
    if todo and in_bulk:
        restore.run(table, restore.script(table, todo))
    return after(edit, present), Written(sum(inserted), bool(todo) and in_bulk, list(_removed(todo, present, counts)))


def _removed(todo: list[Operation], present: dict[str, list[bytes]], counts: Counts) -> Iterator[Removed]:
    """The rules of own chains that go and had counted something. They go from behind, and before others come: places hold."""
    for operation in todo:
        match operation:
            case Flush(chain):
                places: Iterable[int] = range(len(counts[chain]))
            case Remove(chain, position) if chain in counts:
                places = (position,)
            case _:
                continue
        for at in places:
            if counts[chain][at][0]:
                yield Removed(chain, at, present[chain][at], *counts[chain][at])


def _carry_out(handle: Handle, todo: list[Operation], sets: _Sets) -> None:
    for operation in todo:
        match operation:
            case Create(chain):
                handle.create(chain)
            case Flush(chain):
                handle.flush(chain)
            case Delete(chain):
                handle.delete(chain)
            case Remove(chain, position):
                handle.remove(chain, position)
            case Insert(chain, None, rule):
                handle.append(chain, rule.with_indexes(sets.index_of))
            case Insert(chain, int() as position, rule):
                handle.insert(chain, position, rule.with_indexes(sets.index_of))


def _present(handle: Handle, edit: EncodedEdit, sets: _Sets, counts: Counts) -> dict[str, list[bytes]]:
    """The contents of the chains that an edit names; `counts` is filled with what the rules of own ones have counted."""
    counts |= {name: [] for name in edit.chains if handle.has_chain(name)}
    present = {name: _contents(handle, name, sets, found) for name, found in counts.items()}
    for name in edit.hooks:
        if not handle.has_chain(name):
            raise KernelError(f"table {handle.table}: the kernel has no chain {name}")
        present[name] = _contents(handle, name, sets)
    return present


def _others(handle: Handle, edit: EncodedEdit, present: dict[str, list[bytes]], sets: _Sets) -> dict[str, list[bytes]]:
    """The other chains, if any of them jumps to a chain that shall go."""
    jumps = Counter(jump_of(rule) for rules in present.values() for rule in rules)
    if all(handle.references(name) <= jumps[name] for name in edit.deleted() & present.keys()):
        return {}
    return {name: _contents(handle, name, sets) for name in handle.chains() if name not in present}


def _contents(handle: Handle, chain: str, sets: _Sets, counts: list[tuple[int, int]] | None = None) -> list[bytes]:
    found = []
    for entry, leads_to in handle.rules(chain):
        found.append(content(handle.layout, entry, leads_to, sets.name_of))
        if counts is not None:
            counts.append(COUNTERS.unpack_from(entry, handle.layout.counters))
    return found
