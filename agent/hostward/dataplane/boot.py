"""Puts saved rules into a kernel that has none of ours: by `hostward boot`, or by an agent that knows no others yet.

It takes each IP version by itself: its sets, then its tables, each at once; the filter table comes last, so that where it leads
to our chains everything is there. Nobody else's rules are touched. The command's own or the engine thread, under the xtables
lock.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostward.dataplane.kernel import ActualTable, CreateSet, DestroySet, Kernel, KernelError, TableEdit
from hostward.dataplane.saved_rules import SavedFamily
from hostward.dataplane.state import is_own
from hostward.dataplane.xtables import restore
from hostward.dataplane.xtables.blob import HeadsInBlob, contents, find_kernel_chain
from hostward.dataplane.xtables.layout import LAYOUTS, LayoutError, is_ours
from hostward.dataplane.xtables.sockopt import SetSocket, TableSocket
from hostward.render.roots import HOOKED
from hostward.render.ruleset import TABLES, Family, Hook, TableId


def is_guarded(family: Family) -> bool:
    """Whether packets of an IP version meet rules of ours already; looks at the kernel's chains alone. Raises KernelError."""
    where, layout = TableId(family, "filter"), LAYOUTS[family]
    with TableSocket(family) as tables, SetSocket() as sets:
        info, memory = tables.read(where)
        blob = bytes(memory)
        heads = HeadsInBlob(layout, blob)
        try:
            found = [
                rule
                for hook in HOOKED[where.name]
                for rule in contents(layout, blob, find_kernel_chain(layout, info, blob, hook) or [], heads, sets.name)
            ]
        except LayoutError as error:
            raise KernelError(f"table {where}: {error}") from error
    return any(map(is_ours, found))


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
