"""Follows the host's interfaces and addresses, and says when they changed.

It knows nothing of endpoints or policies. It runs in a thread of its own and watches the network namespace that this thread is
in. Events are hints: the state is a whole list, kept up to date by events and read afresh at intervals and after any trouble.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from hostward.dataplane import rtnl
from hostward.dataplane.netlink import NETLINK_ROUTE, Netlink, RefusedError
from hostward.model.links import Link

Publish = Callable[[Mapping[str, Link]], None]

_log = logging.getLogger(__name__)
_POLL: Final = 0.25  # seconds between looks at `stop`
_BATCH: Final = 2000  # datagrams taken in before a publication, so that a flood ends in few of them
_FIRST_DELAY, _LAST_DELAY, _CALM = 0.1, 2.0, 10.0  # seconds
_SO_ATTACH_FILTER = 26


class LinkWatcher:
    """Publishes the interfaces by name, whole, at first and after every change of a `Link`.

    `refresh_interval` is FelixConfiguration's `interfaceRefreshInterval` in seconds (H-3); `receive_buffer` in bytes holds what
    comes between two reads. `resyncs` counts whole lists read, `overruns` the times the kernel had to drop events, `events` the
    messages received; `failure` says what keeps it from following, "" when nothing does. Any thread may read those.
    """

    def __init__(self, *, refresh_interval: float = 60.0, receive_buffer: int = 8 << 20) -> None:
        self.resyncs = 0
        self.overruns = 0
        self.events = 0
        self.failure = ""
        self._refresh_interval = refresh_interval
        self._receive_buffer = receive_buffer
        self._published: Mapping[str, Link] | None = None

    def run(self, publish: Publish, stop: threading.Event) -> None:
        """Watches until `stop` is set, and ends within a second of it. What `publish` raises ends it too."""
        delay = _FIRST_DELAY
        while not stop.is_set():
            started = time.monotonic()
            try:
                self._follow(publish, stop)
            except (OSError, RefusedError) as error:
                # After an overrun events are lost, and reading on may raise for ever: begin again with a new socket and list.
                if isinstance(error, OSError) and error.errno == errno.ENOBUFS:
                    self.overruns += 1
                self.failure = f"cannot follow the interfaces: {error}"
                delay = _FIRST_DELAY if time.monotonic() - started > _CALM else delay
                _log.warning("%s; reading them afresh in %.1f s", self.failure, delay)
                stop.wait(delay)
                delay = min(2 * delay, _LAST_DELAY)

    def _follow(self, publish: Publish, stop: threading.Event) -> None:
        """One socket's life: subscribe, list, apply events. Subscribing first leaves no gap before the list."""
        with (
            Netlink(NETLINK_ROUTE, groups=rtnl.GROUPS, receive_buffer=self._receive_buffer) as events,
            Netlink(NETLINK_ROUTE) as questions,
        ):
            _hear_local_routes_only(events)
            while not stop.is_set():
                table = rtnl.read(questions)
                self.resyncs += 1
                self.failure = ""
                deadline = time.monotonic() + self._refresh_interval
                # Events from before the list are in it already. Taken in again in their order they end at the same state,
                # therefore all that wait come before the publication.
                self._take_in(events, table)
                self._tell(table, publish)
                while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
                    if select.select([events], [], [], min(left, _POLL))[0]:
                        self._take_in(events, table)
                        self._tell(table, publish)

    def _take_in(self, events: Netlink, table: rtnl.LinkTable) -> None:
        for _ in range(_BATCH):
            messages = events.receive()
            if not messages:
                return
            self.events += len(messages)
            for kind, body in messages:
                table.apply(kind, body)

    def _tell(self, table: rtnl.LinkTable, publish: Publish) -> None:
        links = table.links()
        if links != self._published:
            self._published = MappingProxyType(links)
            publish(self._published)


def _hear_local_routes_only(events: Netlink) -> None:
    """Lets the kernel drop the events of all route tables but the local one: a router's tables can change thousands of times
    a second. A classic BPF program on the bytes of the message; it looks at the type's low byte and at `rtm_table`."""
    low_byte = 4 if sys.byteorder == "little" else 5
    load_byte, jump_if_equal, give = 0x30, 0x15, 0x06
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (load_byte, 0, 0, low_byte),
            (jump_if_equal, 1, 0, rtnl.RTM_NEWROUTE),
            (jump_if_equal, 0, 2, rtnl.RTM_DELROUTE),
            (load_byte, 0, 0, 16 + 4),
            (jump_if_equal, 0, 1, 255),
            (give, 0, 0, 0xFFFFFFFF),
            (give, 0, 0, 0),
        )
    )
    memory = ctypes.create_string_buffer(program)
    events.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(memory)))
