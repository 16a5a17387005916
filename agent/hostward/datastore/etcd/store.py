"""The command line's store in etcd: documents under Calico's keys, written by transactions (`statements.md` A.7).

Connects at the first request, to the first endpoint that answers and has a leader. Any thread.
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from etcd3 import etcdrpc

from hostward.datastore.connection import Connection
from hostward.datastore.encode import stored_form, to_json
from hostward.datastore.etcd.client import Client
from hostward.datastore.etcd.lease import Fence
from hostward.datastore.etcd.link import Link
from hostward.datastore.etcd.pages import PAGE, pages
from hostward.datastore.store import AlreadyExistsError, BrokenError, ConflictError, Document, FencedError, Found, NotFoundError
from hostward.model import keys
from hostward.model.keys import ResourceKey


class EtcdStore:
    """A store.Store in etcd. `fence`: under which leadership it writes; None from it: it may not write now (`lease`)."""

    def __init__(self, connection: Connection, *, page: int = PAGE, fence: Callable[[], Fence | None] | None = None) -> None:
        self._link, self._page, self._fence = Link(connection), page, fence

    def get(self, key: ResourceKey) -> Found:
        """The resource under exactly this key; NotFoundError, and BrokenError for a value that is no JSON object."""
        path = keys.path(key).encode()
        response = self._link.ask(lambda client: client.range(etcdrpc.RangeRequest(key=path)), repeatable=True)
        if not response.kvs:
            raise _missing(key)
        document = _document(response.kvs[0].value)
        if document is None:
            raise BrokenError(key, response.kvs[0].mod_revision)
        return Found(key, document, response.kvs[0].mod_revision)

    def list(self, kind: str, namespace: str = "") -> tuple[int, list[Found]]:
        """All resources of a kind (in a namespace), sorted by key, in pages at one revision; broken values are left out."""
        prefix = keys.prefix(kind) + (f"{namespace}/" if namespace else "")

        def read(client: Client) -> list[etcdrpc.RangeResponse]:
            return list(pages(client, prefix.encode(), page=self._page))

        responses = self._link.ask(read, repeatable=True)
        found = []
        for kv in (kv for response in responses for kv in response.kvs):
            key = keys.parse(kv.key.decode("utf-8", "backslashreplace"))
            document = _document(kv.value)
            if key is not None and document is not None:
                found.append(Found(key, document, kv.mod_revision))
        return responses[0].header.revision, found

    def count(self) -> int:
        """How many keys there are, asked over all of them at once, as the agent's feed asks."""
        start = keys.ROOT.encode()
        request = etcdrpc.RangeRequest(key=start, range_end=start[:-1] + bytes([start[-1] + 1]), count_only=True)
        return int(self._link.ask(lambda client: client.range(request), repeatable=True).count)

    def create(self, key: ResourceKey, document: Mapping[str, Any]) -> int:
        """Writes a new resource, with a uid and a creation time unless it brings them; its revision. AlreadyExistsError."""
        form = stored_form(key, document)
        form["metadata"].setdefault("uid", str(uuid.uuid4()))
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        form["metadata"].setdefault("creationTimestamp", now)
        path = keys.path(key).encode()
        unused = etcdrpc.Compare(result=_EQUAL, target=_VERSION, key=path, version=0)
        response = self._write(unused, _put(path, form), path)
        if not response.succeeded:
            raise AlreadyExistsError(f"resource already exists: {key}")
        return response.header.revision

    def update(self, key: ResourceKey, document: Mapping[str, Any], revision: int) -> int:
        """Replaces a resource that still has `revision`; the new revision. ConflictError, NotFoundError."""
        path = keys.path(key).encode()
        response = self._write(_unchanged(path, revision), _put(path, stored_form(key, document)), path)
        _expect(response, key, revision)
        return response.header.revision

    def delete(self, key: ResourceKey, revision: int | None = None) -> None:
        """Removes a resource, if given only while it still has `revision`. ConflictError, NotFoundError."""
        path = keys.path(key).encode()
        removal = etcdrpc.RequestOp(request_delete_range=etcdrpc.DeleteRangeRequest(key=path, prev_kv=True))
        compare = None if revision is None else _unchanged(path, revision)
        response = self._write(compare, removal, path)
        if revision is not None:
            _expect(response, key, revision)
        elif not response.responses[0].response_delete_range.deleted:
            raise _missing(key)

    def peers(self) -> tuple[tuple[str, int], ...]:
        """Addresses and ports of the endpoints."""
        return self._link.peers()

    def close(self) -> None:
        """Lets go of the connection; another request makes a new one."""
        self._link.close()

    def _write(self, compare: etcdrpc.Compare | None, operation: etcdrpc.RequestOp, path: bytes) -> etcdrpc.TxnResponse:
        fence = self._fence() if self._fence else None
        if self._fence and fence is None:
            raise FencedError("this process doesn't lead, and so doesn't write")
        compares = [one for one in (compare, fence.compare() if fence else None) if one]
        looked_at = [path, *([fence.key] if fence else [])]
        looks = [etcdrpc.RequestOp(request_range=etcdrpc.RangeRequest(key=key)) for key in looked_at]
        request = etcdrpc.TxnRequest(compare=compares, success=[operation], failure=looks)
        response = self._link.ask(lambda client: client.transact(request), repeatable=False)
        if fence and not response.succeeded and not fence.holds(response.responses[1].response_range):
            raise FencedError("another process leads now: nothing is written")
        return response


_EQUAL = etcdrpc.Compare.EQUAL
_VERSION = etcdrpc.Compare.VERSION


def _unchanged(path: bytes, revision: int) -> etcdrpc.Compare:
    return etcdrpc.Compare(result=_EQUAL, target=etcdrpc.Compare.MOD, key=path, mod_revision=revision)


def _put(path: bytes, form: Mapping[str, Any]) -> etcdrpc.RequestOp:
    return etcdrpc.RequestOp(request_put=etcdrpc.PutRequest(key=path, value=to_json(form)))


def _expect(response: etcdrpc.TxnResponse, key: ResourceKey, revision: int) -> None:
    if response.succeeded:
        return
    kvs = response.responses[0].response_range.kvs
    if not kvs:
        raise _missing(key)
    raise ConflictError(f"update conflict: {key}: revision is {kvs[0].mod_revision}, not {revision}")


def _missing(key: ResourceKey) -> NotFoundError:
    return NotFoundError(f"resource does not exist: {key}")


def _document(value: bytes) -> Document | None:
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):  # ValueError: no JSON, no UTF-8, or a number of thousands of digits
        return None
    return document if isinstance(document, dict) else None
