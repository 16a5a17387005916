"""The packet filter of this network namespace: iptables tables and ipsets together, as one `Kernel`.

Only the engine thread calls it, in the network namespace that this thread is in.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hostward.dataplane.in_flight import let_pass
from hostward.dataplane.ipsets import IPSets
from hostward.dataplane.kernel import ActualSet, ActualTable, Effort, KernelError, Parting, Step, TableEdit, members_of
from hostward.dataplane.needs import families
from hostward.dataplane.xtables.lock import POLL_SECONDS
from hostward.dataplane.xtables.tables import XTables
from hostward.render.ruleset import Chain, Family, Rule, TableId


class LinuxKernel:
    """Implements `kernel.Kernel`. `lock_path` is the xtables lock, the others are seconds: to wait for it, between looks."""

    def __init__(self, lock_path: Path, lock_timeout: float, lock_poll: float = POLL_SECONDS) -> None:
        self._tables = XTables(lock_path, lock_timeout, lock_poll)
        self._sets = IPSets()
        self._left: dict[TableId, bytes] = {}
        self.calls: Counter[tuple[str, ...]] = Counter()
        """How often a table was read or written, and a set command sent (`("read", "done")`, `("write", "failed")`, ...), the
        rules that were in written chains (`("rules", FAMILY, TABLE)`), the members in commands (`("sets", "members")`); how
        often the lock was had, and was asked for in vain (`("lock", "retries")`)."""

    def families(self) -> tuple[Family, ...]:
        """The IP versions that the kernel speaks."""
        return families()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the xtables lock."""
        with ExitStack() as held:
            try:
                with self._counted("lock"):
                    held.enter_context(self._tables.lock())
            finally:
                self.calls["lock", "retries"] = self._tables.lock_retries
            yield

    def learn(self, table: TableId, rules: Iterable[Rule]) -> None:
        """Names rules that a read shall recognise."""
        self._tables.learn(table, rules)

    def read_table(self, table: TableId) -> ActualTable:
        """The present content of a table."""
        with self._counted("read"):
            found = self._tables.read_table(table)
        self._left[table] = self._tables.seen(table)
        return found

    def changed(self, table: TableId) -> bool:
        """Whether somebody else changed the table since it was last read or committed here."""
        with self._counted("read"):
            return self._tables.fingerprint(table) != self._left.get(table)

    def read_sets(self, names: Collection[str] | None = None, *, members: bool = True) -> dict[str, ActualSet]:
        """Our sets, all or those named that exist."""
        return self._sets.read_sets(names, members=members)

    def apply(self, step: Step) -> None:
        """Carries out one step."""
        if isinstance(step, TableEdit):
            with self._counted("write"):
                self._tables.apply(step)
            self._left[step.table] = self._tables.seen(step.table)
            self.calls["rules", str(step.table.family), step.table.name] += sum(map(len, filter(None, step.chains.values())))
        else:
            with self._counted("sets"):
                self._sets.apply(step)
            self.calls["sets", "members"] += members_of(step)

    def verify(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Reads back what was written and wasn't yet, a table at a time, until there is a hurry."""
        for table in self._tables.unverified():
            if hurry():
                return
            with self._counted("read"):
                self._tables.verify(table)

    def let_pass(self) -> None:
        """Waits until no packet is on its way any more that was when this was called."""
        let_pass()

    def placed(self, table: TableId, chains: Mapping[str, Chain]) -> None:
        """Names the rules that stand in own chains."""
        self._tables.placed(table, chains)

    def counters(self, table: TableId) -> Mapping[str, array[int]]:
        """Per own chain: packets and bytes of each rule in turn."""
        return self._tables.counters(table)

    def partings(self, table: TableId) -> list[Parting]:
        """What removed rules had counted, since the last call."""
        return self._tables.partings(table)

    @contextmanager
    def _counted(self, operation: str) -> Iterator[None]:
        try:
            yield
        except KernelError:
            self.calls[operation, "failed"] += 1
            raise
        self.calls[operation, "done"] += 1

    def effort(self) -> Effort:
        """What all writes together have cost so far."""
        return Effort(self._tables.entry_bytes, self._sets.messages, self._tables.processes)

    def close(self) -> None:
        """Lets go of sockets."""
        self._sets.close()
