"""Puts saved rules into a kernel that has none of ours: by `hostward boot`, or by an agent that knows no others yet.

It takes each IP version by itself: its sets, then its tables, each at once; the filter table comes last, so that where it leads
to our chains everything is there. Nobody else's rules are touched. The command's own or the engine thread, under the xtables
lock.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Final

from hostward.dataplane.kernel import ActualTable, CreateSet, DestroySet, Kernel, KernelError, ReplaceSet, TableEdit
from hostward.dataplane.saved_rules import SavedFamily
from hostward.dataplane.state import is_own
from hostward.dataplane.xtables import restore
from hostward.dataplane.xtables.blob import HeadsInBlob, contents, find_kernel_chain
from hostward.dataplane.xtables.layout import LAYOUTS, LayoutError, jump_of
from hostward.dataplane.xtables.sockopt import SetSocket, TableSocket
from hostward.render.ruleset import TABLES, Family, Hook, TableId, is_own_chain

_ALWAYS: Final = ("INPUT", "FORWARD")


def is_guarded(family: Family) -> bool:
    """Whether packets of an IP version are led to rules of ours already: those to this host, and those that are sent on.

    Looks at these two of the kernel's chains alone, from which every version of ours leads to its own. Raises KernelError.
    """
    where, layout = TableId(family, "filter"), LAYOUTS[family]
    with TableSocket(family) as tables, SetSocket() as sets:
        info, memory = tables.read(where)
        blob = bytes(memory)
        heads = HeadsInBlob(layout, blob)
        try:
            found = [
                contents(layout, blob, find_kernel_chain(layout, info, blob, hook) or [], heads, sets.name) for hook in _ALWAYS
            ]
        except LayoutError as error:
            raise KernelError(f"table {where}: {error}") from error
    return all(any(is_own_chain(jump_of(rule)) for rule in rules) for rules in found)


def put(kernel: Kernel, family: Family, saved: SavedFamily) -> None:
    """Puts everything of an IP version into the kernel, each table at once. Raises KernelError.

    What is there of ours is replaced, not removed before: `iptables -F` leaves what raw denies, and that must stay denied.
    """
    there = kernel.read_sets(members=False)
    if any(name in there and there[name].type != wanted.type for name, wanted in saved.sets.items()):
        remove(kernel, family)  # another kind of set can't take the place of one
        there = {}
    for name, wanted in saved.sets.items():
        kernel.apply(ReplaceSet(name, wanted) if name in there else CreateSet(name, wanted))
    for table in TABLES:
        where = TableId(family, table)
        _put_table(kernel, where, saved.scripts.get(table, f"*{table}\nCOMMIT\n"))
    kernel.verify()
    _remove_sets(kernel, family, saved.sets)


def _put_table(kernel: Kernel, where: TableId, script: str) -> None:
    old = kernel.read_table(where)
    head, *lines, commit, _ = script.split("\n")
    declared = {line[1:].split(" ")[0] for line in lines if line.startswith(":")}  # which empties them, too
    gone = [name for name in old.chains if name not in declared]
    hooks = [
        f"-D {name} {at}"
        for name, chain in old.builtins.items()
        for at, rule in reversed([*enumerate(chain, 1)])
        if is_own(rule)
    ]
    first = [*hooks, *(f"-F {name}" for name in gone)]
    if lines or first:
        restore.run(where, "\n".join([head, *first, *lines, commit, ""]))
    if gone:
        kernel.apply(TableEdit(where, dict.fromkeys(gone), {}))


def remove(kernel: Kernel, family: Family) -> None:
    """Removes everything of ours of an IP version, filter first. Raises KernelError."""
    for table in reversed(TABLES):
        where = TableId(family, table)
        for edit in _removals(where, kernel.read_table(where)):
            kernel.apply(edit)
    kernel.verify()
    _remove_sets(kernel, family)


def _remove_sets(kernel: Kernel, family: Family, but: Container[str] = ()) -> None:
    for name, found in kernel.read_sets(members=False).items():
        if found.family == family and name not in but:
            kernel.apply(DestroySet(name))


def _removals(where: TableId, table: ActualTable) -> Iterator[TableEdit]:
    hooks = {name: Hook() for name, chain in table.builtins.items() if any(is_own(rule) for rule in chain)}
    if table.chains or hooks:
        yield TableEdit(where, dict.fromkeys(table.chains), hooks)
