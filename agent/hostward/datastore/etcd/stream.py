"""One watch over a prefix, and the probes beside it, as a queue of what arrived.

A reader thread per stream moves responses from gRPC into the queue; when the queue is full it stops reading, and gRPC's flow
control holds the server. Knows nothing of what responses mean.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import grpc
from etcd3 import etcdrpc

from hostward.datastore.etcd.client import Client
from hostward.datastore.etcd.errors import EtcdError, Trouble
from hostward.datastore.etcd.pages import prefix_end

_QUEUED = 64
_ENDED = "the watch ended without a reason"

Arrival = etcdrpc.WatchResponse | etcdrpc.RangeResponse | EtcdError


class WatchStream:
    """A watch from a revision on. `close` ends it and its thread."""

    def __init__(self, client: Client, prefix: bytes, start_revision: int) -> None:
        self._client = client
        self._queue: queue.Queue[Arrival] = queue.Queue(_QUEUED)
        self._closed = threading.Event()
        create = etcdrpc.WatchCreateRequest(
            key=prefix, range_end=prefix_end(prefix), start_revision=start_revision, progress_notify=True
        )
        self._call = client.watch(self._requests(etcdrpc.WatchRequest(create_request=create)))
        self._thread = threading.Thread(target=self._read, name="etcd-watch", daemon=True)
        self._thread.start()

    def _requests(self, create: etcdrpc.WatchRequest) -> Iterator[etcdrpc.WatchRequest]:
        yield create
        self._closed.wait()  # the end of the requests would be the end of the watch

    def _read(self) -> None:
        try:
            for response in self._call:
                self._put(response)
                if self._closed.is_set():
                    return
            self._put(EtcdError(Trouble.UNREACHABLE, f"{self._client.endpoint}: {_ENDED}"))
        except grpc.RpcError as error:
            self._put(self._client.translate(error))

    def _put(self, arrival: Arrival) -> None:
        while not self._closed.is_set():
            try:
                self._queue.put(arrival, timeout=0.2)
            except queue.Full:
                continue
            return

    def get(self, seconds: float) -> Arrival | None:
        """What arrived next; None after `seconds` of nothing."""
        try:
            return self._queue.get(timeout=seconds)
        except queue.Empty:
            return None

    def probe(self, key: bytes, timeout: float) -> None:
        """Reads one key; its response or EtcdError arrives in the queue."""
        self._client.probe(key, timeout, self._probed)

    def _probed(self, future: grpc.Future[etcdrpc.RangeResponse]) -> None:
        try:
            self._put(future.result())
        except grpc.RpcError as error:
            self._put(self._client.translate(error))

    def close(self) -> None:
        """Ends the watch."""
        self._closed.set()
        self._call.cancel()
