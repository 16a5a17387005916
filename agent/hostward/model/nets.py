"""Addresses and networks as canonical text, family and members for kernel sets.

inet_pton is used instead of `ipaddress` because sets of 100,000 members pass through here (`statements.md` libraries 7.2).
Pure functions; any thread.
"""

from __future__ import annotations

from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton


@lru_cache(maxsize=4096)
def parse_address(text: str) -> str | None:
    """The canonical form of an IPv4 or IPv6 address, None if it is none."""
    if "%" in text or "\0" in text:
        return None
    family = AF_INET6 if ":" in text else AF_INET
    try:
        return inet_ntop(family, inet_pton(family, text))
    except (OSError, UnicodeEncodeError):
        return None


@lru_cache(maxsize=4096)
def parse_net(text: str, *, bare: bool = True) -> str | None:
    """The canonical, masked `address/length` of a CIDR; with `bare` an address counts as /32 or /128 (R-7). None if neither."""
    address, slash, length_text = text.partition("/")
    if not slash and not bare:
        return None
    if "%" in address or "\0" in address:
        return None
    family, bits = (AF_INET6, 128) if ":" in address else (AF_INET, 32)
    if not slash:
        length = bits
    elif length_text.isascii() and length_text.isdigit() and len(length_text) <= 3:
        length = int(length_text)
        if length > bits or (length_text[0] == "0" and length_text != "0"):
            return None
    else:
        return None
    try:
        packed = inet_pton(family, address)
    except (OSError, UnicodeEncodeError):
        return None
    if length < bits:
        packed = (int.from_bytes(packed) >> (bits - length) << (bits - length)).to_bytes(bits // 8)
    net = f"{inet_ntop(family, packed)}/{length}"
    return text if text == net else net  # the cache needn't hold it twice


def family(net: str) -> int:
    """4 or 6 for a canonical address or network."""
    return 6 if ":" in net else 4


def is_catch_all(net: str) -> bool:
    """True for 0.0.0.0/0 and ::/0."""
    return net.endswith("/0")


def set_members(net: str) -> tuple[str, ...]:
    """The members by which a hash:net set holds a canonical network (I-1, I-6): hosts bare, a catch-all as its two halves."""
    if net == "0.0.0.0/0":
        return ("0.0.0.0/1", "128.0.0.0/1")
    if net == "::/0":
        return ("::/1", "8000::/1")
    full = "/128" if ":" in net else "/32"
    return (net.removesuffix(full),)


def contains(net: str, address: str) -> bool:
    """Whether a canonical network holds a canonical address of either family."""
    base, _, length_text = net.partition("/")
    kind = AF_INET6 if ":" in base else AF_INET
    if (":" in base) != (":" in address):
        return False
    bits = 128 if kind == AF_INET6 else 32
    shift = bits - int(length_text or bits)
    return int.from_bytes(inet_pton(kind, base)) >> shift == int.from_bytes(inet_pton(kind, address)) >> shift
