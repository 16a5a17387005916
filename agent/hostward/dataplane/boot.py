"""Puts saved rules into a kernel that has none of ours: once, before the network is up, by `hostward boot`.

It takes each IP version by itself: its sets, then its tables, each at once; the filter table comes last, so that where it leads
to our chains everything is there. Nobody else's rules are touched. The command's own thread, under the xtables lock.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostward.dataplane.kernel import ActualTable, CreateSet, DestroySet, Kernel, TableEdit
from hostward.dataplane.saved_rules import SavedFamily
from hostward.dataplane.state import is_own
from hostward.dataplane.xtables import restore
from hostward.render.ruleset import TABLES, Family, Hook, TableId


def is_guarded(kernel: Kernel, family: Family) -> bool:
    """Whether packets of an IP version meet rules of ours already. Raises KernelError."""
    return _is_hooked(kernel.read_table(TableId(family, "filter")))


def _is_hooked(table: ActualTable) -> bool:
    return any(is_own(rule) for chain in table.builtins.values() for rule in chain)


def put(kernel: Kernel, family: Family, saved: SavedFamily) -> None:
    """Puts everything of an IP version into the kernel, in place of what an attempt before left. Raises KernelError."""
    remove(kernel, family)
    for name, wanted in saved.sets.items():
        kernel.apply(CreateSet(name, wanted))
    for table in TABLES:
        if script := saved.scripts.get(table):
            restore.run(TableId(family, table), script)


def remove(kernel: Kernel, family: Family) -> None:
    """Removes everything of ours of an IP version, filter first. Raises KernelError."""
    for table in reversed(TABLES):
        where = TableId(family, table)
        for edit in _removals(where, kernel.read_table(where)):
            kernel.apply(edit)
    for name, found in kernel.read_sets(members=False).items():
        if found.family == family:
            kernel.apply(DestroySet(name))


def _removals(where: TableId, table: ActualTable) -> Iterator[TableEdit]:
    hooks = {name: Hook() for name, chain in table.builtins.items() if any(is_own(rule) for rule in chain)}
    if table.chains or hooks:
        yield TableEdit(where, dict.fromkeys(table.chains), hooks)
