"""Kernel sets as netlink bytes: requests, members by the thousand, and what a dump says.

Pure functions: no sockets, no names of ours, any thread. A library's message classes manage 10,700 members/s, packing by hand
300,000 (libraries 3), so members are joined from constant pieces and read with one struct per member. Where a member
has anything that we never write (an option, a strange protocol) the slow reader takes over and says so in its text.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final

from msgspec import Struct

from hostward.dataplane.netlink import NESTED, NET_BYTEORDER, attribute, attributes
from hostward.render.ruleset import Family, SetType

# include/uapi/linux/netfilter/ipset/ip_set.h
SUBSYSTEM: Final = 6 << 8
CREATE, DESTROY, RENAME, SWAP, LIST, ADD, DELETE, TYPE = (SUBSYSTEM | n for n in (2, 3, 5, 6, 7, 9, 10, 13))
PROTOCOL_VERSION: Final = 7
HEADERS_ONLY: Final = 1 << 2
_NAME, _TYPE, _REVISION, _FAMILY, _FLAGS, _DATA, _MEMBERS, _LINE = 2, 3, 4, 5, 6, 7, 8, 9
_LEAST_REVISION: Final = 10
_NAME2 = 3
_IP, _CIDR, _PORT, _TIMEOUT, _PROTO, _OPTIONS = 1, 3, 4, 6, 7, 8
_HASHSIZE, _MAXELEM, _NETMASK, _BITMASK, _ELEMENTS, _REFERENCES = 18, 19, 20, 12, 24, 25
_NOMATCH = 1 << 2

AF: Final[dict[Family, int]] = {4: AF_INET, 6: AF_INET6}
_FAMILY_OF_AF: Final[dict[int, Family]] = {AF_INET: 4, AF_INET6: 6}
# The lowest revisions that do what we need, so that an `ipset` tool older than the kernel can still list our sets:
# hash:net 2 knows nomatch (which we never set, but must be able to see), hash:ip,port 1 knows SCTP.
_REVISIONS: Final[dict[SetType, int]] = {"hash:net": 2, "hash:ip,port": 1}
TYPES: Final[Collection[SetType]] = _REVISIONS.keys()
_PROTOCOLS: Final = {"tcp": 6, "udp": 17, "sctp": 132}
_PROTOCOL_NAMES: Final = {number: name for name, number in _PROTOCOLS.items()}
# Options that make a set behave unlike ours; the text is for an operator and never equals a SetType.
_SET_OPTIONS: Final = {1 << 3: "counters", 1 << 4: "comment", 1 << 5: "forceadd", 1 << 6: "skbinfo"}
MEMBERS_PER_MESSAGE: Final = 1000  # at most 44 bytes each: well below the 65,535 that an attribute can hold


class MemberError(ValueError):
    """A member that a set of this type and family cannot hold; the text says why."""


class Header(Struct, frozen=True):
    """What the kernel says of a set besides its members. `type` is "hash:net", "hash:ip,port" or something that isn't ours:
    another type of the kernel, or one of these "with" an option ("hash:net with timeout")."""

    name: str
    type: str
    family: Family
    max_members: int
    count: int
    references: int


# --- requests ----------------------------------------------------------------------------------------------------------
_PREFIX: Final = struct.pack("=BBH", AF_INET, 0, 0) + attribute(1, bytes([PROTOCOL_VERSION]))


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode(errors="surrogateescape") + b"\0")


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind | NET_BYTEORDER, struct.pack(">I", value))


def named(name: str) -> bytes:
    """The body of DESTROY."""
    return _PREFIX + _text(_NAME, name)


def renamed(name: str, other: str) -> bytes:
    """The body of RENAME (`name` becomes `other`) and SWAP."""
    return _PREFIX + _text(_NAME, name) + _text(_NAME2, other)


def listed(name: str | None, *, headers_only: bool = False) -> bytes:
    """The body of a LIST dump: of one set or of all."""
    body = _PREFIX if name is None else named(name)
    return body + _u32(_FLAGS, HEADERS_ONLY) if headers_only else body


def asked(kind: SetType, family: Family) -> bytes:
    """The body of TYPE: which revisions of a type the kernel has."""
    return _PREFIX + _text(_TYPE, kind) + attribute(_FAMILY, bytes([AF[family]]))


def is_known(kind: SetType, answer: bytes) -> bool:
    """Whether what TYPE answered covers the revision that we make sets with."""
    parts = dict(attributes(answer, 4))
    least, most = (parts.get(number, b"\0")[0] for number in (_LEAST_REVISION, _REVISION))
    return least <= _REVISIONS[kind] <= most


def created(name: str, kind: SetType, family: Family, max_members: int, expected: int) -> bytes:
    """The body of CREATE. `expected` members are about to come: the hash is made large enough not to be rebuilt meanwhile."""
    hashsize = 1 << max(10, (expected // 4).bit_length())
    return b"".join(
        (
            _PREFIX,
            _text(_NAME, name),
            _text(_TYPE, kind),
            attribute(_REVISION, bytes([_REVISIONS[kind]])),
            attribute(_FAMILY, bytes([AF[family]])),
            attribute(_DATA | NESTED, _u32(_HASHSIZE, hashsize) + _u32(_MAXELEM, max_members)),
        )
    )


def batches(name: str, entries: Sequence[bytes]) -> Iterator[bytes]:
    """The bodies of as many ADD or DELETE messages as packed members need."""
    start = named(name) + _u32(_LINE, 0)  # the kernel insists on a line number beside many members
    for i in range(0, len(entries), MEMBERS_PER_MESSAGE):
        yield start + attribute(_MEMBERS | NESTED, b"".join(entries[i : i + MEMBERS_PER_MESSAGE]))


# --- members out -------------------------------------------------------------------------------------------------------
def _start(family: Family, tail: int, flag: int = NET_BYTEORDER) -> bytes:
    """The constant bytes before a member's address, when `tail` bytes follow it. In a dump the kernel leaves `flag` out."""
    size, kind = (4, 1) if family == 4 else (16, 2)
    return struct.pack("=HHHHHH", 12 + size + tail, _DATA | NESTED, 8 + size, _IP | NESTED, 4 + size, kind | flag)


