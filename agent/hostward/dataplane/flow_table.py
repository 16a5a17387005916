"""Open connections, all of them, as values; what is asked for is deleted. Any thread; its own network namespace.

`conntrack` looks for addresses alone and leaves the rest undecoded; here each entry is taken apart.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, AF_UNSPEC, inet_ntop
from typing import Final

from hostward.dataplane.conntrack import delete_entry
from hostward.dataplane.kernel import KernelError
from hostward.dataplane.netlink import NETLINK_NETFILTER, Netlink, RefusedError, attributes
from hostward.model.flow import Flow

# include/uapi/linux/netfilter/nfnetlink_conntrack.h
_GET: Final = 1 << 8 | 1
_ORIGINAL, _REPLY, _MASTER = 1, 2, 14
_IP, _PROTO = 1, 2
_SOURCES, _DESTINATIONS = (1, 3), (2, 4)
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_ICMP: Final = ((5, 6), (8, 9))  # type and code, of IPv4 and of IPv6


def flows() -> list[Flow]:
    """All open connections. Raises KernelError."""
    try:
        with Netlink(NETLINK_NETFILTER) as netlink:
            entries = netlink.dump(_GET, struct.pack("=BBH", AF_UNSPEC, 0, 0))
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


def delete(found: Iterable[Flow]) -> int:
    """Deletes these very entries; how many were still there. Raises KernelError; the same can be asked for again."""
    try:
        with Netlink(NETLINK_NETFILTER) as netlink:
            return sum(delete_entry(netlink, flow.entry) for flow in found)
    except (OSError, RefusedError) as error:
        raise KernelError(f"open connections can't be deleted: {error}", retry=True) from error
