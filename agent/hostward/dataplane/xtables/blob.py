"""A table's blob cut into chains and entries. Pure: bytes in, places and contents out; any thread."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from msgspec import Struct, field

from hostward.dataplane.xtables.layout import (
    ERROR,
    ERROR_SIZE,
    INDEX,
    OF_SET,
    OFFSETS,
    PART_HEADER,
    SET_MATCH,
    STANDARD_SIZE,
    TO_CHAIN,
    TO_MODULE,
    TO_VERDICT,
    VERDICT,
    VERDICTS,
    Layout,
    LayoutError,
)
from hostward.dataplane.xtables.sockopt import HOOK_NAMES, TableInfo

Span = tuple[int, int]
_HEADER_TARGET: Final = b"ERROR".ljust(30, b"\0")


class Places(Struct, frozen=True):
    """Where the rules of each chain are, policies and chain headers left out. `entries`: where all entries start.

    `chains`: which of `entries` are a user chain's rules, from the first to the one behind the last. `sections`: where each
    user chain starts, its header included, and which of `entries` is the first in it.
    """

    builtins: dict[str, list[Span]] = field(default_factory=dict)
    chains: dict[str, tuple[int, int]] = field(default_factory=dict)
    heads: dict[int, str] = field(default_factory=dict)
    entries: array[int] = field(default_factory=lambda: array("I"))
    sections: dict[str, tuple[int, int]] = field(default_factory=dict)

    def spans(self, chain: str) -> list[Span]:
        """Where the rules of a user chain are."""
        first, past = self.chains[chain]
        return [(self.entries[at], self.entries[at + 1]) for at in range(first, past)]


class Kept(Protocol):
    """Knows chains that needn't be parsed again."""

    def place(self, chain: str, at: int, places: Places) -> int:
        """Where the chain that starts at `at` ends, its rules entered into `places`; 0 when it must be parsed."""


def locate(layout: Layout, info: TableInfo, blob: bytes | bytearray, kept: Kept | None = None) -> Places:
    """Finds chains and rules. Raises LayoutError when this is no table."""
    places = Places()
    hooks = {
        at: name
        for hook, (at, name) in enumerate(zip(info.hook_entries, HOOK_NAMES, strict=True))
        if info.valid_hooks >> hook & 1
    }
    policies = {at for hook, at in enumerate(info.underflows) if info.valid_hooks >> hook & 1}
    here: list[Span] | None = None
    user = ""
    at, size, offsets, unpack = 0, len(blob), layout.offsets, OFFSETS.unpack_from
    while at < size:
        if at + layout.header > size:
            raise LayoutError(f"an entry at {at} is cut off")
        target, length = unpack(blob, at + offsets)
        end = at + length
        if target < layout.header or length < target + PART_HEADER or end > size:
            raise LayoutError(f"an entry at {at} with its target at {target} and its end at {length}")
        places.entries.append(at)
        name = at + target + 2
        if blob[name : name + 6] == ERROR:
            here = None
            if user:  # a RETURN ends every user chain
                first = places.sections[user][1] + 1
                places.chains[user] = first, max(first, len(places.entries) - 2)
            label = blob[at + target + PART_HEADER : end].partition(b"\0")[0].decode(errors="replace")
            places.sections[label] = (at, len(places.entries) - 1)
            places.heads[end] = label
            user = label
            if kept is not None and (past := kept.place(label, at, places)):
                at = past
                continue
        else:
            if at in hooks:
                here = places.builtins.setdefault(hooks[at], [])
            if here is not None and at not in policies:
                here.append((at, end))
        at = end
    return places  # the last header is the entry that ends every table


class Heads(Protocol):
    """Knows which chain starts at a place of a blob: the mapping of `Places`, or the blob itself."""

    def get(self, place: int, default: str, /) -> str:
        """The chain's name, or the default."""


class HeadsInBlob(Struct, frozen=True):
    """Reads a chain's name from the header before its first rule: for a few jumps no table need be parsed."""

    layout: Layout
    blob: bytes | bytearray

    def get(self, place: int, default: str, /) -> str:
        """See `Heads`."""
        name = place - ERROR_SIZE + PART_HEADER
        if name < 0 or self.blob[name - PART_HEADER + 2 : name - PART_HEADER + 2 + len(ERROR)] != ERROR:
            return default
        return self.blob[name:place].partition(b"\0")[0].decode(errors="replace")