_BARE: Final = {family: _start(family, 0) for family in AF}
_WITH_LENGTH: Final = {family: _start(family, 8) for family in AF}
_WITH_PORT: Final = {family: _start(family, 16) for family in AF}
_LENGTHS: Final = {str(n): attribute(_CIDR, bytes([n])) for n in range(1, 129)}
_PORT_HEADER: Final = struct.pack("=HH", 6, _PORT | NET_BYTEORDER)
_PORTS: Final = struct.Struct(">H2x")
_PROTOCOL_TAILS: Final = {name: attribute(_PROTO, bytes([number])) for name, number in _PROTOCOLS.items()}


def kind_of(members: Iterable[str]) -> SetType:
    """The type of a set that holds such members; one with a protocol has a comma."""
    return "hash:ip,port" if any("," in member for member in islice(members, 1)) else "hash:net"


def packed(kind: SetType, family: Family, members: Iterable[str]) -> list[bytes]:
    """Members as `ipset save` prints them, each as the bytes of an ADD or DELETE entry. Raises MemberError."""
    pack = _pack_nets if kind == "hash:net" else _pack_ports
    return pack(family, members)


def _pack_nets(family: Family, members: Iterable[str]) -> list[bytes]:
    af, bare, start = AF[family], _BARE[family], _WITH_LENGTH[family]
    bits = 32 if family == 4 else 128
    entries = []
    for member in members:
        address, slash, length = member.partition("/")
        try:
            if not slash:
                entries.append(bare + inet_pton(af, address))
                continue
            tail = _LENGTHS.get(length)
            if tail is None or tail[4] > bits:
                raise MemberError(_bad_length(member, length, bits))
            entries.append(start + inet_pton(af, address) + tail)
        except (OSError, UnicodeEncodeError, ValueError) as error:
            raise error if isinstance(error, MemberError) else MemberError(f"{member!r} is no IPv{family} network") from error
    return entries


def _bad_length(member: str, length: str, bits: int) -> str:
    if length == "0":
        return f"{member!r}: a kernel set cannot hold a net of length 0; give its two halves of length 1"
    return f"{member!r}: a net's length is 1 to {bits}"


def _pack_ports(family: Family, members: Iterable[str]) -> list[bytes]:
    af, start = AF[family], _WITH_PORT[family]
    entries = []
    for member in members:
        address, _, rest = member.partition(",")
        name, _, port = rest.partition(":")
        try:
            tail = _PROTOCOL_TAILS.get(name) or attribute(_PROTO, bytes([int(name)]))
            entries.append(start + inet_pton(af, address) + _PORT_HEADER + _PORTS.pack(int(port)) + tail)
        except (OSError, UnicodeEncodeError, ValueError, struct.error) as error:
            raise MemberError(f"{member!r} is no IPv{family} address,protocol:port") from error
    return entries


