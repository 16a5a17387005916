"""etcd's generated messages and stubs, as far as they are used."""

from collections.abc import Sequence

import grpc
from google.protobuf.message import Message

class ResponseHeader(Message):
    cluster_id: int
    member_id: int
    revision: int
    raft_term: int

class KeyValue(Message):
    key: bytes
    create_revision: int
    mod_revision: int
    version: int
    value: bytes
    lease: int

class Event(Message):
    type: int
    kv: KeyValue

class RangeRequest(Message):
    def __init__(
        self,
        *,
        key: bytes = ...,
        range_end: bytes = ...,
        limit: int = ...,
        revision: int = ...,
        serializable: bool = ...,
        keys_only: bool = ...,
        count_only: bool = ...,
    ) -> None: ...

class RangeResponse(Message):
    header: ResponseHeader
    kvs: Sequence[KeyValue]
    more: bool
    count: int

class PutRequest(Message):
    def __init__(self, *, key: bytes = ..., value: bytes = ..., lease: int = ...) -> None: ...

class DeleteRangeRequest(Message):
    def __init__(self, *, key: bytes = ..., prev_kv: bool = ...) -> None: ...

class DeleteRangeResponse(Message):
    header: ResponseHeader
    deleted: int

class RequestOp(Message):
    def __init__(
        self,
        *,
        request_range: RangeRequest = ...,
        request_put: PutRequest = ...,
        request_delete_range: DeleteRangeRequest = ...,
    ) -> None: ...

class ResponseOp(Message):
    response_range: RangeResponse
    response_delete_range: DeleteRangeResponse

class Compare(Message):
    EQUAL: int
    VERSION: int
    CREATE: int
    MOD: int
    def __init__(
        self,
        *,
        result: int = ...,
        target: int = ...,
        key: bytes = ...,
        version: int = ...,
        create_revision: int = ...,
        mod_revision: int = ...,
    ) -> None: ...

class TxnRequest(Message):
    def __init__(
        self, *, compare: Sequence[Compare] = ..., success: Sequence[RequestOp] = ..., failure: Sequence[RequestOp] = ...
    ) -> None: ...

class TxnResponse(Message):
    header: ResponseHeader
    succeeded: bool
    responses: Sequence[ResponseOp]

class WatchCreateRequest(Message):
    def __init__(
        self,
        *,
        key: bytes = ...,
        range_end: bytes = ...,
        start_revision: int = ...,
        progress_notify: bool = ...,
        prev_kv: bool = ...,
    ) -> None: ...

class WatchRequest(Message):
    def __init__(self, *, create_request: WatchCreateRequest = ...) -> None: ...

class WatchResponse(Message):
    header: ResponseHeader
    watch_id: int
    created: bool
    canceled: bool
    compact_revision: int
    cancel_reason: str
    events: Sequence[Event]

class StatusRequest(Message):
    def __init__(self) -> None: ...

class StatusResponse(Message):
    header: ResponseHeader
    version: str
    leader: int

class AuthenticateRequest(Message):
    def __init__(self, *, name: str = ..., password: str = ...) -> None: ...

class AuthenticateResponse(Message):
    token: str

class PutResponse(Message):
    header: ResponseHeader

class LeaseGrantRequest(Message):
    def __init__(self, *, TTL: int = ..., ID: int = ...) -> None: ...

class LeaseGrantResponse(Message):
    ID: int
    TTL: int

class LeaseKeepAliveRequest(Message):
    def __init__(self, *, ID: int = ...) -> None: ...

class LeaseKeepAliveResponse(Message):
    ID: int
    TTL: int

class LeaseRevokeRequest(Message):
    def __init__(self, *, ID: int = ...) -> None: ...

class LeaseRevokeResponse(Message):
    header: ResponseHeader

class LeaseStub:
    LeaseGrant: grpc.UnaryUnaryMultiCallable[LeaseGrantRequest, LeaseGrantResponse]
    LeaseKeepAlive: grpc.StreamStreamMultiCallable[LeaseKeepAliveRequest, LeaseKeepAliveResponse]
    LeaseRevoke: grpc.UnaryUnaryMultiCallable[LeaseRevokeRequest, LeaseRevokeResponse]
    def __init__(self, channel: grpc.Channel) -> None: ...

class KVStub:
    Put: grpc.UnaryUnaryMultiCallable[PutRequest, PutResponse]
    Range: grpc.UnaryUnaryMultiCallable[RangeRequest, RangeResponse]
    Txn: grpc.UnaryUnaryMultiCallable[TxnRequest, TxnResponse]
    def __init__(self, channel: grpc.Channel) -> None: ...

class MaintenanceStub:
    Status: grpc.UnaryUnaryMultiCallable[StatusRequest, StatusResponse]
    def __init__(self, channel: grpc.Channel) -> None: ...

class AuthStub:
    Authenticate: grpc.UnaryUnaryMultiCallable[AuthenticateRequest, AuthenticateResponse]
    def __init__(self, channel: grpc.Channel) -> None: ...

class WatchStub:
    Watch: grpc.StreamStreamMultiCallable[WatchRequest, WatchResponse]
    def __init__(self, channel: grpc.Channel) -> None: ...
