"""Open connections, all of them, as values, and their marks. Any thread; its own network namespace.

`conntrack` looks for addresses alone and leaves the rest undecoded; here each entry is taken apart.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterable
from socket import AF_INET, AF_INET6, AF_UNSPEC, inet_ntop
from typing import Final

from hostward.dataplane.kernel import KernelError
from hostward.dataplane.netlink import NESTED, NETLINK_NETFILTER, Netlink, RefusedError, attribute, attributes
from hostward.model.flow import Flow

# include/uapi/linux/netfilter/nfnetlink_conntrack.h
_CHANGE, _GET = 1 << 8, 1 << 8 | 1
_ORIGINAL, _REPLY, _MARK, _MASTER, _ZONE, _MARK_MASK = 1, 2, 8, 14, 18, 21
_IP, _PROTO = 1, 2
_SOURCES, _DESTINATIONS = (1, 3), (2, 4)
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_ICMP: Final = ((5, 6), (8, 9))  # type and code, of IPv4 and of IPv6


def flows(wanted: Callable[[Flow], bool] = lambda _: True) -> list[Flow]:
    """The open connections that are wanted; of the others nothing is kept. Raises KernelError."""

    def keep(entry: bytes) -> bool:
        flow = parse(entry)
        return flow is not None and wanted(flow)

    try:
        with Netlink(NETLINK_NETFILTER) as netlink:
            entries = netlink.dump(_GET, struct.pack("=BBH", AF_UNSPEC, 0, 0), keep=keep)
    except (OSError, RefusedError) as error:
        raise KernelError(f"open connections can't be listed: {error}", retry=True) from error
    return [flow for entry in entries if (flow := parse(entry)) is not None]


def parse(entry: bytes) -> Flow | None:
    """An entry of conntrack; None for what isn't IP, or isn't whole."""
    family = entry[0]
    if family not in (AF_INET, AF_INET6):
        return None
    parts = dict(attributes(entry, 4))
    try:
        source, destination, protocol, ports, icmp = _direction(family, parts[_ORIGINAL])
        answer, answered_to, _, answer_ports, _ = _direction(family, parts[_REPLY])
    except (KeyError, IndexError, struct.error, ValueError):
        return None
    return Flow(
        source,
        ports[0],
        destination,
        ports[1],
        protocol,
        answer,
        answer_ports[0],
        answered_to,
        *icmp,
        related=_MASTER in parts,
        mark=struct.unpack(">I", parts[_MARK])[0] if _MARK in parts else 0,
        entry=entry,
    )


def _direction(family: int, data: bytes) -> tuple[str, str, int, tuple[int, int], tuple[int, int]]:
    parts = dict(attributes(data))
    addresses, proto = dict(attributes(parts[_IP])), dict(attributes(parts[_PROTO]))
    version = 0 if family == AF_INET else 1
    source, destination = (inet_ntop(family, addresses[kinds[version]]) for kinds in (_SOURCES, _DESTINATIONS))
    ports = tuple(struct.unpack(">H", proto[kind])[0] if kind in proto else 0 for kind in (_SOURCE_PORT, _DESTINATION_PORT))
    icmp = tuple(proto[kind][0] if kind in proto else 0 for kind in _ICMP[version])
    return source, destination, proto[_NUMBER][0], (ports[0], ports[1]), (icmp[0], icmp[1])


def mark(found: Iterable[Flow], value: int, mask: int) -> int:
    """Gives these connections this mark, in the bits of the mask; how many were still there.

    Raises KernelError; the same can be asked for again.
    """
    bits = attribute(_MARK, struct.pack(">I", value)) + attribute(_MARK_MASK, struct.pack(">I", mask))
    marked = 0
    try:
        with Netlink(NETLINK_NETFILTER) as netlink:
            for flow in found:
                marked += _change(netlink, flow.entry, bits)
    except (OSError, RefusedError) as error:
        raise KernelError(f"open connections can't be marked: {error}", retry=True) from error
    return marked


def _change(netlink: Netlink, entry: bytes, what: bytes) -> bool:
    """Whether it was still there."""
    parts = dict(attributes(entry, 4))
    body = struct.pack("=BBH", entry[0], 0, 0) + attribute(_ORIGINAL | NESTED, parts[_ORIGINAL]) + what
    if _ZONE in parts:
        body += attribute(_ZONE, parts[_ZONE])
    try:
        netlink.request(_CHANGE, body)
    except RefusedError as error:
        if error.code != errno.ENOENT:
            raise
        return False
    return True
