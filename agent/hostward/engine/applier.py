"""Brings the kernel to a desired ruleset, and notices when somebody else changed it. Engine thread only.

What the kernel holds is remembered between applies, and trusted only where nobody else changed it since. Every read, plan and
write happens under one hold of the xtables lock.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hostward.dataplane.kernel import ActualSet, ActualTable, DestroySet, Kernel, KernelError, TableEdit
from hostward.dataplane.plan import ActualState, plan, rules_of, vocabulary
from hostward.dataplane.state import after, is_own, of_family
from hostward.render.marks import Marks
from hostward.render.ruleset import TABLES, Family, IPSet, Ruleset, Table, TableId

ATTEMPTS = 10
Parts = dict[Family, tuple[Ruleset, Marks]]


@dataclass(slots=True)
class Outcome:
    """What one apply did. `written_rules` counts the rules of written chains; `tables`, `sets`: what others had changed.

    `left`: sets that nothing of ours names but that the kernel doesn't let go, and why; they change no packet's fate.
    `lock_waits`: seconds until the xtables lock was had, each time.
    """

    commits: int = 0
    set_steps: int = 0
    written_rules: int = 0
    tables: Counter[TableId] = field(default_factory=Counter)
    sets: Counter[Family] = field(default_factory=Counter)
    left: dict[str, str] = field(default_factory=dict)
    lock_waits: list[float] = field(default_factory=list)

    @property
    def repaired(self) -> bool:
        """Whether anything that others did was put right."""
        return bool(self.tables or self.sets)


class Applier:
    """Remembers what it left in the kernel. `desired` is what was last wholly there of each family, None before the first."""

    def __init__(self, kernel: Kernel) -> None:
        self.desired: Ruleset | None = None
        self._there: Parts = {}
        self._kernel = kernel
        self._tables: dict[TableId, ActualTable] = {}
        self._suspect: set[TableId] = set()
        self._sets: Mapping[str, ActualSet] | None = None
        self._left_sets: Mapping[str, ActualSet] = {}

    def bring(self, desired: Ruleset, marks: Marks) -> Outcome:
        """Makes the kernel hold `desired`. Lost races are tried again here; raises KernelError when that doesn't help.

        A lock that somebody keeps is no lost race: it was waited for already, and is the caller's to report.
        """
        return self._bring({family: (of_family(desired, family), marks) for family in self._kernel.families()})

    def repair(self) -> Outcome:
        """Puts back what others changed of what was wholly there. Raises KernelError as `bring` does."""
        return self._bring(dict(self._there))

    def forget(self) -> None:
        """Trusts nothing that was remembered: the next apply reads everything."""
        self._tables.clear()
        self._sets = None
        self._left_sets = {}

    def _bring(self, parts: Parts) -> Outcome:
        outcome = Outcome()
        for attempt in range(ATTEMPTS):
            locked = False
            began = time.monotonic()
            try:
                with self._kernel.lock():
                    locked = True
                    outcome.lock_waits.append(time.monotonic() - began)
                    self._refresh_sets(outcome)
                    self._bring_families(parts, outcome)
            except KernelError as error:
                self.forget()
                if not locked or not error.retry or attempt == ATTEMPTS - 1:
                    raise
            else:
                break
        return outcome

    def _bring_families(self, parts: Parts, outcome: Outcome) -> None:
        """Each family by itself: no packet meets both, and what the kernel refuses of one doesn't hold up the other."""
        refusals = []
        for family, (part, marks) in parts.items():
            try:
                self._refresh_tables(family, part, marks, outcome)
            except KernelError as error:
                # Where tables can't be read, nothing of ours can be in the way of a family that nothing is wanted of.
                if part.tables or not any(wanted.tables for wanted, _ in parts.values()):
                    refusals.append(error)
                continue
            try:
                self._carry_out(family, part, marks, outcome)
            except KernelError as error:
                refusals.append(error)
                continue
            self._there[family] = (part, marks)
            self.desired = _whole(part for part, _ in self._there.values())
        if refusals:
            text = "; ".join(map(str, refusals))
            raise KernelError(text, step=refusals[0].step, retry=any(error.retry for error in refusals)) from refusals[0]

    def _refresh_tables(self, family: Family, desired: Ruleset, marks: Marks, outcome: Outcome) -> None:
        """Reads the tables that aren't known, or are no longer as they were left."""
        tables = [TableId(family, name) for name in TABLES]
        stale = [t for t in tables if t not in self._tables or t in self._suspect or self._kernel.changed(t)]
        words = vocabulary(desired, marks) if stale else {}
        for table in stale:
            before = self._tables.get(table)
            self._kernel.learn(table, words[table])
            self._tables[table] = now = self._kernel.read_table(table)
            self._suspect.discard(table)
            if before is not None and _ours(before) != _ours(now):
                outcome.tables[table] += 1

    def _refresh_sets(self, outcome: Outcome) -> None:
        """Reads the sets unless they are known."""
        if self._sets is None:
            self._sets = self._kernel.read_sets()
            for name, left in self._left_sets.items():
                found = self._sets.get(name)
                if found is None or found.members != left.members:
                    outcome.sets[left.family] += 1

    def _carry_out(self, family: Family, desired: Ruleset, marks: Marks, outcome: Outcome) -> None:
        state = ActualState(dict(self._tables), self._sets or {})
        steps = plan(state, desired, marks, (family,))
        for table, rules in rules_of(steps).items():
            self._kernel.learn(table, rules)
        for step in steps:
            try:
                self._kernel.apply(step)
            except KernelError as error:
                if not isinstance(step, DestroySet):
                    raise
                outcome.left[step.name] = str(error)
                continue
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
        # Sets first and always: a repair of tables that relies on sets which have gone is refused, and the loss isn't counted.
        headers = self._kernel.read_sets(members=False)
        if {name: found.count for name, found in headers.items()} != {name: left.count for name, left in self._sets.items()}:
            self._sets = None
            return True
        tables = [TableId(family, name) for family in self._there for name in TABLES]
        return not self._suspect.isdisjoint(tables) or any(self._kernel.changed(table) for table in tables)

    def distrust_tables(self) -> None:
        """Makes the next apply read every table, also where nothing seems to have changed since."""
        self._suspect = set(self._tables)

    def distrust_sets(self) -> None:
        """Makes the next apply read every set's members."""
        self._sets = None


def _whole(parts: Iterable[Ruleset]) -> Ruleset:
    tables: dict[TableId, Table] = {}
    sets: dict[str, IPSet] = {}
    for part in parts:
        tables |= part.tables
        sets |= part.sets
    return Ruleset(tables, sets)


def _ours(table: ActualTable) -> tuple[object, ...]:
    """Our chains, and our rules in the kernel's chains with their places: first, last, or somewhere between others'."""
    places = []
    for name, rules in sorted(table.builtins.items()):
        own = [is_own(rule) for rule in rules]
        firsts = own.index(False) if False in own else len(own)
        lasts = own[::-1].index(False) if False in own else 0
        places.append((name, rules[:firsts], rules[len(rules) - lasts :], sum(own)))
    return (dict(table.chains), places)
