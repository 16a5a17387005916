"""The IP addresses behind the endpoints' names, looked up again for every connection; the last known ones are kept.

A name server that doesn't answer can block for long, so that look-ups run in a daemon thread of their own, one at a time.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Sequence

from hostward.datastore.connection import Endpoint


def _literal(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


class Addresses:
    """Addresses by host name. `known` and `all` never block."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = tuple(endpoints)
        self._found: dict[str, tuple[str, ...]] = {}
        self._failed: dict[str, str] = {}
        self._names: list[str] = []
        for endpoint in self._endpoints:
            if literal := _literal(endpoint.host):
                self._found[endpoint.host] = (literal,)
            elif endpoint.host not in self._names:
                self._names.append(endpoint.host)
        self._thread: threading.Thread | None = None
        self._done = threading.Event()
        self._done.set()

    def refresh(self) -> None:
        """Starts looking the names up, unless that is under way."""
        if self._names and self._done.is_set():
            self._done.clear()
            threading.Thread(target=self._look_up, name="etcd-names", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Waits for the look-up that is under way; True if none is."""
        return self._done.wait(seconds)

    def _look_up(self) -> None:
        try:
            for name in self._names:
                try:
                    answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
                except (OSError, UnicodeError) as error:  # UnicodeError: a label that no DNS name can have
                    self._failed[name] = getattr(error, "strerror", None) or str(error)
                else:
                    self._failed.pop(name, None)
                    self._found[name] = tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))
        finally:
            self._done.set()

    def known(self, host: str) -> tuple[str, ...]:
        """The last known addresses of a host; empty if it was never found."""
        return self._found.get(host, ())

    def failure(self, host: str) -> str:
        """Why a host was not found."""
        return self._failed.get(host, "no answer from the name server")

    def all(self) -> tuple[tuple[str, int], ...]:
        """Every known address with its port."""
        return tuple(dict.fromkeys((address, one.port) for one in self._endpoints for address in self.known(one.host)))
