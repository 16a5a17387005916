"""Whether the kernel holds what was just written to a table, at the cost of one read. The engine thread runs it."""

from __future__ import annotations

from itertools import islice
from typing import Final

from hostward.dataplane.xtables.blob import HeadsInBlob, contents, find_chain, find_kernel_chain
from hostward.dataplane.xtables.commit import Chains
from hostward.dataplane.xtables.delta import contents_of
from hostward.dataplane.xtables.layout import LAYOUTS
from hostward.dataplane.xtables.sockopt import SetSocket, TableSocket
from hostward.render.ruleset import TableId, is_own_chain

MOST_CHAINS: Final = 16
"""So many of the written chains are looked for in what is read back. A commit is whole or isn't there: the next look at the
table, for tampering, compares all that was written."""


def read_back(table: TableId, written: Chains) -> list[str]:
    """Those chains that the kernel doesn't hold as written, of the kernel's and some of ours; nothing else is looked at.

    Raises LayoutError.
    """
    hooks = [name for name in written if not is_own_chain(name)]
    some = [*hooks, *islice((name for name in written if is_own_chain(name)), MOST_CHAINS)]
    layout = LAYOUTS[table.family]
    with TableSocket(table.family) as tables, SetSocket() as sets:
        info, blob = tables.read(table)
        heads = HeadsInBlob(layout, blob)
        found = {}
        for name in some:
            own = is_own_chain(name)
            spans = find_chain(layout, blob, name) if own else find_kernel_chain(layout, info, blob, name)
            found[name] = None if spans is None else contents(layout, blob, spans, heads, sets.name)
    return [name for name, rules in found.items() if rules != contents_of(written[name])]
