"""The real kernel: tables through libiptc, sets through netlink, as one `kernel.Kernel`. The engine thread runs it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from hostward.dataplane.ipsets import IPSets
from hostward.dataplane.kernel import ActualSet, ActualTable, Step, TableEdit
from hostward.dataplane.xtables.lock import DEFAULT_PATH
from hostward.dataplane.xtables.tables import XTables
from hostward.render.ruleset import Rule, TableId


class LinuxKernel:
    """`kernel.Kernel` on Linux, in the network namespace of the calling thread. `lock_timeout` in seconds."""

    def __init__(self, lock_path: Path = DEFAULT_PATH, lock_timeout: float = 10.0) -> None:
        self._tables = XTables(lock_path, lock_timeout)
        self._sets = IPSets()

    def close(self) -> None:
        """Gives back the sockets."""
        self._sets.close()

    def lock(self) -> AbstractContextManager[None]:
        """See `kernel.Kernel`."""
        return self._tables.lock()

    def learn(self, table: TableId, rules: Iterable[Rule]) -> None:
        """See `kernel.Kernel`."""
        self._tables.learn(table, rules)

    def read_table(self, table: TableId) -> ActualTable:
        """See `kernel.Kernel`."""
        return self._tables.read_table(table)

    def fingerprint(self, table: TableId) -> bytes:
        """See `XTables.fingerprint`."""
        return self._tables.fingerprint(table)

    def seen(self, table: TableId) -> bytes:
        """See `XTables.seen`."""
        return self._tables.seen(table)

    def read_sets(self, names: Collection[str] | None = None, *, members: bool = True) -> dict[str, ActualSet]:
        """See `kernel.Kernel`."""
        return self._sets.read_sets(names, members=members)

    def apply(self, step: Step) -> None:
        """See `kernel.Kernel`."""
        if isinstance(step, TableEdit):
            self._tables.apply(step)
        else:
            self._sets.apply(step)

    def counters(self, table: TableId) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """See `kernel.Kernel`."""
        return self._tables.counters(table)
