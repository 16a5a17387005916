"""The tables of legacy iptables, both families: read, recognised, edited, compared with what they were.

It knows rules and chains, not what they are for, and of sets only the indexes behind their names. One thread, the engine's,
may call it: libiptc and libxtables keep state in globals.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

from msgspec import Struct, field

from hostward.dataplane.kernel import ActualChain, ActualTable, KernelError, Parting, TableEdit, Unknown
from hostward.dataplane.xtables.blob import Span
from hostward.dataplane.xtables.commit import Chains, Removed, commit
from hostward.dataplane.xtables.delta import EncodedEdit
from hostward.dataplane.xtables.encode import Encoder, check_chain_name
from hostward.dataplane.xtables.known import Known
from hostward.dataplane.xtables.layout import LAYOUTS, LayoutError, is_ours
from hostward.dataplane.xtables.lock import DEFAULT_PATH, POLL_SECONDS, XtablesLock
from hostward.dataplane.xtables.parts import EncodeError
from hostward.dataplane.xtables.read_back import read_back
from hostward.dataplane.xtables.snapshot import Snapshot
from hostward.dataplane.xtables.sockopt import SetSocket, TableInfo, TableSocket
from hostward.render.ruleset import FAMILIES, Chain, Family, Rule, TableId, is_own_chain


class _Seen(Struct):
    """What a table last was, the fingerprint that stands for it, and what it, or some of its chains, read as.

    `written`: what chains must hold that were written since the snapshot was taken, which wasn't taken anew; `unverified`:
    those of them that weren't read back yet.
    """

    snapshot: Snapshot
    fingerprint: bytes
    chains: dict[str, ActualChain]
    generation: int
    read: ActualTable | None = None
    written: Chains = field(default_factory=dict)
    unverified: dict[str, None] = field(default_factory=dict)


class XTables:
    """The part of `kernel.Kernel` that is about tables. Every call may raise KernelError."""

    def __init__(self, lock_path: Path = DEFAULT_PATH, lock_timeout: float = 10.0, lock_poll: float = POLL_SECONDS) -> None:
        self._lock = XtablesLock(lock_path, lock_timeout, lock_poll)
        self._encoders: dict[Family, Encoder] = {family: Encoder(family) for family in FAMILIES}
        self._known: dict[TableId, Known] = {}
        self._seen: dict[TableId, _Seen] = {}
        self._fingerprints = count(1)
        self._owner: int | None = None
        self._parted: dict[TableId, dict[tuple[str, str], tuple[int, int]]] = {}
        self.entry_bytes = 0
        self.processes = 0
        """What all edits together put in: bytes of entries, and by so many child processes."""

    def lock(self) -> AbstractContextManager[None]:
        """Holds the xtables lock; may be entered again. `apply` takes it by itself when it isn't held."""
        self._own()
        return self._lock.held()

    @property
    def lock_retries(self) -> int:
        """How often the lock was asked for in vain."""
        return self._lock.retries

    # --- reading -------------------------------------------------------------------------------------------------------
    def learn(self, table: TableId, rules: Iterable[Rule]) -> None:
        """Names rules that a later `read_table` shall recognise. Raises KernelError for one that can't be in a table."""
        self._own()
        with _as_kernel_error(table):
            self._known_in(table).learn(rules)

    def read_table(self, table: TableId) -> ActualTable:
        """The present content of a table. In kernel chains only rules that carry our identity are recognised: an equal rule
        without it is somebody else's."""
        self._own()
        known = self._known_in(table)
        with _as_kernel_error(table), self._packing(table):
            seen = self._look(table, thorough=True)
            if seen.read is None or seen.generation != known.generation:
                if seen.generation != known.generation:
                    seen.chains = {name: rules for name, rules in seen.chains.items() if not _has_unknown(rules)}
                seen.read = _named(seen.snapshot, known, seen.chains)
                seen.chains = dict(seen.read.chains)
                known.forget_unused(seen.read)
                seen.generation = known.generation
        return seen.read

    def fingerprint(self, table: TableId) -> bytes:
        """Stands for all of a table but counters; reads it. Equal to the one before as long as nothing changed since."""
        self._own()
        with _as_kernel_error(table), self._packing(table):
            return self._look(table).fingerprint

    def seen(self, table: TableId) -> bytes:
        """The fingerprint of what the last `read_table`, `fingerprint` or `apply` saw, without a look; b"" before the first."""
        self._own()
        found = self._seen.get(table)
        return found.fingerprint if found else b""

    def placed(self, table: TableId, chains: Mapping[str, Chain]) -> None:
        """Names the rules that stand in own chains."""
        self._own()
        self._known_in(table).placed(chains)

    def partings(self, table: TableId) -> list[Parting]:
        """What removed rules had counted, since the last call."""
        return [Parting(*where, *counts) for where, counts in self._parted.pop(table, {}).items()]

    def counters(self, table: TableId) -> Mapping[str, array[int]]:
        """Per own chain: packets and bytes of each rule in turn."""
        self._own()
        found: dict[str, array[int]] = {}
        with _as_kernel_error(table), self._packing(table), TableSocket(table.family) as tables, SetSocket() as sets:
            info, blob = tables.read(table)
            counted = bytes(blob)
            seen = self._take(table, info, blob, sets)
            for name in seen.snapshot.chains:
                found[name] = seen.snapshot.counters(name, counted)
        return found

    @contextmanager
    def _packing(self, table: TableId) -> Iterator[None]:
        """Afterwards the table's bytes are packed until the next look, but where it is being written to again and again."""
        before = self._seen.get(table)
        busy = before is not None and bool(before.written)
        try:
            yield
        finally:
            if not busy and (seen := self._seen.get(table)) is not None:
                seen.snapshot.pack()

    def _look(self, table: TableId, *, thorough: bool = False) -> _Seen:
        with TableSocket(table.family) as tables, SetSocket() as sets:
            info, blob = tables.read(table)
            return self._take(table, info, blob, sets, thorough=thorough)

    def _take(self, table: TableId, info: TableInfo, blob: bytearray, sets: SetSocket, *, thorough: bool = False) -> _Seen:
        """Remembers a blob just read, unless it is what was seen before. Clears its counters."""
        before = self._seen.get(table)
        if before is not None and not before.written and before.snapshot.still_is(info, blob, sets.name, thorough=thorough):
            return before
        snapshot = Snapshot(LAYOUTS[table.family], info, blob, sets.name, before.snapshot if before else None)
        chains = {name: before.chains[name] for name in snapshot.same & before.chains.keys()} if before else {}
        if before is not None and before.written and snapshot.is_after(before.snapshot, before.written):
            fingerprint = before.fingerprint
        else:
            fingerprint = next(self._fingerprints).to_bytes(8)
        self._seen[table] = _Seen(snapshot, fingerprint, chains, before.generation if before else -1)
        return self._seen[table]

    # --- writing -------------------------------------------------------------------------------------------------------
    def apply(self, edit: TableEdit) -> None:
        """One atomic commit. Writes nothing when nothing differs; rules that stay keep their counters.

        It is read back by `verify`, or before another table of the family is written to, which may rely on it. After a
        KernelError with `retry` another program interfered: read and plan again. Our rules in a kernel chain are those that
        jump to our chains or have a comment starting with "hw:"; a hook rule that has neither is refused. Jumps to a deleted
        chain in chains of others are removed with it.
        """
        self._own()
        try:
            with _as_kernel_error(edit.table), self._lock.held():
                for table in self.unverified():
                    if table.family == edit.table.family and table != edit.table:
                        self.verify(table)
                known = self._known_in(edit.table)
                encoded = self._encoded(edit, known)
                try:
                    wanted, written = commit(edit.table, encoded)
                except KernelError:
                    self._seen.pop(edit.table, None)
                    raise
                self.entry_bytes += written.entry_bytes
                self.processes += written.by_process
                self._part(edit.table, written.removed)
                self._written(edit.table, wanted)
                known.written(edit.chains)
                seen = self._seen[edit.table]
                for name in edit.chains:
                    seen.chains.pop(name, None)
        except KernelError as error:
            error.step = edit
            raise

    def _part(self, table: TableId, removed: Iterable[Removed]) -> None:
        """Keeps what rules had counted that are gone."""
        known, parted = self._known_in(table), self._parted.setdefault(table, {})
        for gone in removed:
            if meaning := known.meaning(gone.chain, gone.position, gone.content):
                packets, octets = parted.get((gone.chain, meaning), (0, 0))
                parted[gone.chain, meaning] = packets + gone.packets, octets + gone.bytes

    def _encoded(self, edit: TableEdit, known: Known) -> EncodedEdit:
        chains: dict[str, Chain | None] = dict(edit.chains)
        for name in chains:
            check_chain_name(name)
            if not is_own_chain(name):
                raise KernelError(f"table {edit.table}: chain {name} is not ours")
        hooks = {name: (known.encoded(hook.first), known.encoded(hook.last)) for name, hook in edit.hooks.items()}
        for name, (first, last) in hooks.items():
            for rule in (*first, *last):
                if not is_ours(rule.content):
                    raise KernelError(
                        f"table {edit.table}: a rule for {name} could not be told from others' rules: {rule.rule}"
                    )
        wanted = {name: None if rules is None else known.encoded(rules) for name, rules in chains.items()}
        return EncodedEdit(wanted, hooks, known.standing(chains))

    def _written(self, table: TableId, wanted: Chains) -> None:
        seen = self._seen.get(table) or self._look(table)
        seen.written.update(wanted)
        seen.unverified.update(dict.fromkeys(wanted))
        seen.fingerprint, seen.read = next(self._fingerprints).to_bytes(8), None

    def unverified(self) -> list[TableId]:
        """The tables that were written to since they were last read back."""
        return [table for table, seen in self._seen.items() if seen.unverified]

    def verify(self, table: TableId) -> None:
        """Reads back what was written: it may have been undone by a program that doesn't take the lock.

        Raises KernelError, with `retry`, if so.
        """
        self._own()
        seen = self._seen[table]
        written = {name: seen.written[name] for name in seen.unverified}
        seen.unverified.clear()
        with _as_kernel_error(table):
            differing = read_back(table, written)
        if differing:
            self._seen.pop(table, None)
            raise KernelError(
                f"table {table}: chain {differing[0]} is not as it was written: who else writes to it?", retry=True
            )

    # --- ownership -----------------------------------------------------------------------------------------------------
    def _own(self) -> None:
        """The first thread that calls is the only one that may. Another is a bug of ours, so it isn't a KernelError."""
        me = threading.get_ident()
        if self._owner is None:
            self._owner = me
        if self._owner != me:
            raise RuntimeError("the packet filter is used from a second thread; libiptc and libxtables allow one")

    def _known_in(self, table: TableId) -> Known:
        if table not in self._known:
            self._known[table] = Known(self._encoders[table.family])
        return self._known[table]


def _named(snapshot: Snapshot, known: Known, done: Mapping[str, ActualChain]) -> ActualTable:
    """A snapshot with its rules named; the own chains in `done` are taken as they are."""

    def kernel_chain(spans: list[Span]) -> ActualChain:
        found: list[Rule | Unknown] = []
        for content in snapshot.contents(spans):
            ours = is_ours(content)
            found.append((known.named(content) if ours else None) or known.unknown(content))
        return tuple(found)

    chains = {name: done[name] if name in done else known.chain(name, snapshot.holds(name) or []) for name in snapshot.chains}
    return ActualTable(chains, {name: kernel_chain(spans) for name, spans in snapshot.builtins.items()})


def _has_unknown(rules: ActualChain) -> bool:
    return any(isinstance(rule, Unknown) for rule in rules)


@contextmanager
def _as_kernel_error(table: TableId) -> Iterator[None]:
    try:
        yield
    except (EncodeError, LayoutError) as error:
        raise KernelError(f"table {table}: {error}") from error
