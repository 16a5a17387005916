"""Forgets connections: conntrack entries of given addresses are deleted, so that their next packet is a new connection's.

One dump of the table does for any number of addresses, and what an entry holds beside its addresses stays undecoded bytes.
pyroute2 decodes each entry whole, which takes ten times as long; the `conntrack` tool takes one address and one role a run.
It knows nothing of endpoints. Any thread; it acts on the network namespace that this thread is in.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection
from socket import AF_INET, AF_INET6, AF_UNSPEC, inet_pton
from typing import Final

from hostward.dataplane.kernel import KernelError
from hostward.dataplane.netlink import NESTED, NETLINK_NETFILTER, Netlink, RefusedError, attribute, attributes

# include/uapi/linux/netfilter/nfnetlink_conntrack.h
_SUBSYSTEM: Final = 1 << 8
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2
_ORIGINAL, _REPLY, _ID, _ZONE = 1, 2, 12, 18
_ADDRESSES: Final = 1
_SIZES: Final[dict[int, int]] = {AF_INET: 4, AF_INET6: 16}


def forget_flows(addresses: Collection[str]) -> int:
    """Deletes every entry that has one of these addresses as source or destination, as it was sent or as it is answered.

    Returns how many. One dump, and then a message for each entry. An entry that comes up while the table is read may be
    missed. Raises KernelError; what was deleted by then stays deleted, and the same can be asked for again.
    """
    wanted = {inet_pton(AF_INET6 if ":" in address else AF_INET, address) for address in addresses}
    if not wanted:
        return 0
    try:
        with Netlink(NETLINK_NETFILTER) as netlink:
            entries = netlink.dump(_GET, _header(AF_UNSPEC), keep=lambda entry: not wanted.isdisjoint(_addresses(entry)))
            return sum(_delete(netlink, entry) for entry in entries)
    except (OSError, RefusedError) as error:
        raise KernelError(f"connections of {len(wanted)} addresses can't be forgotten: {error}", retry=True) from error


def _header(family: int) -> bytes:
    return struct.pack("=BBH", family, 0, 0)


def _addresses(entry: bytes) -> tuple[bytes, ...]:
    """The four addresses of an entry: source and destination, as it was sent and as it is answered.

    They are read where kernels put them, and searched for where they aren't there: most of the work is to find them, and
    the table may hold hundreds of thousands of entries, while the engine wants the interpreter too.
    """
    size = _SIZES.get(entry[0])
    if size is None:
        return ()
    found: list[bytes] = []
    at = 4
    for kind in (_ORIGINAL, _REPLY):
        length, tuple_kind, inner_length, inner_kind = struct.unpack_from("=HHHH", entry, at)
        if (tuple_kind, inner_kind, inner_length) != (kind | NESTED, _ADDRESSES | NESTED, 4 + 2 * (4 + size)):
            return _addresses_anywhere(entry)
        found += [entry[at + 12 : at + 12 + size], entry[at + 16 + size : at + 16 + 2 * size]]
        at += (length + 3) & ~3
    return tuple(found)


def _addresses_anywhere(entry: bytes) -> tuple[bytes, ...]:
    parts = dict(attributes(entry, 4))
    ways = (dict(attributes(parts.get(kind, b""))) for kind in (_ORIGINAL, _REPLY))
    return tuple(address for way in ways for _, address in attributes(way.get(_ADDRESSES, b"")))


def _delete(netlink: Netlink, entry: bytes) -> bool:
    """Deletes this very entry, not one that took its place; whether it was still there."""
    parts = dict(attributes(entry, 4))
    body = _header(entry[0]) + attribute(_ORIGINAL | NESTED, parts[_ORIGINAL]) + attribute(_ID, parts[_ID])
    if _ZONE in parts:
        body += attribute(_ZONE, parts[_ZONE])
    try:
        netlink.request(_DELETE, body)
    except RefusedError as error:
        if error.code != errno.ENOENT:
            raise
        return False
    return True
