"""A kernel in memory: strict like the real one, and it can refuse, be cut off, and be watched between any two changes.

It keeps foreign rules, forgets what it wasn't taught, and holds every step to what iptables and ipset accept (libraries
1.4, 3). It stands in for the kernel in tests of everything above; the real backends have tests of their own. One thread.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager

from msgspec import Struct
from msgspec.structs import replace

from hostward.dataplane.kernel import (
    ActualChain,
    ActualSet,
    ActualTable,
    CreateSet,
    DestroySet,
    Effort,
    KernelError,
    Parting,
    ReplaceSet,
    Step,
    TableEdit,
    Unknown,
    UpdateSet,
)
from hostward.dataplane.refusals import KERNEL_CHAINS, hook_refusals, kernel_chain_refusals, rule_refusals, structure_refusals
from hostward.model import nets
from hostward.render.evaluate import FilterState
from hostward.render.ruleset import (
    FAMILIES,
    MAX_SET_NAME,
    TABLES,
    Chain,
    Family,
    Hook,
    Interface,
    IPSet,
    Jump,
    Mark,
    Rule,
    SetMark,
    TableId,
    is_own_chain,
    is_own_set,
)


class KilledError(Exception):
    """The process that was changing the kernel is gone; nothing after this was done."""


class Foreign(Struct, frozen=True):
    """Somebody else's rule: opaque when read, `rule` is what it does to packets."""

    content: bytes
    rule: Rule


Stored = tuple[Rule | Foreign, ...]


