"""Brings the kernel to a desired ruleset, and notices when somebody else changed it. Engine thread only.

What the kernel holds is remembered between applies, and trusted only where nobody else changed it since. Every read, plan and
write happens under one hold of the xtables lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from hostward.dataplane.kernel import ActualSet, ActualTable, Kernel, KernelError, TableEdit
from hostward.dataplane.plan import ActualState, plan, rules_of, vocabulary
from hostward.dataplane.state import after, is_own
from hostward.render.marks import Marks
from hostward.render.ruleset import FAMILIES, TABLES, Family, Ruleset, TableId

ATTEMPTS = 10
ALL_TABLES = tuple(TableId(family, table) for family in FAMILIES for table in TABLES)


@dataclass(slots=True)
class Outcome:
    """What one apply did. `written_rules` counts the rules of written chains; `tables`, `sets`: what others had changed."""

    commits: int = 0
    set_steps: int = 0
    written_rules: int = 0
    tables: Counter[TableId] = field(default_factory=Counter)
    sets: Counter[Family] = field(default_factory=Counter)

    @property
    def repaired(self) -> bool:
        """Whether anything that others did was put right."""
        return bool(self.tables or self.sets)


class Applier:
    """Remembers what it left in the kernel. `desired` is the last ruleset that is wholly there, None before the first."""

    def __init__(self, kernel: Kernel) -> None:
        self.desired: Ruleset | None = None
        self._marks: Marks | None = None
        self._kernel = kernel
        self._tables: dict[TableId, ActualTable] = {}
        self._sets: Mapping[str, ActualSet] | None = None
        self._left_sets: Mapping[str, ActualSet] = {}

    def bring(self, desired: Ruleset, marks: Marks) -> Outcome:
        """Makes the kernel hold `desired`. Lost races are tried again here; raises KernelError when that doesn't help.

        A lock that somebody keeps is no lost race: it was waited for already, and is the caller's to report.
        """
        outcome = Outcome()
        for attempt in range(ATTEMPTS):
            locked = False
            try:
                with self._kernel.lock():
                    locked = True
                    self._refresh(desired, marks, outcome)
                    self._carry_out(desired, marks, outcome)
            except KernelError as error:
                self.forget()
                if not locked or not error.retry or attempt == ATTEMPTS - 1:
                    raise
            else:
                self.desired, self._marks = desired, marks
                break
        return outcome

    def repair(self) -> Outcome:
        """Puts back what others changed of the last ruleset that was wholly there. Raises KernelError as `bring` does."""
        if self.desired is None or self._marks is None:
            return Outcome()
        return self.bring(self.desired, self._marks)

    def forget(self) -> None:
        """Trusts nothing that was remembered: the next apply reads everything."""
        self._tables.clear()
        self._sets = None

    def _refresh(self, desired: Ruleset, marks: Marks, outcome: Outcome) -> None:
        """Reads what isn't known, or is no longer as it was left."""
        stale = [table for table in ALL_TABLES if table not in self._tables or self._kernel.changed(table)]
        words = vocabulary(desired, marks) if stale else {}
        for table in stale:
            before = self._tables.get(table)
            self._kernel.learn(table, words[table])
            self._tables[table] = now = self._kernel.read_table(table)
            if before is not None and _ours(before) != _ours(now):
                outcome.tables[table] += 1
        if self._sets is None:
            self._sets = self._kernel.read_sets()
            for name, left in self._left_sets.items():
                found = self._sets.get(name)
                if found is None or found.members != left.members:
                    outcome.sets[left.family] += 1

    def _carry_out(self, desired: Ruleset, marks: Marks, outcome: Outcome) -> None:
        state = ActualState(dict(self._tables), self._sets or {})
        steps = plan(state, desired, marks)
        for table, rules in rules_of(steps).items():
            self._kernel.learn(table, rules)
        for step in steps:
            self._kernel.apply(step)
            state = after(state, step)
            if isinstance(step, TableEdit):
                outcome.commits += 1
                outcome.written_rules += sum(len(chain) for chain in step.chains.values() if chain is not None)
            else:
                outcome.set_steps += 1
        self._tables = dict(state.tables)
        self._sets = self._left_sets = dict(state.sets)

    def drifted(self) -> bool:
        """Whether a table or a set no longer is as it was left; cheap: whole tables by their bytes, sets by their counts."""
        if self._sets is None or not self._tables:
            return True
        if any(self._kernel.changed(table) for table in ALL_TABLES):
            return True
        headers = self._kernel.read_sets(members=False)
        if {name: found.count for name, found in headers.items()} != {name: left.count for name, left in self._sets.items()}:
            self._sets = None
            return True
        return False

    def distrust_sets(self) -> None:
        """Makes the next apply read every set's members."""
        self._sets = None


def _ours(table: ActualTable) -> tuple[object, ...]:
    """Our chains, and our rules in the kernel's chains with their places: first, last, or somewhere between others'."""
    places = []
    for name, rules in sorted(table.builtins.items()):
        own = [is_own(rule) for rule in rules]
        firsts = own.index(False) if False in own else len(own)
        lasts = own[::-1].index(False) if False in own else 0
        places.append((name, rules[:firsts], rules[len(rules) - lasts :], sum(own)))
    return (dict(table.chains), places)