def find_chain(layout: Layout, blob: bytes | bytearray, name: str) -> list[Span] | None:
    """Where the rules of one user chain are, None if there is no such chain. Looks at nothing else. Raises LayoutError."""
    label = blob.find(_HEADER_TARGET + name.encode(errors="replace") + b"\0")
    if label < 0:
        return None
    at = label - 2 + ERROR_SIZE
    spans: list[Span] = []
    while at + layout.header <= len(blob):
        target, length = OFFSETS.unpack_from(blob, at + layout.offsets)
        if target < layout.header or length < target + PART_HEADER or at + length > len(blob):
            break
        if blob[at + target + 2 : at + target + 2 + len(ERROR)] == ERROR:
            return spans[:-1]  # without the RETURN that ends every user chain
        spans.append((at, at + length))
        at += length
    raise LayoutError(f"chain {name} has no end")


def chain_names(blob: bytes | bytearray) -> list[str]:
    """The names of all user chains, found by their headers: nothing else is parsed, so it takes no longer than a search."""
    found = []
    at = blob.find(_HEADER_TARGET)
    while at >= 0:
        name = at - 2 + PART_HEADER
        found.append(blob[name : name + 30].partition(b"\0")[0].decode(errors="replace"))
        at = blob.find(_HEADER_TARGET, name)
    return [name for name in found if name not in ("", "ERROR")]  # the header that ends every table, and the name in it


def find_kernel_chain(layout: Layout, info: TableInfo, blob: bytes | bytearray, name: str) -> list[Span] | None:
    """Where the rules of one of the kernel's chains are, None if the table has no such chain. Raises LayoutError."""
    hook = HOOK_NAMES.index(name) if name in HOOK_NAMES else -1
    if hook < 0 or not info.valid_hooks >> hook & 1:
        return None
    spans: list[Span] = []
    at, policy = info.hook_entries[hook], info.underflows[hook]
    while at < policy <= len(blob):
        length = OFFSETS.unpack_from(blob, at + layout.offsets)[1]
        if length <= layout.header:
            break
        spans.append((at, at + length))
        at += length
    if at != policy:
        raise LayoutError(f"chain {name} does not end in its policy")
    return spans


def contents(
    layout: Layout, blob: bytes | bytearray, spans: list[Span], heads: Heads, set_name: Callable[[int], str]
) -> list[bytes]:
    """What identifies each of these rules, see `layout.content`. The blob was read into zeroed memory. Raises LayoutError."""
    found = []
    ip, header, offsets = layout.ip, layout.header, layout.offsets
    for at, end in spans:
        target = at + INDEX.unpack_from(blob, at + offsets)[0]
        leads_to = TO_MODULE if blob[target + 2] else _leads_to(blob, target, end, heads)
        stop = end if leads_to is TO_MODULE else target
        if SET_MATCH not in blob[at + header : target]:
            found.append(b"".join((blob[at : at + ip], blob[at + header : stop], leads_to)))
            continue
        pieces, names, begin = [blob[at : at + ip]], b"", at + header
        for place in _set_places(blob, at + header, target):
            pieces += (blob[begin:place], bytes(INDEX.size))
            names += OF_SET + set_name(INDEX.unpack_from(blob, place)[0]).encode()
            begin = place + INDEX.size
        found.append(b"".join((*pieces, blob[begin:stop], names, leads_to)))
    return found


def references(layout: Layout, blob: bytes, spans: list[Span]) -> tuple[frozenset[int], bool]:
    """The set indexes that these rules match on, and whether any of them jumps. Raises LayoutError."""
    indexes: set[int] = set()
    jumps = False
    for at, end in spans:
        target = at + INDEX.unpack_from(blob, at + layout.offsets)[0]
        # The high byte of a verdict's last half is set in negative ones; what is positive is a place in the blob.
        jumps = jumps or not (blob[target + 2] or blob[end - 5] & 0x80)
        if SET_MATCH in blob[at + layout.header : target]:
            indexes.update(INDEX.unpack_from(blob, place)[0] for place in _set_places(blob, at + layout.header, target))
    return frozenset(indexes), jumps


def _set_places(blob: bytes | bytearray, begin: int, end: int) -> Iterator[int]:
    """Where the set matches among a rule's matches have their indexes."""
    while begin < end:
        (size,) = INDEX.unpack_from(blob, begin)
        if size < PART_HEADER:
            raise LayoutError(f"a match of {size} bytes")
        if blob.startswith(SET_MATCH, begin + 2):
            yield begin + PART_HEADER
        begin += size


def _leads_to(blob: bytes | bytearray, target: int, end: int, heads: Heads) -> bytes:
    """What a target stands for. A verdict that isn't negative is the place of the entry to go on with."""
    if blob[target + 2] or end - target != STANDARD_SIZE:
        return TO_MODULE
    (verdict,) = VERDICT.unpack_from(blob, target + PART_HEADER)
    if verdict < 0:
        return TO_VERDICT + VERDICTS.get(verdict, str(verdict).encode())
    if verdict == end:
        return TO_VERDICT  # no target: on to the next rule
    return TO_CHAIN + heads.get(verdict, f"?{verdict}").encode()
