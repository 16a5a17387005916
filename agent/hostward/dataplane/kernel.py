"""What a packet-filter backend offers: the actual state as a value, and the edits that a plan is made of.

The real kernel (`xtables`, `ipsets`) and the strict fake implement `Kernel`. Only the engine thread calls it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from msgspec import Struct, field

from hostward.render.ruleset import Chain, Family, Hook, IPSet, Mark, Rule, SetMark, TableId


class Unknown(Struct, frozen=True):
    """A rule in the kernel that is none of those we know: opaque, compared by its content.

    `ours`: it jumps to our chains, or has a comment of ours; `leads_to` is that chain. `prefix`: if it is ours and asks for
    all interfaces whose names begin alike, how they begin. `marks`: what it asks of the packet's mark, in order; `gives`: what
    it makes of it.
    """

    content: bytes
    ours: bool = False
    leads_to: str = ""
    prefix: str = ""
    marks: tuple[Mark, ...] = ()
    gives: SetMark | None = None


ActualChain = tuple[Rule | Unknown, ...]


class ActualTable(Struct, frozen=True):
    """What one table holds: our chains whole, and every rule of the kernel chains (foreign ones are `Unknown`)."""

    chains: Mapping[str, ActualChain] = field(default_factory=dict)
    builtins: Mapping[str, ActualChain] = field(default_factory=dict)


class ActualSet(Struct, frozen=True):
    """An own set in the kernel. `members` is None when only its header was read.

    `type` is a SetType, or another text when somebody made the set with a type or options that we never use.
    """

    type: str
    family: Family
    max_members: int
    members: Set[str] | None
    count: int = 0


class TableEdit(Struct, frozen=True):
    """One atomic commit of one table.

    `chains`: name to whole new content, created where missing; None deletes. `hooks`: kernel chain to the only own rules that
    it shall hold, `first` before and `last` after everybody else's (an empty Hook removes ours). What isn't named stays.
    """

    table: TableId
    chains: Mapping[str, Chain | None]
    hooks: Mapping[str, Hook]


class CreateSet(Struct, frozen=True):
    """Make a set and fill it; it must not exist."""

    name: str
    set: IPSet


class UpdateSet(Struct, frozen=True):
    """Change members in place: additions first, then removals, so that a net that is split or joined is always covered."""

    name: str
    family: Family
    add: frozenset[str]
    remove: frozenset[str]


class ReplaceSet(Struct, frozen=True):
    """Put new content under an existing name at once (fill another set, swap, destroy the old)."""

    name: str
    set: IPSet


class DestroySet(Struct, frozen=True):
    """Remove a set that no rule names any more."""

    name: str


SetStep = CreateSet | UpdateSet | ReplaceSet | DestroySet
Step = TableEdit | SetStep


def members_of(step: SetStep) -> int:
    """How many members a step writes."""
    match step:
        case CreateSet(_, wanted) | ReplaceSet(_, wanted):
            return len(wanted.members)
        case UpdateSet(_, _, add, remove):
            return len(add) + len(remove)
        case DestroySet():
            return 0


class Effort(Struct):
    """What writing has cost since the start: bytes of the entries that were put in, netlink messages, child processes."""

    entry_bytes: int = 0
    netlink_messages: int = 0
    processes: int = 0

    def since(self, before: Effort) -> Effort:
        """What came since."""
        return Effort(
            self.entry_bytes - before.entry_bytes,
            self.netlink_messages - before.netlink_messages,
            self.processes - before.processes,
        )


class Parting(NamedTuple):
    """What rules that mean the same (`Rule.counter`) had counted in a chain when edits removed them."""

    chain: str
    meaning: str
    packets: int
    bytes: int


class KernelError(Exception):
    """The kernel or a tool refused. `step`: at what; `retry`: the same may succeed soon (a lost race, a busy lock).

    `do`: what an operator can do, where that is known and no part of the message.
    """

    def __init__(self, message: str, *, step: Step | None = None, retry: bool = False, do: str = "") -> None:
        super().__init__(message)
        self.step = step
        self.retry = retry
        self.do = do


class Kernel(Protocol):
    """Reads and edits of the packet filter. Every call may raise KernelError."""

    def families(self) -> tuple[Family, ...]:
        """The IP versions that the kernel speaks. Of others there are no packets, and no tables to be read."""

    def lock(self) -> AbstractContextManager[None]:
        """Holds the xtables lock: between a read and the edit that relies on it nobody else writes."""

    def learn(self, table: TableId, rules: Iterable[Rule]) -> None:
        """Names rules that a later `read_table` shall recognise; all others come back as `Unknown`."""

    def read_table(self, table: TableId) -> ActualTable:
        """The present content of a table."""

    def changed(self, table: TableId) -> bool:
        """Whether somebody else changed the table since it was last read or committed here; counters don't count. Cheap.

        True for a table that was never read.
        """

    def read_sets(self, names: Collection[str] | None = None, *, members: bool = True) -> dict[str, ActualSet]:
        """Our sets in the kernel, all or those named that exist."""

    def apply(self, step: Step) -> None:
        """Carries out one step of a plan. A commit that another table's relies on is read back before that."""

    def verify(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Reads back what was written and wasn't yet. What a hurry leaves is read with what comes next, or by `changed`.

        Raises KernelError, with `retry`, where the kernel no longer holds what was just written.
        """

    def let_pass(self) -> None:
        """Waits until no packet is on its way any more that was when this was called."""

    def placed(self, table: TableId, chains: Mapping[str, Chain]) -> None:
        """Names the rules that stand in own chains, where a read can't tell equal rules apart that mean two things."""

    def counters(self, table: TableId) -> Mapping[str, array[int]]:
        """Per own chain: packets and bytes of its first rule, of its second, and so on."""

    def partings(self, table: TableId) -> list[Parting]:
        """What removed rules had counted, since the last call. What they count while an edit is being committed is lost."""

    def effort(self) -> Effort:
        """What all writes together have cost so far."""
