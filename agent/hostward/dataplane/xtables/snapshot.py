"""What a table was when it was last read, and whether it still is that: everything but counters is compared.

Knows no Rule. The engine thread runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hostward.dataplane.xtables.blob import Span, contents, locate, references
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
        """Clears the counters in `blob`. `same` names the chains that are as they were `before`. Raises LayoutError."""
        self._layout = layout
        self._info = info
        self._places = locate(layout, info, blob)
        self._clear_counters(blob)
        self._blob = bytes(blob)
        self.builtins = self._places.builtins
        self.chains = {name: spans for name, spans in self._places.chains.items() if is_own_chain(name)}
        self._references: dict[str, tuple[frozenset[int], bool]] = {}
        equal = []
        for name, spans in self.chains.items():
            if before is not None and self._equal(before, name, spans):
                equal.append(name)
                self._references[name] = before._references[name]
            else:
                self._references[name] = references(layout, self._blob, spans)
        used = {index for indexes, _ in self._references.values() for index in indexes}
        for spans in self.builtins.values():
            used |= references(layout, self._blob, spans)[0]
        self._set_names = {index: set_name(index) for index in used}
        old_names = before._set_names if before is not None else {}
        self.same = frozenset(
            name for name in equal if all(self._set_names[index] == old_names[index] for index in self._references[name][0])
        )

    def _equal(self, before: Snapshot, name: str, spans: list[Span]) -> bool:
        """Whether a chain has the bytes that it had. One with jumps is never taken as equal: they depend on other chains."""
        old = before.chains.get(name)
        if old is None or len(old) != len(spans) or before._references[name][1]:
            return False
        return not spans or self._blob[spans[0][0] : spans[-1][1]] == before._blob[old[0][0] : old[-1][1]]

    def still_is(self, info: TableInfo, blob: bytearray, set_name: SetName) -> bool:
        """Whether a table just read equals this one. Clears counters in `blob` when the outlines agree.

        Where the counters are is taken from this snapshot: were an entry elsewhere, its offsets, which are compared, would differ.
        """
        if info != self._info or len(blob) != len(self._blob):
            return False
        self._clear_counters(blob)
        return blob == self._blob and all(set_name(index) == name for index, name in self._set_names.items())

    def contents(self, spans: list[Span]) -> list[bytes]:
        """What identifies each of these rules."""
        return contents(self._layout, self._blob, spans, self._places.heads, lambda index: self._set_names.get(index, ""))

    def counters(self, spans: list[Span], blob: bytes) -> tuple[tuple[int, int], ...]:
        """Packets and bytes of these rules, out of a blob that has its counters and otherwise equals this snapshot."""
        at = self._layout.counters
        return tuple(COUNTERS.unpack_from(blob, start + at) for start, _ in spans)

    def _clear_counters(self, blob: bytearray) -> None:
        shift = self._layout.counters
        for start in self._places.entries:
            at = start + shift
            blob[at : at + _COUNTER_BYTES] = NO_COUNTERS
