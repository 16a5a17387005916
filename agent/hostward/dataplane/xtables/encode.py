"""A Rule as an entry. Headers, verdicts, jumps, comments, ports and set matches are packed by us, others compiled and kept.

No set index is kept: it is asked for by each commit, for it can be given to another set (statements.md libraries 1.2).
It knows no table and no chain but by name. The engine thread runs it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from socket import AF_INET, AF_INET6
from typing import Final

from msgspec import Struct

from hostward.dataplane.xtables import compat, parts
from hostward.dataplane.xtables.layout import (
    INDEX,
    LAYOUTS,
    OF_SET,
    OFFSETS,
    PART_HEADER,
    TO_CHAIN,
    TO_MODULE,
    TO_VERDICT,
    Layout,
    entry_header,
)
from hostward.dataplane.xtables.parts import EncodeError
from hostward.render.ruleset import (
    MAX_CHAIN_NAME,
    Family,
    InSet,
    Interface,
    Jump,
    Log,
    Match,
    Net,
    PortSet,
    Protocol,
    Rule,
    Target,
    Verdict,
)
from hostward.render.text import match_words, target_words

MAX_LOG_PREFIX: Final = 29
_CHAIN: Final = re.compile(r"[A-Za-z0-9_.:~-]{1,28}\Z")
# Every other option of our matches and targets takes one argument.
_ARITY: Final = dict.fromkeys(("--notrack", "--invert", "--validmark"), 0)
_KEPT_PARTS: Final = 8192
_KEPT_HEADERS: Final = 512
_InHeader = tuple[Interface | Protocol | Net, ...]
_VIA_IN, _VIA_OUT, _SRC, _DST, _PROTOCOL = 0x01, 0x02, 0x08, 0x10, 0x40  # inversion flags, the same in both families
_HAS_PROTOCOL: Final = 0x01  # IP6T_F_PROTO


class Encoded(Struct, frozen=True):
    """A rule but for where it stands: the entry with set index 0, the places of its sets in it, and how it is laid out."""

    rule: Rule
    entry: bytes
    sets: tuple[tuple[int, str], ...]
    layout: Layout

    @property
    def content(self) -> bytes:
        """What identifies the rule, see `layout.content`. Made of the entry each time: kept, it would be as much again."""
        entry, header = self.entry, self.layout.header
        leads_to = _leads_to(self.rule.target)
        stop = OFFSETS.unpack_from(entry, self.layout.offsets)[0] if leads_to else len(entry)
        names = b"".join(OF_SET + name.encode() for _, name in self.sets)
        return entry[: self.layout.ip] + entry[header:stop] + names + (leads_to or TO_MODULE)

    def with_indexes(self, index: Callable[[str], int]) -> bytes:
        """The entry as libiptc takes it: a jump by the chain's name, sets by their present index."""
        if not self.sets:
            return self.entry
        entry = bytearray(self.entry)
        for at, name in self.sets:
            INDEX.pack_into(entry, at, index(name))
        return bytes(entry)


