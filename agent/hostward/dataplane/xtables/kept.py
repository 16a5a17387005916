"""Chains that are in a table as they were when it was last read, perhaps further on: recognised by their bytes, not parsed.

So that reading a table back after a change costs the changed chains, and one comparison of the rest. Bytes are compared whole
but for counters, and for where jumps lead: those are places in the blob, and stand for chains' names. Pure; any thread.
"""

from __future__ import annotations

from msgspec import Struct

from hostward.dataplane.xtables.blob import Places, Span
from hostward.dataplane.xtables.layout import (
    COUNTERS,
    ERROR,
    INDEX,
    NO_COUNTERS,
    PART_HEADER,
    STANDARD_SIZE,
    VERDICT,
    Layout,
)


class Reading(Struct, frozen=True):
    """A table as it was read: its bytes with zeroed counters, and what is where in them."""

    still: bytes
    places: Places


def jumps(layout: Layout, blob: bytes, spans: list[Span]) -> list[Span]:
    """Where the verdicts of rules with a standard target are that aren't negative, and where those rules end."""
    found = []
    for at, end in spans:
        target = at + INDEX.unpack_from(blob, at + layout.offsets)[0]
        # The high byte of a verdict's last half is set in negative ones; what is positive is a place in the blob.
        if not blob[target + 2] and end - target == STANDARD_SIZE and not blob[end - 5] & 0x80:
            found.append((target + PART_HEADER, end))
    return found


class KeptChains:
    """Implements `blob.Kept` for one new blob. `still` becomes the new blob with zeroed counters where chains were kept."""

    def __init__(self, layout: Layout, before: Reading, blob: bytes | bytearray) -> None:
        self._layout = layout
        self._before = before
        self._blob = blob
        self._ends = _ends(before)
        self.still = bytearray(blob)
        self.chains: set[str] = set()
        """The chains that were kept."""
        self.unmoved: set[str] = set()
        """Those of them with the very bytes, counters aside, at the very place."""

    def place(self, chain: str, at: int, places: Places) -> int:
        """See `blob.Kept`. A chain that was kept has its rules where they were, counted from its start."""
        if chain not in self._ends or chain in self.chains:
            return 0
        before, (start, first) = self._before, self._before.places.sections[chain]
        stop, past = self._ends[chain]
        end, by = at + stop - start, at - start
        if not self._starts_another(end):
            return 0
        still, same = bytearray(self._blob[at:end]), True
        for entry in before.places.entries[first:past]:
            counters = entry - start + self._layout.counters
            still[counters : counters + COUNTERS.size] = NO_COUNTERS
        if still != before.still[start:stop]:
            same = False
            if not self._same_but_jumps(chain, still, start, stop):
                return 0
        self.still[at:end] = still
        entries = before.places.entries[first + 1 : past]
        places.entries.extend(entries if not by else [entry + by for entry in entries])
        self.chains.add(chain)
        if same and not by:
            self.unmoved.add(chain)
        return end

    def _starts_another(self, at: int) -> bool:
        """Whether a chain's header is here: else a rule like the chain's last entry may have been appended to it."""
        name = at + self._layout.header + 2
        return self._blob[name : name + len(ERROR)] == ERROR

    def _same_but_jumps(self, chain: str, still: bytearray, start: int, stop: int) -> bool:
        new, old = bytearray(still), bytearray(self._before.still[start:stop])
        for place, _ in jumps(self._layout, self._before.still, self._before.places.spans(chain)):
            at = place - start
            new[at : at + VERDICT.size] = old[at : at + VERDICT.size] = bytes(VERDICT.size)
        return new == old


def _ends(before: Reading) -> dict[str, tuple[int, int]]:
    """Where each user chain ends, and the first of the entries that isn't in it."""
    sections = list(before.places.sections.items())
    following = [place for _, place in sections[1:]]
    return {chain: end for (chain, _), end in zip(sections, following, strict=False)}


def leads_to(layout: Layout, blob: bytes, places: Places, chain: str) -> list[str]:
    """The chains that a chain's jumps lead to, in order; "" where a rule has no target, "?" where no chain starts."""
    found = []
    for place, end in jumps(layout, blob, places.spans(chain)):
        (verdict,) = VERDICT.unpack_from(blob, place)
        found.append("" if verdict == end else places.heads.get(verdict, "?"))
    return found
