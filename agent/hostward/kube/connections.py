"""Connections to one API server: the kernel finds out when they are dead, and all can be broken at once. Any thread."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import weakref
from typing import Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from hostward.kube.access import Access

KEEPALIVE: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),  # ms; the kernel sends no probes while a request isn't acknowledged
)
_POOLED: Final = 16  # more than there are reflectors


class Sockets:
    """The sockets that are open. `shut` breaks them, and all that are added later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._closed = False

    def add(self, one: socket.socket) -> None:
        """A new connection."""
        with self._lock:
            self._open.add(one)
            if self._closed:
                _break(one)

    def shut(self) -> None:
        """Whoever reads from one of them sees its end."""
        with self._lock:
            self._closed = True
            for one in self._open:
                _break(one)


def _break(one: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it was no longer connected
        # Below TLS: its own shutdown would pull the session from under the thread that reads.
        socket.socket.shutdown(one, socket.SHUT_RDWR)


def pool(access: Access, context: ssl.SSLContext | None, sockets: Sockets) -> HTTPConnectionPool:
    """Connections with these options, opened when needed; with a context, over TLS."""
    host = f"[{access.host}]" if ":" in access.host else access.host

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    made: HTTPConnectionPool
    if context is None:
        made = HTTPConnectionPool(host, access.port, maxsize=_POOLED, retries=False, socket_options=KEEPALIVE)
        made.ConnectionCls = Plain
    else:
        made = HTTPSConnectionPool(
            host,
            access.port,
            maxsize=_POOLED,
            retries=False,
            socket_options=KEEPALIVE,
            ssl_context=context,
            server_hostname=access.server_name,
        )
        made.ConnectionCls = Secure
    return made
