"""The packet filter of this network namespace: iptables tables and ipsets together, as one `Kernel`.

Only the engine thread calls it, in the network namespace that this thread is in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from hostward.dataplane.ipsets import IPSets
from hostward.dataplane.kernel import ActualSet, ActualTable, Effort, Step, TableEdit
from hostward.dataplane.needs import families
from hostward.dataplane.xtables.lock import POLL_SECONDS
from hostward.dataplane.xtables.tables import XTables
from hostward.render.ruleset import Family, Rule, TableId


class LinuxKernel:
    """Implements `kernel.Kernel`. `lock_path` is the xtables lock, the others are seconds: to wait for it, between looks."""

    def __init__(self, lock_path: Path, lock_timeout: float, lock_poll: float = POLL_SECONDS) -> None:
        self._tables = XTables(lock_path, lock_timeout, lock_poll)
        self._sets = IPSets()
        self._left: dict[TableId, bytes] = {}

    def families(self) -> tuple[Family, ...]:
        """The IP versions that the kernel speaks."""
        return families()

    def lock(self) -> AbstractContextManager[None]:
        """Holds the xtables lock."""
        return self._tables.lock()

    def learn(self, table: TableId, rules: Iterable[Rule]) -> None:
        """Names rules that a read shall recognise."""
        self._tables.learn(table, rules)

    def read_table(self, table: TableId) -> ActualTable:
        """The present content of a table."""
        found = self._tables.read_table(table)
        self._left[table] = self._tables.seen(table)
        return found

    def changed(self, table: TableId) -> bool:
        """Whether somebody else changed the table since it was last read or committed here."""
        return self._tables.fingerprint(table) != self._left.get(table)

    def read_sets(self, names: Collection[str] | None = None, *, members: bool = True) -> dict[str, ActualSet]:
        """Our sets, all or those named that exist."""
        return self._sets.read_sets(names, members=members)

    def apply(self, step: Step) -> None:
        """Carries out one step."""
        if isinstance(step, TableEdit):
            self._tables.apply(step)
            self._left[step.table] = self._tables.seen(step.table)
        else:
            self._sets.apply(step)

    def counters(self, table: TableId) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """Per own chain, per rule: packets and bytes."""
        return self._tables.counters(table)

    def effort(self) -> Effort:
        """What all writes together have cost so far."""
        return Effort(self._tables.entry_bytes, self._sets.messages, self._tables.processes)

    def close(self) -> None:
        """Lets go of sockets."""
        self._sets.close()
