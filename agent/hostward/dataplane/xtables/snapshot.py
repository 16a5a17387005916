"""What a table was when it was last read, and whether it still is that: everything but counters is compared.

Knows no Rule. The engine thread runs it.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from itertools import pairwise
from typing import Final

from hostward.dataplane.xtables.blob import Span, contents, locate, references
from hostward.dataplane.xtables.delta import Held, contents_of
from hostward.dataplane.xtables.kept import KeptChains, Reading, leads_to
from hostward.dataplane.xtables.layout import COUNTERS, NO_COUNTERS, Layout
from hostward.dataplane.xtables.sockopt import TableInfo
from hostward.render.ruleset import is_own_chain

SetName = Callable[[int], str]
_COUNTER_BYTES: Final = COUNTERS.size


class Snapshot:
    """A table's blob without counters, where its rules are, and which names its set indexes stood for then."""

    def __init__(
        self, layout: Layout, info: TableInfo, blob: bytearray, set_name: SetName, before: Snapshot | None = None
    ) -> None:
        """`same` names the chains that are as they were `before`. Raises LayoutError."""
        self._layout = layout
        self._info = info
        kept = KeptChains(layout, before.reading, blob) if before is not None else None
        places = self._places = locate(layout, info, blob, kept)
        self.builtins = places.builtins
        self.chains = dict.fromkeys(name for name in places.chains if is_own_chain(name))
        still = bytearray(blob) if kept is None else kept.still
        self._clear_counters(still, places.entries if kept is None else self._parsed_entries(kept.chains))
        self._still: bytes | None = bytes(still)
        self._packed: tuple[bytes, bytes] | None = None
        self._sum_of_all = -1  # of the bytes with their counters, when they were last compared
        self._references: dict[str, tuple[frozenset[int], bool]] = {}
        for name in self.chains:
            if before is not None and kept is not None and name in kept.chains:
                self._references[name] = before._references[name]
            else:
                self._references[name] = references(layout, self.reading.still, places.spans(name))
        used = {index for indexes, _ in self._references.values() for index in indexes}
        for spans in self.builtins.values():
            used |= references(layout, self.reading.still, spans)[0]
        self._set_names = {index: set_name(index) for index in used}
        self.same = frozenset(self._same(before, kept)) if before is not None and kept is not None else frozenset()

    @property
    def reading(self) -> Reading:
        """The bytes and what is where in them."""
        if self._still is None:
            assert self._packed is not None, "bytes are packed before they are let go"  # noqa: S101 # tells the type checker
            self._still = zlib.decompress(self._packed[1])
        return Reading(self._still, self._places)

    def pack(self) -> None:
        """Keeps the bytes small until they are asked for: a table is much the same in all its rules."""
        if self._packed is None and self._still is not None:
            self._packed = _digest(self._still), zlib.compress(self._still, 1)
        self._still = None

    def _parsed_entries(self, kept: set[str]) -> Iterable[int]:
        """The entries of everything but chains that were kept, whose counters are zeroed already."""
        places, begin, parsed = self._places, 0, array("I")
        sections = [*places.sections.items(), ("", (0, len(places.entries)))]
        for (name, (_, first)), (_, (_, past)) in pairwise(sections):
            if name in kept:
                parsed += places.entries[begin:first]
                begin = past
        return parsed + places.entries[begin:]

    def _same(self, before: Snapshot, kept: KeptChains) -> list[str]:
        """The own chains with the bytes that they had, the same names for their sets, and the same chains to go on in."""
        surely = kept.unmoved if self._places.heads == before._places.heads else frozenset()
        names, old_names = self._set_names, before._set_names
        found = []
        for name in self.chains.keys() & kept.chains:
            indexes, jumps = self._references[name]
            if all(names[index] == old_names[index] for index in indexes) and (
                not jumps or name in surely or self._leads_to(name) == before._leads_to(name)
            ):
                found.append(name)
        return found

    def _leads_to(self, name: str) -> list[str]:
        return leads_to(self._layout, self.reading.still, self._places, name)

    def still_is(self, info: TableInfo, blob: bytearray, set_name: SetName, *, thorough: bool = False) -> bool:
        """Whether a table just read equals this one but for counters.

        Where nothing was even counted since the last look a checksum says so, unless `thorough`: that is what idle hosts pay.
        Where the counters are is taken from this snapshot: were an entry elsewhere, offsets, which are compared, would differ.
        """
        if info != self._info:
            return False
        sum_of_all = zlib.crc32(blob)
        if thorough or sum_of_all != self._sum_of_all:
            still = bytearray(blob)
            self._clear_counters(still, self._places.entries)
            if _digest(still) != (self._packed[0] if self._packed is not None else _digest(self.reading.still)):
                return False
            self._sum_of_all = sum_of_all
        return all(set_name(index) == name for index, name in self._set_names.items())

    def is_after(self, before: Snapshot, written: Mapping[str, Held | None]) -> bool:
        """Whether this is what the one before became by these chains, written or removed, and nothing else."""
        own = {name for name, held in written.items() if held is not None and is_own_chain(name)}
        stay = before.chains.keys() - written.keys()
        if self.chains.keys() != stay | own or not stay <= self.same:
            return False
        if any(self.holds(name) != contents_of(held) for name, held in written.items()):
            return False
        kernels = {**self.builtins, **before.builtins}.keys() - written.keys()
        return all(self.holds(name) == before.holds(name) for name in kernels)

    def holds(self, chain: str) -> list[bytes] | None:
        """What identifies each rule of a chain, None if there is no such chain."""
        if chain in self.builtins:
            return self.contents(self.builtins[chain])
        return self.contents(self._places.spans(chain)) if chain in self.chains else None

    def contents(self, spans: list[Span]) -> list[bytes]:
        """What identifies each of these rules."""
        return contents(
            self._layout, self.reading.still, spans, self._places.heads, lambda index: self._set_names.get(index, "")
        )

    def counters(self, chain: str, blob: bytes) -> array[int]:
        """Packets and bytes of an own chain's rules, out of a blob that has its counters and otherwise equals this snapshot."""
        first, past = self._places.chains[chain]
        shift = self._layout.counters
        places = [start + shift for start in self._places.entries[first:past]]
        return array("Q", b"".join([blob[at : at + _COUNTER_BYTES] for at in places]))

    def _clear_counters(self, blob: bytearray, entries: Iterable[int]) -> None:
        shift = self._layout.counters
        for start in entries:
            at = start + shift
            blob[at : at + _COUNTER_BYTES] = NO_COUNTERS


def _digest(still: bytes | bytearray) -> bytes:
    return sha256(still).digest()