class Encoder:
    """Encodes rules of one family."""

    def __init__(self, family: Family) -> None:
        self._family: Family = family
        self.layout = LAYOUTS[family]
        self._parts: dict[Match | Target, bytes] = {}
        self._headers: dict[tuple[_InHeader, bool], bytes] = {}

    def encode(self, rule: Rule) -> Encoded:
        """A rule's entry. Raises EncodeError."""
        found: list[bytes] = []
        sets: list[tuple[int, str]] = []
        in_header: list[Interface | Protocol | Net] = []
        at = self.layout.header
        for match in rule.matches:
            if isinstance(match, Interface | Protocol | Net):
                in_header.append(match)
                continue
            if isinstance(match, InSet):
                sets.append((at + PART_HEADER, match.name))
                found.append(parts.set_match(match))
            elif isinstance(match, PortSet):
                found.append(parts.ports(match))
            else:
                found.append(self._compiled(match))
            at += len(found[-1])
        if rule.comment:
            found.append(parts.comment(rule.comment))
            at += len(found[-1])
        target = self._target(rule.target)
        goto = isinstance(rule.target, Jump) and rule.target.goto
        header = entry_header(self.layout, self._ip(tuple(in_header), goto), at, at + len(target))
        return Encoded(rule, b"".join((header, *found, target)), tuple(sets), self.layout)

    def _ip(self, matches: _InHeader, goto: bool) -> bytes:
        kept = self._headers.get((matches, goto))
        if kept is None:
            if len(self._headers) >= _KEPT_HEADERS:
                self._headers.clear()
            kept = self._headers[matches, goto] = self._make_ip(matches, goto)
        return kept

    def _make_ip(self, matches: _InHeader, goto: bool) -> bytes:
        width, full = (4, AF_INET) if self._family == 4 else (16, AF_INET6)
        nets = {"src": (bytes(width), bytes(width)), "dst": (bytes(width), bytes(width))}
        names = {"in": (b"", b""), "out": (b"", b"")}
        protocol = inverted = 0
        seen: set[str] = set()
        kind: str
        for match in matches:
            match match:
                case Interface(direction, name, prefix):
                    kind = direction
                    names[direction] = parts.interface(name, prefix=prefix)
                case Net(side, net, negate):
                    kind = side
                    nets[side] = parts.net(net, full)
                    inverted |= (_SRC if side == "src" else _DST) if negate else 0
                case Protocol(number, negate):
                    kind = "protocol"
                    if not 0 <= number <= 255 or (negate and not number):
                        raise EncodeError(f"protocol number {number}{' negated' if negate else ''} in {matches}")
                    protocol = number
                    inverted |= _PROTOCOL if negate else 0
            if kind in seen:
                raise EncodeError(f"more than one {kind} match in {matches}: a rule's header has room for one")
            seen.add(kind)
        (src, src_mask), (dst, dst_mask) = nets["src"], nets["dst"]
        (into, into_mask), (out, out_mask) = names["in"], names["out"]
        flag = self.layout.goto_flag if goto else 0
        devices = struct.pack("16s16s16s16s", into, out, into_mask, out_mask)
        if self._family == 4:
            return src + dst + src_mask + dst_mask + devices + struct.pack("=HBB", protocol, flag, inverted)
        flags = flag | (_HAS_PROTOCOL if "protocol" in seen else 0)
        return src + dst + src_mask + dst_mask + devices + struct.pack("=HBBB3x", protocol, 0, flags, inverted)

    def _compiled(self, key: Match | Target) -> bytes:
        kept = self._parts.get(key)
        if kept is None:
            if len(self._parts) >= _KEPT_PARTS:
                self._parts.clear()
            kept = self._parts[key] = self._compile(key)
        return kept

    def _compile(self, key: Match | Target) -> bytes:
        compile_part, words = (
            (compat.compile_match, match_words(key, self._family))
            if isinstance(key, Match)
            else (compat.compile_target, target_words(key, self._family))
        )
        options: list[compat.Option] = []
        rest = list(words[2:])
        while rest:
            negated = rest[0] == "!"
            option = rest.pop(1 if negated else 0)
            arity = _ARITY.get(option, 1)
            arguments, rest = tuple(rest[negated:][:arity]), rest[negated + arity :]
            options.append((option.removeprefix("--"), arguments, negated))
        try:
            return compile_part(self._family, words[1], options)
        except compat.OptionError as error:
            raise EncodeError(f"{' '.join(words)}: {error}") from error

    def _target(self, target: Target) -> bytes:
        match target:
            case Verdict(word):
                return parts.standard(word)
            case Jump(chain):
                check_chain_name(chain)
                return parts.standard(chain)
            case Log(prefix):
                # python-iptables would take a longer one and leave it without its end.
                if not 0 < len(prefix.encode(errors="surrogateescape")) <= MAX_LOG_PREFIX or not prefix.isprintable():
                    raise EncodeError(
                        f"log prefix {prefix!r}: 1 to {MAX_LOG_PREFIX} bytes without control characters are possible"
                    )
                return self._compiled(target)
            case _:
                return self._compiled(target)


def _leads_to(target: Target) -> bytes | None:
    """What a standard target stands for, None for any other."""
    match target:
        case Verdict(word):
            return TO_VERDICT + word.encode()
        case Jump(chain):
            return TO_CHAIN + chain.encode()
        case _:
            return None


def check_chain_name(name: str) -> None:
    """Refuses names that the kernel or iptables-restore wouldn't take as one word. Raises EncodeError."""
    if not _CHAIN.match(name):
        raise EncodeError(f"chain name {name!r}: 1 to {MAX_CHAIN_NAME} letters, digits and _.:~- are possible")
