"""The bytes of one match, one target, or one field of a rule's header, as the kernel takes them. Pure; any thread."""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from socket import AF_INET, inet_pton
from typing import Final

from hostward.dataplane.xtables.layout import part
from hostward.render.ruleset import MAX_SET_NAME, InSet, PortSet

MAX_INTERFACE_NAME: Final = 15
MAX_PORT: Final = 65535
MULTIPORT_SLOTS: Final = 15
MAX_COMMENT: Final = 255
_COMMENT: Final = re.compile(r"[A-Za-z0-9:_\-./]*\Z")
_SET_REVISION: Final = 4
_SOURCE_PORTS, _DESTINATION_PORTS = 0, 1
_SET_INVERTED: Final = 0x01


class EncodeError(ValueError):
    """A rule that can't be an entry."""


@lru_cache(maxsize=1024)
def standard(name: str) -> bytes:
    """A standard target, by its verdict's or its chain's name, as libiptc takes it."""
    return part(name, 0, bytes(4))


def comment(text: str) -> bytes:
    """The match that does nothing but say something."""
    if len(text) > MAX_COMMENT or not _COMMENT.match(text):
        raise EncodeError(f"comment {text!r}: at most {MAX_COMMENT} letters, digits and :_-./ are possible")
    return part("comment", 0, text.encode().ljust(MAX_COMMENT + 1, b"\0"))


@lru_cache(maxsize=1024)
def set_match(match: InSet) -> bytes:
    """The structure of revision 4 (xt_set_info_match_v4, Linux 3.19): index 0, directions, no questions about counters."""
    if not match.name or len(match.name.encode()) > MAX_SET_NAME:
        raise EncodeError(f"set name {match.name!r}: 1 to {MAX_SET_NAME} bytes are possible")
    flags = _SET_INVERTED if match.negate else 0
    for number, side in enumerate(match.dimensions, start=1):
        flags |= 1 << number if side == "src" else 0
    return part("set", _SET_REVISION, struct.pack("=HBB44x", 0, len(match.dimensions), flags))


@lru_cache(maxsize=1024)
def ports(match: PortSet) -> bytes:
    """The structure of revision 1 (xt_multiport_v1): which side, how many slots, the ports, which of them begin a range."""
    slots: list[int] = []
    begins: list[int] = []
    for first, last in match.ranges:
        if not 0 <= first <= last <= MAX_PORT:
            raise EncodeError(f"port range {first}:{last} in {match}")
        slots += [first] if first == last else [first, last]
        begins += [0] if first == last else [1, 0]
    if not 0 < len(slots) <= MULTIPORT_SLOTS:
        raise EncodeError(f"{len(slots)} port slots in {match}: 1 to {MULTIPORT_SLOTS} are possible")
    side = _SOURCE_PORTS if match.side == "src" else _DESTINATION_PORTS
    rest = MULTIPORT_SLOTS - len(slots)
    head = struct.pack("=BB15H", side, len(slots), *slots, *(0,) * rest)
    return part("multiport", 1, head + bytes(begins) + bytes(rest) + bytes([match.negate]))


def interface(name: str, *, prefix: bool) -> tuple[bytes, bytes]:
    """A name and its mask as iptables writes them: an exact name counts its NUL, a prefix keeps its "+" in the name.

    An exact name may end in "+" too, which no text of iptables can say: its mask tells it apart.
    """
    raw = name.encode(errors="surrogateescape")
    if len(raw) + prefix > MAX_INTERFACE_NAME or b"\0" in raw or not raw:
        raise EncodeError(f"interface name {name!r}: 1 to {MAX_INTERFACE_NAME} bytes are possible")
    return (raw + b"+", b"\xff" * len(raw)) if prefix else (raw, b"\xff" * (len(raw) + 1))


@lru_cache(maxsize=8192)
def net(text: str, family: int) -> tuple[bytes, bytes]:
    """A network and its mask, of AF_INET or AF_INET6."""
    address, slash, length = text.partition("/")
    try:
        raw = inet_pton(family, address)
    except (OSError, ValueError) as error:
        raise EncodeError(f"{text!r} is no IPv{4 if family == AF_INET else 6} network") from error
    bits = len(raw) * 8
    if slash and not (length.isdecimal() and int(length) <= bits):
        raise EncodeError(f"{text!r}: no prefix length from 0 to {bits}")
    host_bits = bits - int(length or bits)
    mask = ((1 << bits) - (1 << host_bits)) & ((1 << bits) - 1)
    masked = int.from_bytes(raw) & mask
    return masked.to_bytes(len(raw)), mask.to_bytes(len(raw))
