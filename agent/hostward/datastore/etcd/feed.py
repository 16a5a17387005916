"""The agent's feed from etcd: one snapshot in pages, then one watch, resumed after whatever happens to server or network.

Knows keys and revisions, not documents. `run` is the body of the feed's own thread; `peers` may be called from any.
"""

from __future__ import annotations

import random
import threading
import time
from hashlib import blake2b
from typing import Final, NamedTuple

from etcd3 import etcdrpc

from hostward.datastore.connection import NOBODY_SAID, Connection, Endpoint, SettingsError
from hostward.datastore.etcd.addresses import Addresses
from hostward.datastore.etcd.client import Client, StoppedError
from hostward.datastore.etcd.errors import EtcdError, Trouble, explain
from hostward.datastore.etcd.pages import PAGE, pages
from hostward.datastore.etcd.stream import WatchStream
from hostward.datastore.feed import Changes, Sink, Snapshot, Stored
from hostward.datastore.store import StoreError
from hostward.model import keys

PROBE_AFTER: Final = 5.0  # seconds of silence before we ask whether the server is still there
PROBE_DEADLINE: Final = 4.0
SILENCE_LIMIT: Final = (
    15 * 60.0
)  # etcd notifies of progress every 10 minutes; a watch without that is dead, whatever probes say
STEADY_AFTER: Final = 5.0  # a session that lived this long was no failed attempt
NAMES_EVERY: Final = 60.0
BACKOFF: Final = (0.1, 4.0)  # who comes back is found within five seconds (docs/reliability.md R1)
_POLL: Final = 0.25  # how long a stop may go unnoticed
_DELETE: Final = 1  # mvccpb.Event.EventType
_NAMES_WITHIN: Final = 5.0


class _ResyncError(Exception):
    """What we know can't be continued; everything must be read again, at once."""


class _Anchor(NamedTuple):
    """The newest value we were given. A store in which it isn't there, at our revision, is not the one that we followed."""

    key: bytes
    revision: int
    digest: bytes


