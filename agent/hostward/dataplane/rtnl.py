"""The host's interfaces and addresses as the kernel tells them, message by message, and the requests that list them.

`LinkTable` is the state that messages build up; it knows no sockets and no threads, and nothing of who wants the links.

pyroute2 decodes, through message classes that name only the attributes that we read: its own classes decode everything the
kernel ever added to an interface. The conversation is ours (`netlink`), because pyroute2 0.9.7 does not look at the mark of
an interrupted dump, so that an interface could be missing from a list unnoticed.
"""

from __future__ import annotations

import errno
import struct
from socket import AF_INET, AF_INET6, AF_UNSPEC
from typing import Final, TypeVar

from hostward.dataplane.lean import without_init
from hostward.dataplane.netlink import Netlink, RefusedError, attribute
from hostward.model.links import Link

without_init("pyroute2")
from pyroute2.netlink import nlmsg  # noqa: E402 # after what spares us the rest of it

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # links, IPv4 addresses and routes, IPv6 addresses and routes
_RT_TABLE_LOCAL, _RTN_LOCAL = 255, 2
_IFF_RUNNING = 0x40
_IFLA_EXT_MASK, _SKIP_STATISTICS = 29, 8
_RTA_TABLE = 15
_HOST_LENGTHS: Final = {AF_INET: 32, AF_INET6: 128}
_Key = TypeVar("_Key")


class LinkMessage(nlmsg):
    """`struct ifinfomsg` and what we read of its attributes."""

    prefix = "IFLA_"
    fields = (("family", "B"), ("__pad", "x"), ("type", "H"), ("index", "i"), ("flags", "I"), ("change", "I"))
    nla_map = ((3, "IFLA_IFNAME", "asciiz"), (10, "IFLA_MASTER", "uint32"))


class AddressMessage(nlmsg):
    """`struct ifaddrmsg`; the host's own address is `IFA_LOCAL`, or `IFA_ADDRESS` where there is no peer."""

    prefix = "IFA_"
    fields = (("family", "B"), ("prefixlen", "B"), ("flags", "B"), ("scope", "B"), ("index", "I"))
    nla_map = ((1, "IFA_ADDRESS", "ipaddr"), (2, "IFA_LOCAL", "ipaddr"))


class RouteMessage(nlmsg):
    """`struct rtmsg`; the destination, the interface and what tells routes to one destination apart."""

    prefix = "RTA_"
    fields = (
        ("family", "B"), ("dst_len", "B"), ("src_len", "B"), ("tos", "B"),
        ("table", "B"), ("proto", "B"), ("scope", "B"), ("type", "B"), ("flags", "I"),
    )  # fmt: skip
    nla_map = ((1, "RTA_DST", "ipaddr"), (4, "RTA_OIF", "uint32"), (6, "RTA_PRIORITY", "uint32"))


_CLASSES: Final[dict[int, type[nlmsg]]] = {
    RTM_NEWLINK: LinkMessage,
    RTM_DELLINK: LinkMessage,
    RTM_NEWADDR: AddressMessage,
    RTM_DELADDR: AddressMessage,
    RTM_NEWROUTE: RouteMessage,
    RTM_DELROUTE: RouteMessage,
}


class LinkTable:
    """Interfaces by index, with addresses from two sources: local routes (H-3) and the addresses set on the interface.

    The second is merged in because an IPv6 address has no local route until duplicate address detection is through (so an
    endpoint that is found by it is governed before its first packet), and because a VRF keeps its local routes elsewhere.
    """

    def __init__(self) -> None:
        self._links: dict[int, tuple[str, int, int]] = {}  # name, flags, index of the master or 0
        # What the kernel can hold twice under one address has a second key, or removing one would hide the other.
        self._addresses: dict[int, set[tuple[str, int]]] = {}
        self._routes: dict[int, set[tuple[str, int, int]]] = {}

    def links(self) -> dict[str, Link]:
        """The present interfaces by name."""
        return {
            name: Link(
                name,
                index,
                bool(flags & _IFF_RUNNING),
                frozenset(key[0] for key in self._addresses.get(index, ())) | {key[0] for key in self._routes.get(index, ())},
                self._links[master][0] if master in self._links else "",
            )
            for index, (name, flags, master) in self._links.items()
        }

    def apply(self, kind: int, body: bytes) -> None:
        """Takes in one message of type `kind`, an event or an entry of a list. Others than ours change nothing."""
        message_class = _CLASSES.get(kind)
        if message_class is None:
            return
        message = message_class(struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body)
        message.decode()
        if message_class is LinkMessage:
            self._link(kind, message)
        elif message_class is AddressMessage:
            self._address(kind, message)
        else:
            self._route(kind, message)

    def _link(self, kind: int, message: nlmsg) -> None:
        index, flags = message["index"], message["flags"]
        if message["family"] != AF_UNSPEC:  # a bridge port that leaves its bridge is "deleted" from the bridge's family only
            return
        if kind == RTM_DELLINK:
            for table in (self._links, self._addresses, self._routes):
                table.pop(index, None)
            return
        if name := message.get_attr("IFLA_IFNAME"):
            # pyroute2 leaves a name that isn't UTF-8 as bytes; the kernel takes any.
            text = name.decode(errors="surrogateescape") if isinstance(name, bytes) else name
            self._links[index] = (text, flags, message.get_attr("IFLA_MASTER") or 0)

    def _address(self, kind: int, message: nlmsg) -> None:
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        if address:
            _change(self._addresses, message["index"], (address, message["prefixlen"]), there=kind == RTM_NEWADDR)

    def _route(self, kind: int, message: nlmsg) -> None:
        address, index = message.get_attr("RTA_DST"), message.get_attr("RTA_OIF")
        host = message["dst_len"] == _HOST_LENGTHS.get(message["family"])
        if address and index and host and message["table"] == _RT_TABLE_LOCAL and message["type"] == _RTN_LOCAL:
            key = (address, message.get_attr("RTA_PRIORITY", 0), message["tos"])
            _change(self._routes, index, key, there=kind == RTM_NEWROUTE)


def _change(table: dict[int, set[_Key]], index: int, key: _Key, *, there: bool) -> None:
    if there:
        table.setdefault(index, set()).add(key)
    elif index in table:
        table[index].discard(key)


def read(netlink: Netlink) -> LinkTable:
    """The whole present state, in four dumps. Raises OSError and RefusedError."""
    table = LinkTable()
    for entry in netlink.dump(RTM_GETLINK, bytes(16) + attribute(_IFLA_EXT_MASK, struct.pack("=I", _SKIP_STATISTICS))):
        table.apply(RTM_NEWLINK, entry)
    for entry in netlink.dump(RTM_GETADDR, bytes(8)):
        table.apply(RTM_NEWADDR, entry)
    for family in (AF_INET, AF_INET6):
        for entry in _local_routes(netlink, family):
            table.apply(RTM_NEWROUTE, entry)
    return table


def _local_routes(netlink: Netlink, family: int) -> list[bytes]:
    body = struct.pack("=8BI", family, 0, 0, 0, _RT_TABLE_LOCAL, 0, 0, _RTN_LOCAL, 0)
    try:
        return netlink.dump(RTM_GETROUTE, body + attribute(_RTA_TABLE, struct.pack("=I", _RT_TABLE_LOCAL)))
    except RefusedError as refused:
        # ENOENT: a namespace without a single route has no such table yet. The others: a kernel without IPv6.
        if refused.code in (errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
            return []
        raise
