"""Reading a prefix in pages, all at one revision. Knows nothing of documents; runs in the caller's thread."""

from __future__ import annotations

from collections.abc import Iterator

from etcd3 import etcdrpc

from hostward.datastore.etcd.client import Client
from hostward.datastore.etcd.errors import EtcdError, Trouble

PAGE = 1000


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all keys with a prefix. The prefix must not end in byte 255."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def pages(
    client: Client, prefix: bytes, *, page: int = PAGE, first_timeout: float | None = None
) -> Iterator[etcdrpc.RangeResponse]:
    """Responses that together hold every key under `prefix` at one revision: that of the first one's header.

    The first read is linearizable. `page` keys at a time, fewer if an answer would be too large. EtcdError; COMPACTED if the
    revision was compacted meanwhile: start again.
    """
    start, end, revision = prefix, prefix_end(prefix), 0
    while True:
        request = etcdrpc.RangeRequest(key=start, range_end=end, limit=page, revision=revision)
        try:
            response = client.range(request, first_timeout)
        except EtcdError as error:
            if error.trouble is not Trouble.TOO_LARGE or page == 1:
                raise
            page = max(1, page // 8)
            continue
        first_timeout = None
        revision = revision or response.header.revision
        yield response
        if not response.more or not response.kvs:
            return
        start = response.kvs[-1].key + b"\0"
