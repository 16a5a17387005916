"""Brings the kernel to a desired ruleset, and notices when somebody else changed it. Engine thread only.

What the kernel holds is remembered between applies, and trusted only where nobody else changed it since. Every read, plan and
write happens under one hold of the xtables lock.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from hostward.dataplane.kernel import (
    ActualSet,
    ActualTable,
    DestroySet,
    Effort,
    Kernel,
    KernelError,
    Step,
    TableEdit,
    members_of,
)
from hostward.dataplane.plan import ActualState, plan, plan_change, rules_of, vocabulary
from hostward.dataplane.state import is_own, of_family, take
from hostward.dataplane.strangers import readings
from hostward.dataplane.usage import Usage
from hostward.render.marks import Marks
from hostward.render.ruleset import TABLES, Family, Focus, IPSet, Ruleset, Table, TableId

ATTEMPTS = 10
Parts = dict[Family, tuple[Ruleset, Marks]]


class Outcome(Struct):
    """What one apply did. `written_rules` counts the rules of written chains; `tables`, `sets`: what others had changed.

    `compared_chains`: how many chains were looked at, in what is desired, to find what to write.

    `left`: sets that nothing of ours names but that the kernel doesn't let go, and why; they change no packet's fate.
    `lock_waits`: seconds until the xtables lock was had, each time.
    """

    commits: int = 0
    set_steps: int = 0
    written_rules: int = 0
    changed_members: int = 0
    compared_chains: int = 0
    tables: Counter[TableId] = field(default_factory=Counter)
    sets: Counter[Family] = field(default_factory=Counter)
    left: dict[str, str] = field(default_factory=dict)
    lock_waits: list[float] = field(default_factory=list)
    effort: Effort = field(default_factory=Effort)

    @property
    def repaired(self) -> bool:
        """Whether anything that others did was put right."""
        return bool(self.tables or self.sets)


class Applier:
    """Remembers what it left in the kernel. `desired` is what was last wholly there of each family, None before the first."""

    def __init__(self, kernel: Kernel) -> None:
        self.desired: Ruleset | None = None
        self._there: Parts = {}
        self._settled: set[Family] = set()
        """The families of which the kernel holds just what is in `_there`, as far as is known."""
        self._usages: dict[TableId, Usage] = {}
        self._kernel = kernel
        self._tables: dict[TableId, ActualTable] = {}
        self._suspect: set[TableId] = set()
        self._sets: Mapping[str, ActualSet] | None = None
        self._left_sets: Mapping[str, ActualSet] = {}
        self.saw_change = False
        """Whether the last look found that others changed something, and not only that too little is known to tell."""

    def bring(
        self, desired: Ruleset, marks: Marks, focus: Focus | None = None, hurry: Callable[[], bool] = lambda: False
    ) -> Outcome:
        """Makes the kernel hold `desired`. Lost races are tried again here; raises KernelError when that doesn't help.

        A lock that somebody keeps is no lost race: it was waited for already, and is the caller's to report. `focus` names
        what may differ from what was last brought without an error; only that is looked at, as far as nobody is known to
        have interfered. What others change is looked for by `looks`, not here. What was written is read back at the end, unless
        there is a `hurry`.
        """
        return self._bring(dict.fromkeys(self._kernel.families(), (desired, marks)), focus, hurry)

    def repair(self) -> Outcome:
        """Puts back what others changed of what was wholly there. Raises KernelError as `bring` does."""
        return self._bring(dict(self._there), None, lambda: False)

    def forget(self) -> None:
        """Trusts nothing that was remembered: the next apply reads everything."""
        self._tables.clear()
        self._sets = None
        self._left_sets = {}
        self._settled.clear()

    def _bring(self, parts: Parts, focus: Focus | None, hurry: Callable[[], bool]) -> Outcome:
        outcome = Outcome()
        before = self._kernel.effort()
        for attempt in range(ATTEMPTS):
            locked = False
            began = time.monotonic()
            try:
                with self._kernel.lock():
                    locked = True
                    outcome.lock_waits.append(time.monotonic() - began)
                    self._refresh_sets(outcome)
                    self._bring_families(parts, focus, outcome)
                    self._kernel.verify(hurry)
            except KernelError as error:
                self.forget()
                if not locked or not error.retry or attempt == ATTEMPTS - 1:
                    raise
            else:
                break
        outcome.effort = self._kernel.effort().since(before)
        return outcome

    def _bring_families(self, parts: Parts, focus: Focus | None, outcome: Outcome) -> None:
        """Each family by itself: no packet meets both, and what the kernel refuses of one doesn't hold up the other."""
        refusals = []
        for family, (desired, marks) in parts.items():
            try:
                if focus is not None and self._is_known(family, marks):
                    if focus.touches(family):
                        self._change(family, desired, focus, marks, outcome)
                elif not self._replace(family, desired, marks, outcome):
                    continue
            except KernelError as error:
                refusals.append(error)
                continue
            self._there[family] = (desired, marks)
        wholes = [desired for desired, _ in self._there.values()]
        if wholes:
            self.desired = wholes[0] if all(one is wholes[0] for one in wholes) else _whole(self._there)
        if refusals:
            text = "; ".join(map(str, refusals))
            raise KernelError(text, step=refusals[0].step, retry=any(error.retry for error in refusals)) from refusals[0]

    def _is_known(self, family: Family, marks: Marks) -> bool:
        """Whether the kernel holds of a family what was brought there last, as far as is known."""
        return (
            family in self._settled
            and self._there[family][1] == marks
            and self._suspect.isdisjoint(TableId(family, name) for name in TABLES)
        )

    def _replace(self, family: Family, desired: Ruleset, marks: Marks, outcome: Outcome) -> bool:
        """Compares everything of a family; False where there is nothing to be read and nothing wanted."""
        self._settled.discard(family)
        part = of_family(desired, family)
        try:
            self._refresh_tables(family, part, marks, outcome)
        except KernelError:
            # Where tables can't be read, nothing of ours can be in the way of a family that nothing is wanted of.
            if part.tables or not desired.tables:
                raise
            return False
        outcome.compared_chains += sum(len(table.chains) for table in part.tables.values())
        state = ActualState(self._tables, self._sets or {})
        self._carry_out(family, plan(state, part, marks, (family,)), part.sets, outcome)
        for name in TABLES:
            self._usages.pop(TableId(family, name), None)
        for where, table in part.tables.items():
            self._kernel.placed(where, table.chains)
        return True

    def _change(self, family: Family, desired: Ruleset, focus: Focus, marks: Marks, outcome: Outcome) -> None:
        """Compares what may differ of a family."""
        self._settled.discard(family)
        for where in (TableId(family, name) for name in TABLES):
            if where not in self._usages:
                self._usages[where] = Usage(self._tables[where].chains)
        outcome.compared_chains += sum(len(names) for where, names in focus.chains.items() if where.family == family)
        state = ActualState(self._tables, self._sets or {})
        steps = plan_change(state, self._usages, desired, focus, marks=marks, family=family)
        sets = {name: desired.sets[name] for name in focus.sets if name in desired.sets}
        self._carry_out(family, steps, {name: held for name, held in sets.items() if held.family == family}, outcome)

    def _refresh_tables(self, family: Family, desired: Ruleset, marks: Marks, outcome: Outcome) -> None:
        """Reads the tables that aren't known, or are no longer as they were left."""
        tables = [TableId(family, name) for name in TABLES]
        stale = [t for t in tables if t not in self._tables or t in self._suspect or self._kernel.changed(t)]
        words = vocabulary(desired, marks) if stale else {}
        for table in stale:
            before = self._tables.get(table)
            self._kernel.learn(table, words[table])
            now = self._kernel.read_table(table)
            if read := readings(table.name, now, marks):  # of an earlier process: the marks and how names begin are settings
                self._kernel.learn(table, read)
                now = self._kernel.read_table(table)
            self._tables[table] = now
            self._suspect.discard(table)
            if before is not None and _ours(before) != _ours(now):
                outcome.tables[table] += 1

    def _refresh_sets(self, outcome: Outcome) -> None:
        """Reads the sets unless they are known."""
        if self._sets is None:
            self._settled.clear()
            self._sets = self._kernel.read_sets()
            for name, left in self._left_sets.items():
                found = self._sets.get(name)
                if found is None or found.members != left.members:
                    outcome.sets[left.family] += 1

    def _carry_out(self, family: Family, steps: Sequence[Step], wanted: Mapping[str, IPSet], outcome: Outcome) -> None:
        """Does what was planned, after which `wanted` are in the kernel."""
        tables, sets = dict(self._tables), dict(self._sets or {})
        left = len(outcome.left)
        guarded = any(held.chains for where, held in tables.items() if where.family == family)  # else all packets may pass yet
        for table, rules in rules_of(steps).items():
            self._kernel.learn(table, rules)
        for at, step in enumerate(steps, 1):
            try:
                self._kernel.apply(step)
            except KernelError as error:
                if not isinstance(step, DestroySet):
                    raise
                outcome.left[step.name] = str(error)
                continue
            if isinstance(step, TableEdit):
                outcome.commits += 1
                outcome.written_rules += sum(len(chain) for chain in step.chains.values() if chain is not None)
                self._follow(tables[step.table], step)
            else:
                outcome.set_steps += 1
                outcome.changed_members += members_of(step)
            take(tables, sets, step)
            if guarded and _chooses(step) and not all(isinstance(later, DestroySet) for later in steps[at:]):
                self._kernel.let_pass()
        for name, held in wanted.items():
            # The very object: then the next comparison is one of two names for it.
            sets[name] = replace(sets[name], members=held.members)
        self._tables, self._sets, self._left_sets = tables, sets, sets
        if len(outcome.left) == left:
            self._settled.add(family)

    def _follow(self, table: ActualTable, edit: TableEdit) -> None:
        if (usage := self._usages.get(edit.table)) is not None:
            for name, chain in edit.chains.items():
                usage.replace(name, table.chains.get(name), chain)

    def looks(self) -> Iterator[bool]:
        """Whether something is no longer as it was left, piece by piece: the sets by their counts, each table by its bytes.

        Between two pieces anything may be brought. After a True there is nothing more to look at: `repair` does.
        """
        self.saw_change = False
        # Sets first and always: a repair of tables that relies on sets which have gone is refused, and the loss isn't counted.
        yield self._sets_drifted()
        for table in [TableId(family, name) for family in self._there for name in TABLES]:
            yield self._table_drifted(table)

    def _sets_drifted(self) -> bool:
        if self._sets is None or not self._tables:
            return True
        headers = self._kernel.read_sets(members=False)
        if {name: found.count for name, found in headers.items()} != {name: left.count for name, left in self._sets.items()}:
            self._sets = None
            self.saw_change = True
            return True
        return False

    def _table_drifted(self, table: TableId) -> bool:
        if table not in self._suspect and self._kernel.changed(table):
            self._suspect.add(table)
            self.saw_change = True
        return table in self._suspect

    def distrust_tables(self) -> None:
        """Makes the next apply read every table, also where nothing seems to have changed since."""
        self._suspect = set(self._tables)

    def distrust_sets(self) -> None:
        """Makes the next apply read every set's members."""
        self._sets = None


def _chooses(step: Step) -> bool:
    """Whether packets that came to raw before this step and are on their way go by other rules than those that come now."""
    return isinstance(step, TableEdit) and step.table.name == "raw"


def _whole(there: Parts) -> Ruleset:
    tables: dict[TableId, Table] = {}
    sets: dict[str, IPSet] = {}
    for family, (desired, _) in there.items():
        part = of_family(desired, family)
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
