"""The binary layout of an entry in a table (ip_tables.h, ip6_tables.h, x_tables.h), and what of it is a rule's content.

Content is the entry without what depends on where it stands or on what packets did to it: counters, offsets, jump offsets
(the chain's name stands for them) and set indexes (the set's name stands for them: an index can be given to another set,
statements.md libraries 1.2). Two entries with equal content treat every packet alike. Knows no Rule. Pure; any thread.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from hostward.render.ruleset import OWN_CHAIN_PREFIXES, Family


class Layout(Struct, frozen=True):
    """Sizes and places in bytes. `ip`: the header part that packets are compared with, at the entry's start."""

    ip: int
    interfaces: int  # names in and out of 16 bytes each, and then their masks
    offsets: int  # two 16 bit numbers: where the target starts, where the next entry starts
    counters: int  # two 64 bit numbers: packets, bytes
    header: int
    goto: int  # where the flags byte is, and its goto bit
    goto_flag: int


LAYOUTS: Final[dict[Family, Layout]] = {
    4: Layout(ip=84, interfaces=16, offsets=88, counters=96, header=112, goto=82, goto_flag=0x02),
    6: Layout(ip=136, interfaces=64, offsets=140, counters=152, header=168, goto=131, goto_flag=0x04),
}
OFFSETS: Final = struct.Struct("=HH")
COUNTERS: Final = struct.Struct("=QQ")
VERDICT: Final = struct.Struct("=i")
INDEX: Final = struct.Struct("=H")
NO_COUNTERS: Final = bytes(COUNTERS.size)

# A match and a target start alike: a 16 bit size, a name of 29 bytes, a revision.
PART_HEADER: Final = 32
PART_NAME: Final = slice(2, 31)
STANDARD_SIZE: Final = 40
ERROR: Final = b"ERROR\0"
ERROR_SIZE: Final = 64
"""The target in a chain's header: `PART_HEADER`, and the chain's name in 30 bytes."""
_NAME_SIZE: Final = 29
_INTERFACE_SIZE: Final = 16
VERDICTS: Final = {-1: b"DROP", -2: b"ACCEPT", -4: b"QUEUE", -5: b"RETURN"}
SET_MATCH: Final = b"set".ljust(_NAME_SIZE, b"\0")
_COMMENT_MATCH: Final = b"comment".ljust(_NAME_SIZE, b"\0") + b"\0"
# A content ends with the names of its sets, and then with where it leads. None of this is part of an entry.
TO_CHAIN: Final = b"\xffto "
TO_VERDICT: Final = b"\xffverdict "
TO_MODULE: Final = b"\xffmodule"
OF_SET: Final = b"\xffset "
_OURS: Final = tuple(TO_CHAIN + prefix.encode() for prefix in OWN_CHAIN_PREFIXES)
MARK_MATCH: Final = b"mark".ljust(_NAME_SIZE, b"\0") + b"\1"
MARK_TARGET: Final = b"MARK".ljust(_NAME_SIZE, b"\0") + b"\2"
_MARK: Final = struct.Struct("=II")  # of both: a mark and a mask; a match then says whether it is inverted (xt_mark.h)
OUR_COMMENT: Final = _COMMENT_MATCH + b"hw:"


class LayoutError(ValueError):
    """Bytes that are no entry, or no table: the kernel and this module disagree about the layout."""


def content(layout: Layout, entry: bytes, target: bytes | None, set_name: Callable[[int], str]) -> bytes:
    """What identifies an entry.

    `target`: what a standard target stands for, as `TO_CHAIN + name` or `TO_VERDICT + name`; None for any other. `entry` may
    come from any memory: bytes behind the ends of names, where anything may stand, are cleared. `set_name` gives the name
    behind an index, "" if there is none. Raises LayoutError.
    """
    tail = bytearray(entry[layout.header :])
    target_at = OFFSETS.unpack_from(entry, layout.offsets)[0] - layout.header
    names = b""
    for at in (*part_starts(layout, entry), target_at):
        name = bytes(tail[at + 2 : at + PART_HEADER - 1]).partition(b"\0")[0].ljust(_NAME_SIZE, b"\0")
        tail[at + 2 : at + PART_HEADER - 1] = name
        if name == SET_MATCH and at != target_at:
            names += OF_SET + set_name(INDEX.unpack_from(tail, at + PART_HEADER)[0]).encode()
            INDEX.pack_into(tail, at + PART_HEADER, 0)
    if target is None:
        return entry[: layout.ip] + tail + names + TO_MODULE
    return entry[: layout.ip] + tail[:target_at] + names + target


def part_starts(layout: Layout, entry: bytes) -> Iterator[int]:
    """Where the matches of an entry start, counted from the end of its header. Raises LayoutError."""
    end = OFFSETS.unpack_from(entry, layout.offsets)[0] - layout.header
    if end < 0 or end + PART_HEADER > len(entry) - layout.header:
        raise LayoutError(f"an entry of {len(entry)} bytes with its target at {end + layout.header}")
    at = 0
    while at < end:
        yield at
        size = INDEX.unpack_from(entry, layout.header + at)[0]
        if size < PART_HEADER:
            raise LayoutError(f"a match of {size} bytes")
        at += size


def is_ours(identity: bytes) -> bool:
    """Whether a rule carries our identity: it jumps to a chain of ours, or has a comment that starts with "hw:" (D11)."""
    return identity.startswith(_OURS, identity.rfind(b"\xff")) or OUR_COMMENT in identity


def jump_of(identity: bytes) -> str:
    """The chain that a rule jumps to, "" if it doesn't jump."""
    end = identity[identity.rfind(b"\xff") :]
    return end.removeprefix(TO_CHAIN).decode(errors="replace") if end.startswith(TO_CHAIN) else ""


def prefix_of(layout: Layout, identity: bytes) -> str:
    """How the names of the interfaces begin that a rule asks for; "" if it asks for none, or for a whole name."""
    for at in (layout.interfaces, layout.interfaces + _INTERFACE_SIZE):
        name = identity[at : at + _INTERFACE_SIZE].rstrip(b"\0")
        mask = identity[at + 2 * _INTERFACE_SIZE : at + 3 * _INTERFACE_SIZE].rstrip(b"\0")
        if mask and len(mask) <= len(name):  # of a whole name the mask covers the NUL, too
            return name[: len(mask)].decode(errors="surrogateescape")
    return ""


def marks_in(entry: bytes, kind: bytes) -> Iterator[tuple[int, int, bool]]:
    """Marks and masks that an entry, or a content, looks at (`MARK_MATCH`) or sets (`MARK_TARGET`), and whether inverted."""
    at = entry.find(kind)
    while at >= 0:
        where = at - 2 + PART_HEADER
        mark, mask = _MARK.unpack_from(entry, where)
        yield mark, mask, kind == MARK_MATCH and entry[where + _MARK.size] == 1
        at = entry.find(kind, at + 1)


def entry_header(layout: Layout, ip: bytes, target_offset: int, next_offset: int) -> bytes:
    """An entry's header with zero counters."""
    header = bytearray(layout.header)
    header[: layout.ip] = ip
    OFFSETS.pack_into(header, layout.offsets, target_offset, next_offset)
    return bytes(header)


def part(name: str, revision: int, data: bytes) -> bytes:
    """A match or target, padded to a multiple of 8 bytes."""
    size = -(-(PART_HEADER + len(data)) // 8) * 8
    return struct.pack("=H29sB", size, name.encode(), revision) + data.ljust(size - PART_HEADER, b"\0")