class EtcdFeed:
    """Feeds everything under `root` (statements.md libraries 5.4). `probe_after` and `probe_deadline`: seconds, for tests."""

    def __init__(
        self,
        connection: Connection,
        root: str = keys.ROOT,
        *,
        page: int = PAGE,
        probe_after: float = PROBE_AFTER,
        probe_deadline: float = PROBE_DEADLINE,
    ) -> None:
        self._connection, self._root, self._page = connection, root.encode(), page
        self._probe_after, self._probe_deadline = probe_after, probe_deadline
        self._addresses = Addresses(connection.endpoints)
        self._turn = random.randrange(len(connection.endpoints))  # noqa: S311 # spreads agents over servers, no secret
        self._revision = 0
        self._cluster = 0
        self._anchor: _Anchor | None = None
        self._alarms: tuple[str, ...] = ()
        self._watching = False

    def peers(self) -> tuple[tuple[str, int], ...]:
        """The servers' addresses and ports, names resolved; last known ones kept (D8)."""
        return self._addresses.all()

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Feeds the sink until `stop` is set."""
        failures = 0
        while not stop.is_set():
            began = time.monotonic()
            try:
                self._session(sink, stop)
            except StoppedError:
                return
            except _ResyncError as error:
                self._revision = 0
                sink.lost(f"{error}: everything is read again")
                trouble = None
            except EtcdError as error:
                trouble = error.trouble
                text = str(error)
            except StoreError as error:
                trouble = Trouble.REFUSED
                text = str(error)
            if trouble is Trouble.TOKEN and self._watching:
                continue  # it worked until the token expired; the next session gets another
            failures = 1 if time.monotonic() - began >= STEADY_AFTER else failures + 1
            if trouble is not None:
                guessed = trouble is Trouble.UNREACHABLE and self._connection.assumed and not self._revision
                sink.lost(f"{text}; {NOBODY_SAID}" if guessed else text)
                self._turn += 1
            if trouble is not None or failures > 1:
                longest = min(BACKOFF[1], BACKOFF[0] * 2 ** min(failures - 1, 10))
                stop.wait(longest * random.uniform(0.5, 1.0))  # noqa: S311 # jitter, no secret

    def _session(self, sink: Sink, stop: threading.Event) -> None:
        """One connection, for as long as it lasts."""
        self._watching = False
        endpoint = self._connection.endpoints[self._turn % len(self._connection.endpoints)]
        client = Client(self._connection, endpoint, self._address(endpoint, stop), stop)
        try:
            client.authenticate()
            if self._revision and self._anchor:
                self._confirm(client, self._anchor)
            else:
                self._snapshot(client, sink)
            sink.contact()
            self._check_alarms(client, sink)
            stream = WatchStream(client, self._root, self._revision + 1)
            self._watching = True
            try:
                self._follow(client, stream, sink, stop)
            finally:
                stream.close()
        finally:
            client.close()

    def _address(self, endpoint: Endpoint, stop: threading.Event) -> str:
        self._addresses.refresh()
        deadline = time.monotonic() + _NAMES_WITHIN
        while not self._addresses.wait(_POLL) and time.monotonic() < deadline:
            if stop.is_set():
                raise StoppedError
        known = self._addresses.known(endpoint.host)
        if not known:
            raise SettingsError(f"{endpoint}: host name not found: {self._addresses.failure(endpoint.host)}")
        return known[self._turn // len(self._connection.endpoints) % len(known)]

    def _snapshot(self, client: Client, sink: Sink) -> None:
        objects: dict[str, Stored] = {}
        newest: etcdrpc.KeyValue | None = None
        header: etcdrpc.ResponseHeader | None = None
        try:
            for response in pages(client, self._root, page=self._page, first_timeout=self._connection.dial_timeout):
                header = header or response.header
                for kv in response.kvs:
                    objects[_text(kv.key)] = Stored(kv.value, kv.mod_revision)
                    newest = kv if newest is None or kv.mod_revision > newest.mod_revision else newest
        except EtcdError as error:
            if error.trouble is Trouble.COMPACTED:
                raise _ResyncError("etcd was compacted while everything was read") from error
            raise
        if header is None:
            raise EtcdError(Trouble.UNREACHABLE, f"{client.endpoint}: no answer")
        self._cluster, self._revision = header.cluster_id, header.revision
        self._anchor = _anchored(newest) if newest is not None else None
        sink.snapshot(Snapshot(header.revision, objects))

    def _confirm(self, client: Client, anchor: _Anchor) -> None:
        """Whether this store still has the history that we followed; a restored one may have reused our revisions."""
        request = etcdrpc.RangeRequest(key=anchor.key, revision=self._revision)
        try:
            response = client.range(request, self._connection.dial_timeout)
        except EtcdError as error:
            if error.trouble is Trouble.COMPACTED:
                raise _ResyncError("etcd was compacted past what we know") from error
            if error.trouble is Trouble.FUTURE:
                raise _ResyncError(f"etcd went back to before revision {self._revision} (a restore?)") from error
            raise
        self._check_header(response.header, linearizable=True)
        if not response.kvs or _anchored(response.kvs[0]) != anchor:
            raise _ResyncError("etcd has another history than the one we followed (a restore?)")

    def _check_header(self, header: etcdrpc.ResponseHeader, *, linearizable: bool) -> None:
        if header.cluster_id != self._cluster:
            raise _ResyncError(f"this is another etcd cluster ({header.cluster_id:x}, was {self._cluster:x})")
        # The header of a watch's first answer comes from one server, which may lag behind the others.
        if linearizable and header.revision < self._revision:
            raise _ResyncError(f"etcd went back from revision {self._revision} to {header.revision} (a restore?)")

    def _check_alarms(self, client: Client, sink: Sink) -> None:
        try:
            _, alarms = client.status()
        except EtcdError as error:
            if error.trouble is Trouble.UNREACHABLE:
                raise
            return  # a server that keeps its state to itself can still be followed
        if alarms != self._alarms and alarms:
            sink.lost(f"{client.endpoint}: etcd raises alarm {', '.join(alarms)}: {_ALARMS.get(alarms[0], 'see etcd')}")
            sink.contact()
        self._alarms = alarms

    def _follow(self, client: Client, stream: WatchStream, sink: Sink, stop: threading.Event) -> None:
        """Hands on what the watch says until it ends; never returns but by an error."""
        start = self._revision + 1
        heard = watched = checked = time.monotonic()
        probing = created = False
        while True:
            arrival = stream.get(_POLL)
            if stop.is_set():
                raise StoppedError
            now = time.monotonic()
            if arrival is None:
                if not probing and now - heard >= self._probe_after:
                    stream.probe(self._anchor.key if self._anchor else self._root, self._probe_deadline)
                    probing = True
            elif isinstance(arrival, EtcdError):
                raise _ended(arrival)
            else:
                heard = now
                if isinstance(arrival, etcdrpc.RangeResponse):
                    probing = False
                    self._check_header(arrival.header, linearizable=True)
                    if created and arrival.header.revision == self._revision:
                        watched = now  # nothing is under way
                    if now - watched >= SILENCE_LIMIT:
                        raise EtcdError(Trouble.UNREACHABLE, f"{client.endpoint}: the watch is silent; starting another")
                else:
                    watched, created = now, True
                    self._take(arrival, start, sink)
                sink.contact()
            if not created and now - watched >= self._connection.dial_timeout:
                raise EtcdError(Trouble.UNREACHABLE, f"{client.endpoint}: no answer to a watch")
            if now - checked >= NAMES_EVERY:
                checked = now
                self._addresses.refresh()
                self._check_alarms(client, sink)

    def _take(self, response: etcdrpc.WatchResponse, start: int, sink: Sink) -> None:
        if response.compact_revision:
            raise _ResyncError(f"etcd was compacted to revision {response.compact_revision}, past what we know")
        self._check_header(response.header, linearizable=False)
        if response.canceled:
            raise EtcdError(Trouble.DENIED, f"etcd ended the watch: {explain(response.cancel_reason)}")
        if response.created:
            return
        events = [event for event in response.events if event.kv.mod_revision >= start]
        objects: dict[str, Stored | None] = {}
        for event in events:
            kv = event.kv
            deleted = event.type == _DELETE
            objects[_text(kv.key)] = None if deleted else Stored(kv.value, kv.mod_revision)
            if not deleted:
                self._anchor = _anchored(kv)
            elif self._anchor is not None and self._anchor.key == kv.key:
                self._anchor = None
        # With events the header may already be ahead of them; without, it says how far the watch has come.
        revision = max((event.kv.mod_revision for event in events), default=0 if response.events else response.header.revision)
        if revision > self._revision or objects:
            self._revision = max(revision, self._revision)
            sink.changes(Changes(self._revision, objects))


_ALARMS: Final = {
    "NOSPACE": "it is out of space and refuses every write until it's compacted, defragmented and the alarm disarmed",
    "CORRUPT": "its members hold different data; it refuses to work until repaired",
}


def _ended(error: EtcdError) -> Exception:
    if error.trouble is Trouble.TOO_LARGE:
        return _ResyncError("the changes since are too large for one answer")
    if error.trouble is Trouble.COMPACTED:
        return _ResyncError("etcd was compacted past what we know")
    return error


def _anchored(kv: etcdrpc.KeyValue) -> _Anchor:
    return _Anchor(kv.key, kv.mod_revision, blake2b(kv.value, digest_size=16).digest())


def _text(key: bytes) -> str:
    """A key as text that can be printed and compared, whatever bytes it holds."""
    return key.decode("utf-8", "backslashreplace")