class FakeKernel:
    """The packet filter of one host. Tests read and tamper with `chains`, `builtins`, `sets` and `policies` directly.

    `changes` counts the changes that packets could tell apart. `kill_after`: so many of them are made, then KilledError.
    `on_change` is called after each. `refuse` may return an error for a step, which then does nothing.
    `spoken` are the families that it has, `unreadable` the tables that it lacks.
    """

    def __init__(self) -> None:
        tables = [TableId(family, name) for family in FAMILIES for name in TABLES]
        self.chains: dict[TableId, dict[str, Stored]] = {where: {} for where in tables}
        self.builtins: dict[TableId, dict[str, Stored]] = {
            where: dict.fromkeys(KERNEL_CHAINS[where.name], ()) for where in tables
        }
        self.sets: dict[str, IPSet] = {}
        self.policies: set[tuple[TableId, str]] = set()
        self.changes = 0
        self.kill_after: int | None = None
        self.on_change: Callable[[], None] | None = None
        self.refuse: Callable[[Step], KernelError | None] | None = None
        self.spoken: tuple[Family, ...] = FAMILIES
        self.unreadable: set[TableId] = set()
        self._learnt: dict[TableId, set[Rule]] = {where: set() for where in tables}
        self._seen: dict[TableId, tuple[dict[str, Stored], dict[str, Stored]]] = {}
        self._locked = False

    # --- reading -------------------------------------------------------------------------------------------------------
    def families(self) -> tuple[Family, ...]:
        """What a test says."""
        return self.spoken

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the lock. Raises KernelError when it is held, as another process's would be."""
        if self._locked:
            raise KernelError("another program holds the xtables lock", retry=True)
        self._locked = True
        try:
            yield
        finally:
            self._locked = False

    def learn(self, table: TableId, rules: Iterable[Rule]) -> None:
        """Names rules that `read_table` shall recognise."""
        self._learnt[table].update(rules)

    def forget(self) -> None:
        """What a new process knows of the rules in the kernel: nothing."""
        for known in self._learnt.values():
            known.clear()

    def read_table(self, table: TableId) -> ActualTable:
        """The present content; our rules that weren't learnt are `Unknown`, as all foreign ones are."""
        known = self._learnt[table]
        self._require_family(table)

        def read(chain: Stored) -> ActualChain:
            return tuple(rule if isinstance(rule, Rule) and rule in known else _opaque(rule) for rule in chain)

        self._seen[table] = self._content(table)
        own = {name: read(chain) for name, chain in self.chains[table].items() if is_own_chain(name)}
        return ActualTable(own, {name: read(chain) for name, chain in self.builtins[table].items()})

    def read_sets(self, names: Collection[str] | None = None, *, members: bool = True) -> dict[str, ActualSet]:
        """Our sets, all or those named that exist."""
        wanted = self.sets if names is None else [name for name in names if name in self.sets]
        return {
            name: ActualSet(found.type, found.family, found.max_members, found.members if members else None, len(found.members))
            for name in wanted
            if is_own_set(name) and (found := self.sets[name])
        }

    def verify(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """What was written is there."""

    def let_pass(self) -> None:
        """Packets take no time."""

    def placed(self, table: TableId, chains: Mapping[str, Chain]) -> None:
        """No packet was ever seen."""

    def counters(self, table: TableId) -> Mapping[str, array[int]]:
        """No packet was ever seen."""
        return {name: array("Q", bytes(16 * len(chain))) for name, chain in self.chains[table].items() if is_own_chain(name)}

    def partings(self, _: TableId) -> list[Parting]:
        """No packet was ever seen."""
        return []

    def effort(self) -> Effort:
        """Nothing is written anywhere."""
        return Effort()

    def changed(self, table: TableId) -> bool:
        """Whether a test tampered with the table since it was last read or committed."""
        self._require_family(table)
        return self._seen.get(table) != self._content(table)

    def _require_family(self, table: TableId) -> None:
        if table.family not in self.spoken or table in self.unreadable:
            raise KernelError(f"cannot read table {table}: Protocol not available")

    def _content(self, table: TableId) -> tuple[dict[str, Stored], dict[str, Stored]]:
        return dict(self.chains[table]), dict(self.builtins[table])

    def filter_state(self) -> FilterState:
        """What packets meet, foreign rules included."""
        tables = {}
        for where, chains in self.chains.items():
            everything = {**chains, **self.builtins[where]}
            tables[where] = {
                name: tuple(rule.rule if isinstance(rule, Foreign) else rule for rule in chain)
                for name, chain in everything.items()
            }
        return FilterState(tables, dict(self.sets), frozenset(self.policies))

    # --- writing -------------------------------------------------------------------------------------------------------
    def apply(self, step: Step) -> None:
        """Carries out a step, or raises KernelError and leaves everything as it was; but an UpdateSet may be half done."""
        if self.refuse is not None and (error := self.refuse(step)) is not None:
            raise error
        match step:
            case TableEdit():
                self._edit(step)
            case CreateSet(name, wanted):
                self._require(
                    name not in self.sets, step, f"Set {name} cannot be created: set with the same name already exists"
                )
                self._fill(step, wanted, lambda temporary: self._rename(temporary, name))
            case ReplaceSet(name, wanted):
                self._require(name in self.sets, step, f"The set with the given name {name} does not exist")
                same = (self.sets[name].type, self.sets[name].family) == (wanted.type, wanted.family)
                self._require(same, step, f"The sets cannot be swapped: the type of {name} does not match")
                self._fill(step, wanted, lambda temporary: self._swap(temporary, name))
            case UpdateSet():
                self._update(step)
            case DestroySet(name):
                users = [str(where) for where, _, rule in self._rules() if name in rule.uses_sets()]
                self._require(
                    not users, step, f"Set {name} cannot be destroyed: it is in use by a kernel component {users[:3]}"
                )
                if name in self.sets:  # destroying a set that is gone is no error
                    self._change(lambda: self.sets.pop(name))

    def _require(self, fine: bool, step: Step, message: str) -> None:
        if not fine:
            raise KernelError(message, step=step)

    def _change(self, what: Callable[[], object]) -> None:
        if self.kill_after is not None and self.changes >= self.kill_after:
            raise KilledError
        what()
        self.changes += 1
        if self.on_change is not None:
            self.on_change()

    def _rules(self) -> Iterator[tuple[TableId, str, Rule]]:
        for where, chains in self.chains.items():
            for name, chain in {**chains, **self.builtins[where]}.items():
                for rule in chain:
                    yield where, name, rule.rule if isinstance(rule, Foreign) else rule

    def _edit(self, edit: TableEdit) -> None:
        where, chains, builtins = edit.table, dict(self.chains[edit.table]), dict(self.builtins[edit.table])
        for name, chain in edit.chains.items():
            self._require(is_own_chain(name), edit, f"chain {name} is none of ours")
            if chain is None:
                self._require(name in chains, edit, f"{where}: no chain {name} to delete")
                del chains[name]
            else:
                chains[name] = chain
        for name, hook in edit.hooks.items():
            self._require(name in builtins, edit, f"{where}: no kernel chain {name}")
            builtins[name] = _hooked(builtins[name], hook)
        meant = _plain(chains), _plain(builtins)
        refusals = [*structure_refusals(*meant), *hook_refusals(*meant)]
        for name, written in {**chains, **builtins}.items():
            for rule in written:
                if isinstance(rule, Rule):
                    refusals += [f"{name}: {text}" for text in rule_refusals(rule, where, self.sets)]
                    refusals += kernel_chain_refusals(name, rule) if name in builtins else ()
        self._require(not refusals, edit, f"{where}: {'; '.join(refusals[:3])}")

        def commit() -> None:
            self.chains[where], self.builtins[where] = chains, builtins
            if where in self._seen:  # what somebody did before, unseen, is still to be noticed
                expected, hooked = self._seen[where]
                expected.update((name, chain) for name, chain in edit.chains.items() if chain is not None)
                for name in [name for name, chain in edit.chains.items() if chain is None]:
                    expected.pop(name, None)
                hooked.update({name: _hooked(hooked[name], hook) for name, hook in edit.hooks.items()})
            else:
                self._seen[where] = self._content(where)

        self._change(commit)

    def _check_members(self, step: Step, name: str, wanted: IPSet) -> None:
        self._require(is_own_set(name) and len(name) <= MAX_SET_NAME, step, f"set name {name} is too long or none of ours")
        self._require(len(wanted.members) <= wanted.max_members, step, f"set {name}: Hash is full, cannot add more elements")
        for member in wanted.members:
            address, comma, _ = member.partition(",")
            kind = "hash:ip,port" if comma else "hash:net"
            fine = kind == wanted.type and nets.family(address) == wanted.family and not nets.is_catch_all(address)
            self._require(fine, step, f"set {name} of type {wanted.type}, v{wanted.family} can't hold {member}")

    def _fill(self, step: CreateSet | ReplaceSet, wanted: IPSet, finish: Callable[[str], None]) -> None:
        self._check_members(step, step.name, wanted)
        temporary = f"hw{wanted.family}~0"
        self._change(lambda: self.sets.update({temporary: wanted}))
        finish(temporary)

    def _rename(self, temporary: str, name: str) -> None:
        self._change(lambda: self.sets.update({name: self.sets.pop(temporary)}))

    def _swap(self, temporary: str, name: str) -> None:
        self._change(lambda: self.sets.update({name: self.sets[temporary], temporary: self.sets[name]}))
        self._change(lambda: self.sets.pop(temporary))

    def _update(self, step: UpdateSet) -> None:
        self._require(step.name in self.sets, step, f"The set with the given name {step.name} does not exist")
        for member in sorted(step.add):
            members = self.sets[step.name].members | {member}
            self._check_members(step, step.name, replace(self.sets[step.name], members=members))
            self._change(lambda members=members: self._put(step.name, members))  # type: ignore[misc] # a default binds the loop's value
        for member in sorted(step.remove):
            members = self.sets[step.name].members - {member}
            self._change(lambda members=members: self._put(step.name, members))  # type: ignore[misc] # as above

    def _put(self, name: str, members: Set[str]) -> None:
        self.sets[name] = replace(self.sets[name], members=members)


def _hooked(builtin: Stored, hook: Hook) -> Stored:
    return (*hook.first, *(rule for rule in builtin if isinstance(rule, Foreign) and not _opaque(rule).ours), *hook.last)


def _plain(chains: Mapping[str, Stored]) -> dict[str, tuple[Rule, ...]]:
    return {name: tuple(r.rule if isinstance(r, Foreign) else r for r in chain) for name, chain in chains.items()}


def _opaque(rule: Rule | Foreign) -> Unknown:
    content, meaning = (rule.content, rule.rule) if isinstance(rule, Foreign) else (repr(rule).encode(), rule)
    leads_to = meaning.target.chain if isinstance(meaning.target, Jump) and is_own_chain(meaning.target.chain) else ""
    prefix = next((match.name for match in meaning.matches if isinstance(match, Interface) and match.prefix), "")
    marks = tuple(match for match in meaning.matches if isinstance(match, Mark))
    gives = meaning.target if isinstance(meaning.target, SetMark) else None
    ours = bool(leads_to) or meaning.comment.startswith("hw:")
    return Unknown(content, ours, leads_to, prefix if ours else "", marks, gives)
