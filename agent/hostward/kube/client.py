"""Requests to one Kubernetes API server: whole answers and streams. Used by several threads at a time.

Knows no kinds and never tries again: whoever asks decides when. Proxies of the environment aren't used, redirects not followed.
"""

from __future__ import annotations

import ipaddress
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Final

import urllib3
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, Timeout
from urllib3.exceptions import HTTPError

from hostward.kube.access import Access
from hostward.kube.connections import Sockets, pool
from hostward.kube.credentials import Credentials, Known
from hostward.kube.errors import ApiError, refusal, translate
from hostward.kube.tls import Material, tls_context
from hostward.model.document import DocumentError, read

CONNECT_WITHIN: Final = 10.0  # seconds
ANSWER_WITHIN: Final = 30.0  # seconds of silence in an answer that isn't a stream
WHOLE_WITHIN: Final = 120.0  # seconds for all of it
LARGEST: Final = 256 << 20  # bytes of one answer; a page of 500 Pods is about 10 MB
_LARGEST_REFUSAL: Final = 64 << 10
_PIECE: Final = 64 << 10
_BROKEN: Final = (HTTPError, OSError, ValueError)
"""What reading from a connection may raise; ValueError for garbage between chunks."""


class Client:
    """A server and who asks it. Made by `Client(access)`; see `hostward.kube.access`. `now`: seconds, monotonic."""

    def __init__(self, access: Access, *, now: Callable[[], float] = time.monotonic) -> None:
        if not access.tls and access.token and not _is_loopback(access.host):
            raise ApiError("Settings", f"{access}: a token is only sent over https")
        if not access.verify:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # whoever set it knows
        self.server = str(access)
        self._access, self._now = access, now
        self._credentials = Credentials(access, now)
        self._sockets = Sockets()
        self._lock = threading.Lock()
        self._pool: tuple[Material, HTTPConnectionPool] | None = None

    def close(self) -> None:
        """Ends every request, now and from now on; for use after the reflectors' stop event was set."""
        self._sockets.shut()

    def get(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """The body of a 200 answer. Raises ApiError."""
        ends = self._now() + WHOLE_WITHIN
        with closing(self._open(path, query, ANSWER_WITHIN)) as response:
            body = bytearray()
            for piece in self._pieces(response.stream(_PIECE)):
                body += piece
                if len(body) > LARGEST:
                    raise ApiError("TooLarge", f"{self.server}: an answer of more than {LARGEST >> 20} MiB")
                if self._now() > ends:
                    raise ApiError("Stalled", f"{self.server}: an answer took more than {WHOLE_WITHIN:.0f} s")
            return bytes(body)

    @contextmanager
    def stream(self, path: str, query: Mapping[str, str], silence: float) -> Iterator[Iterator[bytes]]:
        """The body of a 200 answer in pieces, as they come. Raises ApiError, also after `silence` seconds without a byte.

        Iterating ends only where the server ended the answer properly.
        """
        with closing(self._open(path, query, silence)) as response:
            if not getattr(response, "chunked", False):
                raise ApiError("Malformed", f"{self.server}: the answer to a watch isn't chunked: is a proxy in the way?")
            yield self._pieces(response.read_chunked(_PIECE))

    def _open(self, path: str, query: Mapping[str, str] | None, silence: float) -> BaseHTTPResponse:
        known = self._credentials.current()
        connections = self._pool_for(known)
        try:
            response = connections.request(
                "GET",
                self._access.prefix + path,
                fields=query,
                headers=self._headers(known),
                timeout=Timeout(connect=CONNECT_WITHIN, read=silence),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            if response.status == 200:
                return response
            with closing(response):
                body = response.read(_LARGEST_REFUSAL)
        except _BROKEN as error:
            raise translate(error, self.server) from error
        if response.status == 401:
            self._credentials.refused()
        raise refusal(response.status, _message(body, known.token), response.headers.get("Retry-After"))

    def _pieces(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same pieces, and our own error. Only reading is guarded: what their taker raises is the taker's."""
        while True:
            try:
                piece = next(pieces, None)
            except _BROKEN as error:
                raise translate(error, self.server) from error
            if piece is None:
                return
            yield piece

    def _headers(self, known: Known) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "hostward"}
        return headers | ({"Authorization": f"Bearer {known.token}"} if known.token else {})

    def _pool_for(self, known: Known) -> HTTPConnectionPool:
        """The pool with these certificates: a new one where they changed, while streams of the old one go on."""
        with self._lock:
            if self._pool is None or self._pool[0] != known.material:
                context: ssl.SSLContext | None = tls_context(self._access, known.material) if self._access.tls else None
                self._pool = known.material, pool(self._access, context, self._sockets)
            return self._pool[1]


def _message(body: bytes, token: str | None) -> str:
    """What a refusal says, without the token that a strange server might repeat."""
    try:
        message = read(body).get("message")
    except DocumentError:
        message = body.decode("utf-8", "replace")
    text = message if isinstance(message, str) else ""
    return text.replace(token, "(token)") if token else text


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
