"""A connection to whichever etcd server works: made at the first request, and again after it broke. Any thread.

To the first endpoint that answers and has a leader.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from hostward.datastore.connection import NOBODY_SAID, Connection, Endpoint, SettingsError
from hostward.datastore.etcd.addresses import Addresses
from hostward.datastore.etcd.client import Client
from hostward.datastore.etcd.errors import EtcdError, Trouble
from hostward.datastore.store import StoreError

_Answer = TypeVar("_Answer")


class Link:
    """Requests over one connection at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._addresses = Addresses(connection.endpoints)
        self._client: Client | None = None
        self._lock = threading.Lock()

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                self._addresses.refresh()
                self._addresses.wait(self._connection.dial_timeout)
                self._client = self._dial()
            return self._client

    def _dial(self) -> Client:
        refusals: list[StoreError] = []
        for endpoint in self._connection.endpoints:
            addresses = self._addresses.known(endpoint.host)
            if not addresses:
                refusals.append(SettingsError(f"{endpoint}: host name not found: {self._addresses.failure(endpoint.host)}"))
            for address in addresses:
                try:
                    return self._reach(endpoint, address)
                except StoreError as error:
                    refusals.append(error)
        if self._connection.assumed:
            raise EtcdError(Trouble.UNREACHABLE, f"{refusals[0]}; {NOBODY_SAID}") from refusals[0]
        if len(refusals) == 1 or (isinstance(refusals[0], EtcdError) and refusals[0].trouble is Trouble.DENIED):
            raise refusals[0]
        raise EtcdError(Trouble.UNREACHABLE, "no etcd endpoint can be used: " + "; ".join(dict.fromkeys(map(str, refusals))))

    def _reach(self, endpoint: Endpoint, address: str) -> Client:
        client = Client(self._connection, endpoint, address)
        try:
            client.require_leader()
            client.authenticate()
        except BaseException:
            client.close()
            raise
        return client

    def ask(self, request: Callable[[Client], _Answer], *, repeatable: bool) -> _Answer:
        """A request; after a lost connection a read is sent once more, over a new one, and the next request starts there."""
        client = self._connected()
        try:
            return request(client)
        except EtcdError as error:
            if error.trouble is not Trouble.UNREACHABLE:
                raise
            with self._lock:
                if self._client is client:
                    self._client = None
            client.close()
            if not repeatable:
                raise EtcdError(error.trouble, f"{error}; whether the write took place is unknown") from error
        return request(self._connected())

    def peers(self) -> tuple[tuple[str, int], ...]:
        """Addresses and ports of the endpoints."""
        self._connected()
        return self._addresses.all()

    def close(self) -> None:
        """Lets go of the connection; another request makes a new one."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None
