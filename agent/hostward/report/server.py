"""The HTTP servers for health and metrics: each one thread, a bounded number of connections, a deadline on every one.

An address that can't be bound, or TLS files that can't be read, are reported and tried again for ever: enforcement never
depends on being observed. Never falls back from TLS to plain HTTP.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from msgspec import Struct, field

from hostward.report import http
from hostward.report.logs import get_logger
from hostward.report.tls import TlsError, TlsFiles

MAX_CONNECTIONS: Final = 64
DEADLINE: Final = 10.0
RETRY: Final = (1.0, 30.0)  # first and longest pause between attempts to listen, seconds
_TICK: Final = 1.0
_WHOLE_RECORD: Final = 16385  # more than a TLS record: nothing stays behind where select doesn't see it
_WANTS: Final = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError)


class _Connection(Struct):
    socket: socket.socket
    deadline: float
    shaking: bool
    received: bytearray = field(default_factory=bytearray)
    unsent: memoryview | None = None


class Server:
    """Serves routes (path to a callable that makes the response, called in the server's thread) on one address.

    `port` 0 lets the kernel choose; `address` tells, once listening. `start` returns at once and never raises.
    """

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        routes: Mapping[str, http.Route],
        *,
        tls: TlsFiles | None = None,
        clock: Callable[[], float] = time.monotonic,
        retry: tuple[float, float] = RETRY,
        deadline: float = DEADLINE,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.name = name
        self.address: tuple[str, int] | None = None
        self._host, self._port = host, port
        self._routes = routes
        self._tls = tls
        self._clock = clock
        self._retry = retry
        self._deadline = deadline
        self._max = max_connections
        self._log = get_logger(server=name, host=host, port=port)
        self._stop = threading.Event()
        self._listening = threading.Event()
        self._waker, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._connections: dict[int, _Connection] = {}  # in the order in which they came
        self._context: ssl.SSLContext | None = None
        self._tls_trouble = ""
        self._thread = threading.Thread(target=self._run, name=f"{name}-server", daemon=True)

    def start(self) -> None:
        """Begins listening, now or as soon as it can be."""
        self._thread.start()

    def wait(self, timeout: float) -> bool:
        """Waits until it listens, at most `timeout` seconds; whether it does."""
        return self._listening.wait(timeout)

    def stop(self) -> None:
        """Ends the thread and closes every connection; after `start` only."""
        self._stop.set()
        self._waker.send(b"x")
        self._thread.join(5)
        self._waker.close()
        self._woken.close()

    # --- listening -----------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        with self._selector:
            listener = self._listen()
            if listener is not None:
                self._serve(listener)

    def _serve(self, listener: socket.socket) -> None:
        with listener:
            self.address = listener.getsockname()[:2]
            self._listening.set()
            self._log.info(f"{self.name} served", address="{}:{}".format(*self.address), tls=self._tls is not None)
            self._selector.register(listener, selectors.EVENT_READ)
            self._selector.register(self._woken, selectors.EVENT_READ)
            while not self._stop.is_set():
                for key, _ in self._selector.select(_TICK):
                    if key.fileobj is listener:
                        self._accept(listener)
                    elif isinstance(key.data, _Connection) and key.data.socket.fileno() != -1:  # closed by an accept just now
                        self._advance(key.data)
                self._expire()
            for connection in list(self._connections.values()):
                self._close(connection)

    def _listen(self) -> socket.socket | None:
        pause = self._retry[0]
        while not self._stop.is_set():
            try:
                if self._tls is not None:
                    self._context = self._tls.context()
                return self._bind()
            except (OSError, TlsError) as error:
                self._log.error(f"{self.name} not served, trying again; enforcement goes on without", error=str(error))
                self._stop.wait(pause)
                pause = min(pause * 2, self._retry[1])
        return None

    def _bind(self) -> socket.socket:
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)  # localhost is 127.0.0.1
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6 and address[0] == "::":
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(address)
            listener.listen(128)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        return listener

    # --- connections ---------------------------------------------------------------------------------------------------
    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, _ = listener.accept()
        except _WANTS:
            return
        except OSError as error:  # out of file descriptors, or the client has gone
            self._log.warning("connection not accepted", error=str(error))
            self._stop.wait(0.05)
            return
        accepted.setblocking(False)
        while len(self._connections) >= self._max:
            # The oldest goes: a thousand idle connections don't keep a probe out that asks at once (docs/reliability.md P1).
            self._close(next(iter(self._connections.values())))
        if self._tls is not None:
            wrapped = self._wrap(accepted, self._tls)
            if wrapped is None:
                accepted.close()
                return
            accepted = wrapped
        connection = _Connection(accepted, self._clock() + self._deadline, shaking=self._tls is not None)
        self._connections[accepted.fileno()] = connection
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _wrap(self, accepted: socket.socket, tls: TlsFiles) -> ssl.SSLSocket | None:
        try:
            self._context = tls.context()
            self._tls_trouble = ""
        except TlsError as error:
            if str(error) != self._tls_trouble:
                self._log.error("new TLS files can't be used, the last good ones are", error=str(error))
                self._tls_trouble = str(error)
        try:
            if self._context is not None:
                return self._context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        except OSError as error:  # the client has gone already
            self._log.debug("connection lost before TLS", error=str(error))
        return None

    def _advance(self, connection: _Connection) -> None:
        try:
            if connection.shaking and isinstance(connection.socket, ssl.SSLSocket):
                connection.socket.do_handshake()
                connection.shaking = False
            if connection.unsent is None:
                self._receive(connection)
            while connection.unsent:
                connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
            if connection.unsent is not None:
                self._close(connection)
        except (ssl.SSLWantWriteError, BlockingIOError) as wanting:
            sending = isinstance(wanting, ssl.SSLWantWriteError) or connection.unsent is not None
            self._selector.modify(connection.socket, selectors.EVENT_WRITE if sending else selectors.EVENT_READ, connection)
        except ssl.SSLWantReadError:
            self._selector.modify(connection.socket, selectors.EVENT_READ, connection)
        except OSError:  # reset, or no TLS, or a certificate that isn't let in: the client's affair
            self._close(connection)

    def _receive(self, connection: _Connection) -> None:
        chunk = connection.socket.recv(_WHOLE_RECORD)
        if not chunk:
            raise ConnectionAbortedError
        connection.received += chunk
        head = http.head_of(bytes(connection.received))
        if len(connection.received) > http.MAX_HEAD:
            connection.unsent = memoryview(http.refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
        elif head is not None:
            connection.unsent = memoryview(self._answer(head))

    def _answer(self, head: bytes) -> bytes:
        try:
            return http.answer(head, self._routes)
        except Exception:  # noqa: BLE001 # a bug in a report must not end the agent that enforces; it is told with its traceback
            self._log.exception("request failed")
            return http.refusal(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _expire(self) -> None:
        now = self._clock()
        for connection in [c for c in self._connections.values() if c.deadline < now]:
            self._close(connection)

    def _close(self, connection: _Connection) -> None:
        self._connections.pop(connection.socket.fileno(), None)
        self._selector.unregister(connection.socket)
        connection.socket.close()
