"""Which of several processes may write: the one that holds a key in etcd under a lease; and the fence that keeps others out.

A lease alone isn't enough: a process that was paused may write after it has expired. So every write also compares that the key
is still the one that its writer made. `Leadership.run` is the body of a thread of its own; the rest may be asked from any.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import grpc
from etcd3 import etcdrpc

from hostward.datastore.connection import Connection
from hostward.datastore.etcd.client import Client
from hostward.datastore.etcd.errors import EtcdError, Trouble
from hostward.datastore.etcd.link import Link
from hostward.datastore.store import StoreError

TTL: Final = 15  # seconds
LOOK: Final = 1.0  # seconds between a follower's looks at the key
_EQUAL: Final = etcdrpc.Compare.EQUAL


class Fence(NamedTuple):
    """A term of leadership: the key, and the revision at which its holder made it."""

    key: bytes
    revision: int

    def compare(self) -> etcdrpc.Compare:
        """The condition under which this term's holder may write."""
        return etcdrpc.Compare(result=_EQUAL, target=etcdrpc.Compare.CREATE, key=self.key, create_revision=self.revision)

    def holds(self, response: etcdrpc.RangeResponse) -> bool:
        """Whether a look at the key shows this term."""
        return bool(response.kvs) and response.kvs[0].create_revision == self.revision


class _Term(NamedTuple):
    fence: Fence
    lease: int
    until: float


class Leadership:
    """A campaign for `key` that never ends: leads, or waits until it can. `name` says to others who leads.

    `ttl`: seconds after which a leader that is gone is replaced. `now`: seconds, monotonic.
    """

    def __init__(
        self, connection: Connection, key: str, name: str, *, ttl: int = TTL, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._link, self._key, self._name, self._ttl, self._now = Link(connection), key.encode(), name, ttl, now
        self._term: _Term | None = None
        self.leader = ""
        """Who leads, by name, as far as is known."""
        self.trouble = ""
        """Why the last look or keepalive failed; empty when it didn't."""
        self.terms = 0
        """How often this process became the leader."""

    def fence(self) -> Fence | None:
        """The present term of this process; None while it doesn't lead, or can't know that it still does."""
        term = self._term
        return term.fence if term is not None and self._now() < term.until else None

    def deposed(self) -> None:
        """A write was fenced off: somebody else leads."""
        self._term = None

    def run(self, stop: threading.Event) -> None:
        """Campaigns and keeps the lease alive until `stop` is set, then gives it back."""
        while not stop.is_set():
            try:
                self._step()
            except StoreError as error:
                self.trouble = str(error)
            else:
                self.trouble = ""
            if self._term is not None and self._now() >= self._term.until:
                self._term = None
            stop.wait(self._ttl / 3 if self._term is not None and not self.trouble else LOOK)
        self._release()
        self._link.close()

    def _step(self) -> None:
        term = self._term
        if term is None:
            self._term = self._campaign()
            return
        asked = self._now()
        left = self._link.ask(lambda client: _keep_alive(client, term.lease, self._ttl / 3), repeatable=True)
        if left <= 0:
            self._term = None
        elif self._term is term:
            self._term = term._replace(until=asked + min(left, self._ttl))

    def _campaign(self) -> _Term | None:
        look = etcdrpc.RangeRequest(key=self._key)
        found = self._link.ask(lambda client: client.range(look), repeatable=True)
        if found.kvs:
            self.leader = found.kvs[0].value.decode("utf-8", "backslashreplace")
            return None
        asked = self._now()
        grant = etcdrpc.LeaseGrantRequest(TTL=self._ttl)
        lease = self._link.ask(lambda client: client.call(client.leases.LeaseGrant, grant), repeatable=True).ID
        unused = etcdrpc.Compare(result=_EQUAL, target=etcdrpc.Compare.VERSION, key=self._key, version=0)
        put = etcdrpc.RequestOp(request_put=etcdrpc.PutRequest(key=self._key, value=self._name.encode(), lease=lease))
        request = etcdrpc.TxnRequest(compare=[unused], success=[put], failure=[])
        try:
            response = self._link.ask(lambda client: client.transact(request), repeatable=False)
        except StoreError:
            self._revoke(lease)  # perhaps the key was made: nobody should have to wait for it to expire
            raise
        if not response.succeeded:
            self._revoke(lease)
            return None
        self.leader, self.terms = self._name, self.terms + 1
        return _Term(Fence(self._key, response.header.revision), lease, asked + self._ttl)

    def _release(self) -> None:
        term, self._term = self._term, None
        if term is not None:
            self._revoke(term.lease)

    def _revoke(self, lease: int) -> None:
        request = etcdrpc.LeaseRevokeRequest(ID=lease)
        try:
            self._link.ask(lambda client: client.call(client.leases.LeaseRevoke, request), repeatable=False)
        except StoreError as error:
            self.trouble = str(error)  # it expires


def _keep_alive(client: Client, lease: int, timeout: float) -> int:
    """Renews a lease; the seconds that it has left, 0 for one that is gone. etcd asks nobody for a token here."""
    request = etcdrpc.LeaseKeepAliveRequest(ID=lease)
    call = client.leases.LeaseKeepAlive(iter([request]), timeout=math.ceil(timeout), metadata=client.metadata())
    try:
        return next(call).TTL
    except StopIteration:
        raise EtcdError(Trouble.UNREACHABLE, f"{client.endpoint}: no answer to a keepalive") from None
    except grpc.RpcError as error:
        raise client.translate(error) from error
    finally:
        call.cancel()
