"""A connection to etcd by its raw messages, for puts whose own cost is as small as can be."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from typing import Self

import hostward.datastore.etcd  # noqa: F401 # chooses protobuf's mode before etcd3 is imported
from benchmarks.documents import Stored

AT_ONCE = 100  # puts of one transaction; etcd allows 128


class Store:
    """Make it in the namespace that the server is reached from: gRPC's threads stay where they were started."""

    def __init__(self, address: str, port: int) -> None:
        import grpc  # noqa: PLC0415 # in that namespace
        from etcd3 import etcdrpc  # noqa: PLC0415 # the same

        self._rpc = etcdrpc
        self._channel = grpc.insecure_channel(f"{address}:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
        self._stub = etcdrpc.KVStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def put(self, key: str, value: bytes) -> int:
        """Writes a key; its revision."""
        return int(self._stub.Put(self._rpc.PutRequest(key=key.encode(), value=value), timeout=10).header.revision)

    def delete(self, key: str) -> int:
        """Deletes a key; the revision after it."""
        return int(self._stub.DeleteRange(self._rpc.DeleteRangeRequest(key=key.encode()), timeout=10).header.revision)

    def change(self, key: str, document: dict[str, object] | None) -> int:
        """Puts a document, or deletes it; the revision."""
        return self.delete(key) if document is None else self.put(key, json.dumps(document).encode())

    def fill(self, documents: Iterable[Stored]) -> int:
        """Writes many; the last revision."""
        rest, revision = iter(documents), 0
        while some := list(islice(rest, AT_ONCE)):
            puts = [
                self._rpc.RequestOp(request_put=self._rpc.PutRequest(key=key.encode(), value=json.dumps(document).encode()))
                for key, document in some
            ]
            revision = int(self._stub.Txn(self._rpc.TxnRequest(success=puts), timeout=30).header.revision)
        return revision
