"""The smallest change of a table that an edit asks for, as operations in an order that libiptc and iptables-restore take.

Rules are compared by content; those that stay keep their counters. Positions count from 0 and hold at the moment when the
operation's turn comes. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct, field

from hostward.dataplane.xtables.encode import Encoded
from hostward.dataplane.xtables.layout import is_ours, jump_of
from hostward.render.ruleset import Chain, is_own_chain


class Create(Struct, frozen=True):
    """Make an empty chain."""

    chain: str


class Flush(Struct, frozen=True):
    """Remove all rules of a chain."""

    chain: str


class Delete(Struct, frozen=True):
    """Remove an empty chain that nothing jumps to any more."""

    chain: str


class Remove(Struct, frozen=True):
    """Remove the rule at a position."""

    chain: str
    position: int


class Insert(Struct, frozen=True):
    """Put a rule before the one at a position; None: at the end."""

    chain: str
    position: int | None
    rule: Encoded


Operation = Create | Flush | Delete | Remove | Insert
Contents = Sequence[bytes]
Held = tuple[Encoded, ...] | list[bytes]
"""The rules of a chain: as they were encoded, of which contents are made when they are asked for, or their contents."""


class EncodedEdit(Struct, frozen=True):
    """A TableEdit with its rules encoded. `hooks`: the rules before and after everybody else's, by kernel chain.

    `before`: what is known to stand in the chains. A rule that is the same but counts something else doesn't stay.
    """

    chains: Mapping[str, tuple[Encoded, ...] | None]
    hooks: Mapping[str, tuple[tuple[Encoded, ...], tuple[Encoded, ...]]]
    before: Mapping[str, Chain] = field(default_factory=dict)

    def deleted(self) -> set[str]:
        """The chains to delete."""
        return {name for name, rules in self.chains.items() if rules is None}

    def rules(self) -> int:
        """How many rules the edit names."""
        return sum(len(rules or ()) for rules in self.chains.values())


class StillUsedError(ValueError):
    """A chain that shall go is jumped to by a chain of ours that shall stay as it is."""


def operations(edit: EncodedEdit, present: Mapping[str, Contents], others: Mapping[str, Contents]) -> list[Operation]:
    """What to do, in order.

    `present`: the rules of those chains of the edit that exist, kernel chains included. `others`: of the rest, those that may
    jump to deleted chains; such jumps in chains that aren't ours carry our identity and go too (H-85). Raises StillUsedError.
    """
    deleted = edit.deleted()
    todo: list[Operation] = [Create(name) for name, rules in edit.chains.items() if rules is not None and name not in present]
    for name, rules in edit.chains.items():
        if rules is not None:
            todo += _chain(name, present.get(name, ()), rules, edit.before.get(name, ()))
    for name, (first, last) in edit.hooks.items():
        todo += _hook(name, present[name], first, last)
    for name, contents in others.items():
        todo += _strays(name, contents, deleted)
    gone = [name for name in deleted if name in present]
    return [*todo, *(Flush(name) for name in gone), *(Delete(name) for name in gone)]


def after(edit: EncodedEdit, present: Mapping[str, Contents]) -> dict[str, Held | None]:
    """What the chains of an edit hold afterwards, None where there is no chain."""
    wanted: dict[str, Held | None] = dict(edit.chains)
    for name, (first, last) in edit.hooks.items():
        foreign = [content for content in present[name] if not is_ours(content)]
        wanted[name] = [*(rule.content for rule in first), *foreign, *(rule.content for rule in last)]
    return wanted


def contents_of(held: Held | None) -> list[bytes] | None:
    """What identifies each rule of a chain."""
    return held if held is None or isinstance(held, list) else [rule.content for rule in held]


def _chain(name: str, present: Contents, wanted: Sequence[Encoded], before: Chain) -> list[Operation]:
    """Keeps what is the same at both ends."""
    known = len(before) == len(present)

    def stays(at: int) -> bool:
        new = wanted[at]
        return present[at] == new.content and not (known and before[at].counter != new.rule.counter)

    most = min(len(present), len(wanted))
    head = 0
    while head < most and stays(head):
        head += 1
    tail = 0
    while tail < most - head and stays(-1 - tail):
        tail += 1
    new = wanted[head : len(wanted) - tail]
    if not head and not tail:
        return [*([Flush(name)] if present else []), *(Insert(name, None, rule) for rule in new)]
    removals: list[Operation] = [Remove(name, at) for at in reversed(range(head, len(present) - tail))]
    return [*removals, *(Insert(name, at if tail else None, rule) for at, rule in enumerate(new, start=head))]


def _hook(name: str, present: Contents, first: Sequence[Encoded], last: Sequence[Encoded]) -> list[Operation]:
    """Keeps our rules where they belong, removes them anywhere else, and never touches anybody else's."""
    ahead, behind = [rule.content for rule in first], [rule.content for rule in last]
    kept: set[int] = set()
    keep_first = list(present[: len(ahead)]) == ahead
    if keep_first:
        kept.update(range(len(ahead)))
    start = len(present) - len(behind)
    keep_last = start >= len(kept) and list(present[start:]) == behind
    if keep_last:
        kept.update(range(start, len(present)))
    todo: list[Operation] = [
        Remove(name, at) for at in reversed(range(len(present))) if at not in kept and is_ours(present[at])
    ]
    if not keep_first:
        todo += (Insert(name, at, rule) for at, rule in enumerate(first))
    if not keep_last:
        todo += (Insert(name, None, rule) for rule in last)
    return todo


def _strays(name: str, contents: Contents, deleted: Collection[str]) -> list[Operation]:
    found: list[Operation] = [Remove(name, at) for at in reversed(range(len(contents))) if jump_of(contents[at]) in deleted]
    if found and is_own_chain(name):
        raise StillUsedError(f"chain {name} still jumps to a chain that shall be deleted, out of {', '.join(sorted(deleted))}")
    return found
