"""By which interface this host would send to an address: asked of the kernel, each address once. Any thread; its namespace."""

from __future__ import annotations

import struct
from contextlib import suppress
from socket import AF_INET, AF_INET6, if_indextoname, inet_pton
from typing import Final

from hostward.dataplane.kernel import KernelError
from hostward.dataplane.netlink import NETLINK_ROUTE, Netlink, RefusedError, attribute, attributes

_GET_ROUTE: Final = 26
_DESTINATION, _INTERFACE = 1, 4
_HEADER: Final = struct.Struct("=BBBBBBBBI")  # struct rtmsg


class Ways:
    """Use it in a `with`, for as long as routes may be taken as they are. KernelError where the kernel can't be asked."""

    def __init__(self) -> None:
        try:
            self._netlink = Netlink(NETLINK_ROUTE)
        except OSError as error:
            raise _unasked(error) from error
        self._known: dict[str, str] = {}

    def __enter__(self) -> Ways:
        return self

    def __exit__(self, *_: object) -> None:
        self._netlink.close()

    def to(self, address: str) -> str:
        """The interface's name; "" where there is no way."""
        if address not in self._known:
            self._known[address] = self._ask(address)
        return self._known[address]

    def _ask(self, address: str) -> str:
        family, bits = (AF_INET6, 128) if ":" in address else (AF_INET, 32)
        body = _HEADER.pack(family, bits, 0, 0, 0, 0, 0, 0, 0) + attribute(_DESTINATION, inet_pton(family, address))
        try:
            answer = self._netlink.request(_GET_ROUTE, body, flags=0)
        except RefusedError:
            return ""
        except OSError as error:  # that says nothing of the way
            raise _unasked(error) from error
        index = dict(attributes(answer, _HEADER.size)).get(_INTERFACE)
        with suppress(OSError):  # the interface has gone since
            return if_indextoname(struct.unpack("=I", index)[0]) if index else ""
        return ""


def _unasked(error: OSError) -> KernelError:
    return KernelError(f"the kernel can't be asked for routes: {error}", retry=True)
