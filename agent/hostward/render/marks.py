"""The bits of the packet mark that are ours, taken from `markMask`, lowest first (D15; `statements.md` H-20).

Pure values; any thread.
"""

from __future__ import annotations

from msgspec import Struct

from hostward.render.ruleset import Mark, SetMark

BITS_NEEDED = 6


class Marks(Struct, frozen=True):
    """`accept`: policy accepted. `passed`: leave the tier. `source`, `destination`: a port block matched. `translated`: nat
    OUTPUT gave it another destination, so POSTROUTING judges it. `generation`: which of two rule trees judges the packet while
    a change spans tables. `cut`: never a packet's, but a connection's that policy newly denies; 0 where the mask has no seventh
    bit."""

    accept: int
    passed: int
    source: int
    destination: int
    translated: int
    generation: int
    cut: int = 0

    @classmethod
    def from_mask(cls, mask: int) -> Marks:
        """The six lowest bits of a mask, and the seventh if there is one. Raises ValueError when there are fewer."""
        bits = [1 << n for n in range(32) if mask >> n & 1]
        if len(bits) < BITS_NEEDED:
            raise ValueError(f"markMask {mask:#x} has {len(bits)} bits, {BITS_NEEDED} are needed")
        return cls(*bits[: BITS_NEEDED + 1])

    @property
    def all(self) -> int:
        """Every bit that we give packets."""
        return self.accept | self.passed | self.source | self.destination | self.translated | self.generation


def is_set(bit: int) -> Mark:
    """The bits are set."""
    return Mark(bit, bit)


def is_clear(bit: int) -> Mark:
    """The bits are clear."""
    return Mark(0, bit)


def any_set(bits: int) -> Mark:
    """At least one of the bits is set."""
    return is_set(bits) if bits.bit_count() == 1 else Mark(0, bits, negate=True)


def put(bit: int) -> SetMark:
    """Sets bits and leaves all others."""
    return SetMark(bit, bit)


def clear(bits: int) -> SetMark:
    """Clears bits and leaves all others."""
    return SetMark(0, bits)
