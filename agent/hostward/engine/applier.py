"""Brings the kernel to a desired ruleset, and notices when somebody else changed it. Engine thread only.

What the kernel holds is remembered between applies and trusted only while each table's fingerprint says that nothing changed;
every read, plan and write happens under one hold of the xtables lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from hostward.dataplane.kernel import ActualSet, ActualTable, Kernel, KernelError, TableEdit, Unknown
from hostward.dataplane.plan import ActualState, plan
from hostward.render.marks import Marks
from hostward.render.ruleset import FAMILIES, TABLES, Family, Ruleset, TableId

ATTEMPTS = 10


@dataclass(slots=True)
class Outcome:
    """What one apply did. `changed_rules` counts rules of chains that were written; `drifted` what others had changed before."""

    commits: int = 0
    set_steps: int = 0
    changed_rules: int = 0
    drifted: Counter[str] = field(default_factory=Counter)


def all_tables(families: Iterable[Family] = FAMILIES) -> tuple[TableId, ...]:
    """The tables that we may hold something in."""
    return tuple(TableId(family, table) for family in families for table in TABLES)


class Applier:
    """Remembers what it left in the kernel. `desired` is the last ruleset that is wholly there, None before the first."""

    def __init__(self, kernel: Kernel, marks: Marks) -> None:
        self.marks = marks
        self.desired: Ruleset | None = None
        self._kernel = kernel
        self._tables: dict[TableId, ActualTable] = {}
        self._sets: dict[str, ActualSet] | None = None
        self._fingerprints: dict[TableId, bytes] = {}

    def bring(self, desired: Ruleset) -> Outcome:
        """Makes the kernel hold `desired`. Lost races are tried again here; raises KernelError when that doesn't help."""
        outcome = Outcome()
        for attempt in range(ATTEMPTS):
            try:
                with self._kernel.lock():
                    self._refresh(desired, outcome)
                    self._carry_out(desired, outcome)
            except KernelError as error:
                self.forget()
                if not error.retry or attempt == ATTEMPTS - 1:
                    raise
            else:
                self.desired = desired
                return outcome
        raise AssertionError("unreachable: the last attempt returns or raises")

    def forget(self) -> None:
        """Trusts nothing that was remembered: the next apply reads everything."""
        self._tables.clear()
        self._fingerprints.clear()
        self._sets = None

    def _refresh(self, desired: Ruleset, outcome: Outcome) -> None:
        """Reads what isn't known, or is no longer as it was left."""
        for table in all_tables():
            if table in desired.tables:
                self._kernel.learn(table, (r for chain in desired.tables[table].chains.values() for r in chain))
                self._kernel.learn(table, (r for h in desired.tables[table].hooks.values() for r in (*h.first, *h.last)))
            fingerprint = self._kernel.fingerprint(table)
            if table not in self._tables or self._fingerprints.get(table) != fingerprint:
                known = table in self._tables
                before = self._tables.get(table)
                self._tables[table] = self._kernel.read_table(table)
                self._fingerprints[table] = self._kernel.fingerprint(table)
                if known and self._ours_differs(before, self._tables[table]):
                    outcome.drifted[str(table)] += 1
        if self._sets is None:
            self._sets = self._kernel.read_sets()

    @staticmethod
    def _ours_differs(before: ActualTable | None, now: ActualTable) -> bool:
        if before is None or before.chains != now.chains:
            return True
        return any(_own(before, chain) != _own(now, chain) for chain in before.builtins)

    def _carry_out(self, desired: Ruleset, outcome: Outcome) -> None:
        assert self._sets is not None, "_refresh has just read them"  # noqa: S101 # tells the type checker what _refresh did
        steps = plan(ActualState(dict(self._tables), self._sets), desired, self.marks)
        for step in steps:
            try:
                self._kernel.apply(step)
            except KernelError as error:
                raise KernelError(str(error), step=error.step or step, retry=error.retry) from error
            if isinstance(step, TableEdit):
                outcome.commits += 1
                outcome.changed_rules += sum(len(chain) for chain in step.chains.values() if chain is not None)
                self._tables.pop(step.table, None)
            else:
                outcome.set_steps += 1
        for table in all_tables():
            if table not in self._tables:
                self._tables[table] = self._kernel.read_table(table)
                self._fingerprints[table] = self._kernel.fingerprint(table)
        if any(not isinstance(step, TableEdit) for step in steps):
            self._sets = _as_left(desired)

    def drifted(self) -> bool:
        """Whether a table or a set no longer is as it was left; cheap: fingerprints, and the sets' member counts."""
        if self._sets is None:
            return True
        if any(self._kernel.fingerprint(table) != known for table, known in self._fingerprints.items()):
            return True
        headers = self._kernel.read_sets(members=False)
        if {name: s.count for name, s in headers.items()} != {name: s.count for name, s in self._sets.items()}:
            self._sets = None
            return True
        return False

    def distrust_sets(self) -> None:
        """Makes the next apply read every set's members."""
        self._sets = None


def _own(table: ActualTable, builtin: str) -> tuple[object, ...]:
    """Our rules in a kernel chain, and whether they still are where they belong: foreign rules count only by position."""
    rules = table.builtins.get(builtin, ())
    ours = [isinstance(rule, Unknown) and not rule.ours for rule in rules]
    return (tuple(rule for rule, foreign in zip(rules, ours, strict=True) if not foreign), ours[:1], ours[-1:])


def _as_left(desired: Ruleset) -> dict[str, ActualSet]:
    return {name: ActualSet(s.type, s.family, s.max_members, s.members, len(s.members)) for name, s in desired.sets.items()}