# --- dumps in ----------------------------------------------------------------------------------------------------------
def name_of(body: bytes) -> str:
    """The set that a dump message is about; read without parsing the rest."""
    for kind, value in attributes(body[:64], 4):
        if kind == _NAME:
            return _name(value)
    return ""


def _name(value: bytes) -> str:
    """A name as text; somebody else's may be any bytes."""
    return value.rstrip(b"\0").decode(errors="surrogateescape")


def header(body: bytes) -> Header | None:
    """The header of a set; None when the message only continues a set's members."""
    found = dict(attributes(body, 4))
    if _TYPE not in found:
        return None
    data = dict(attributes(found.get(_DATA, b"")))
    numbers = {kind: int.from_bytes(data.get(kind, b"")) for kind in (_MAXELEM, _ELEMENTS, _REFERENCES, _OPTIONS)}
    options = [text for bit, text in _SET_OPTIONS.items() if numbers[_OPTIONS] & bit]
    options += [text for kind, text in ((_TIMEOUT, "timeout"), (_NETMASK, "netmask"), (_BITMASK, "bitmask")) if kind in data]
    name = found[_TYPE].rstrip(b"\0").decode()
    return Header(
        _name(found[_NAME]),
        f"{name} with {', '.join(options)}" if options else name,
        _FAMILY_OF_AF.get(found[_FAMILY][0], 4),
        numbers[_MAXELEM],
        numbers[_ELEMENTS],
        numbers[_REFERENCES],
    )


_NET_ROWS: Final = {family: struct.Struct(f"12s{size}s4sB3x") for family, size in ((4, 4), (6, 16))}
_PORT_ROWS: Final = {family: struct.Struct(f">12s{size}s4sH2x4sB3x") for family, size in ((4, 4), (6, 16))}
_NET_STARTS: Final = {family: _start(family, 8, 0) for family in AF}
_PORT_STARTS: Final = {family: _start(family, 16, 0) for family in AF}
_SUFFIXES: Final = {family: [f"/{n}" for n in range(bits)] + [""] for family, bits in ((4, 32), (6, 128))}
_PORT_NAMES: Final = [f",{_PROTOCOL_NAMES.get(n, n)}:" for n in range(256)]


def members(body: bytes, family: Family) -> list[str]:
    """The members in one dump message of a set of either of our types, as `ipset save` prints them."""
    found = dict(attributes(body, 4)).get(_MEMBERS, b"")
    if not found:
        return []
    return (
        _plain_nets(found, family) or _plain_ports(found, family) or [_member(value, family) for _, value in attributes(found)]
    )


def _plain_nets(data: bytes, family: Family) -> list[str]:
    """All members at one stroke when every one is an address and a length and nothing else; else []."""
    row = _NET_ROWS[family]
    if len(data) % row.size:
        return []
    rows = list(row.iter_unpack(data))
    if {(start, length) for start, _, length, _ in rows} != {(_NET_STARTS[family], _LENGTHS["1"][:4])}:
        return []
    af, suffixes = AF[family], _SUFFIXES[family]
    return [inet_ntop(af, address) + suffixes[length] for _, address, _, length in rows]


def _plain_ports(data: bytes, family: Family) -> list[str]:
    row = _PORT_ROWS[family]
    if len(data) % row.size:
        return []
    rows = list(row.iter_unpack(data))
    constant = (_PORT_STARTS[family], _PORT_HEADER, _PROTOCOL_TAILS["tcp"][:4])
    if {(start, port, protocol) for start, _, port, _, protocol, _ in rows} != {constant}:
        return []
    af = AF[family]
    return [f"{inet_ntop(af, address)}{_PORT_NAMES[protocol]}{port}" for _, address, _, port, _, protocol in rows]


def _member(data: bytes, family: Family) -> str:
    """Any member, attribute by attribute. What follows a space is an option that we never write."""
    found = dict(attributes(data))
    addresses = attributes(found.get(_IP, b""))
    text = inet_ntop(AF[family], addresses[0][1]) if addresses else "?"
    if _CIDR in found:
        text += _SUFFIXES[family][found[_CIDR][0]]
    if _PORT in found:
        protocol = found[_PROTO][0] if _PROTO in found else 0
        text += f"{_PORT_NAMES[protocol]}{int.from_bytes(found[_PORT])}"
    if int.from_bytes(found.get(_OPTIONS, b"")) & _NOMATCH:
        text += " nomatch"
    return text
