"""What can go wrong with etcd, sorted by what to do about it, in words for the operator. Pure; any thread."""

from __future__ import annotations

import re
from enum import Enum, auto

import grpc

from hostward.datastore.store import StoreError


class Trouble(Enum):
    """What a failed request means for the one who sent it."""

    UNREACHABLE = auto()  # no answer; whether a write took place is unknown
    TOKEN = auto()  # authenticate again
    DENIED = auto()  # wrong password, or no right to the keys
    COMPACTED = auto()  # the history asked for is gone
    FUTURE = auto()  # the revision asked for is yet to come: the store went back
    TOO_LARGE = auto()  # the answer is larger than we accept
    REFUSED = auto()  # anything else that etcd says no to


class EtcdError(StoreError):
    """A request failed; `trouble` says how."""

    def __init__(self, trouble: Trouble, text: str) -> None:
        super().__init__(text)
        self.trouble = trouble


_BY_TEXT = (
    ("has been compacted", Trouble.COMPACTED),
    ("future revision", Trouble.FUTURE),
    ("invalid auth token", Trouble.TOKEN),
    ("revision of auth store is old", Trouble.TOKEN),
    ("user name is empty", Trouble.DENIED),
    ("authentication failed", Trouble.DENIED),
    ("permission denied", Trouble.DENIED),
    ("Received message larger", Trouble.TOO_LARGE),
)
_EXPLAINED = (
    (
        "user name is empty",
        "authentication: etcd wants a user and password (ETCD_USERNAME and ETCD_PASSWORD, or etcdUsername …)",
    ),
    ("authentication failed", "authentication: etcd refuses this user name or password"),
    ("permission denied", "permission denied: the etcd user may not read or write these keys"),
    (
        "database space exceeded",
        "etcd is out of space (alarm NOSPACE) and refuses writes until it's compacted, defragmented and disarmed",
    ),
    ("Socket closed", "the connection was lost"),
    ("no leader", "the etcd cluster has no leader (quorum lost?)"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "TLS handshake failed: the server's certificate isn't signed by the given CA (ETCD_CA_CERT_FILE, or etcdCACertFile …; "
        "where none is given, a public one) or isn't for this name",
    ),
    ("Hostname Verification Check failed", "TLS handshake failed: the server's certificate isn't for this name"),
    ("Peer name", "TLS handshake failed: the server's certificate isn't for this name"),
    ("WRONG_VERSION_NUMBER", "TLS handshake failed: the server doesn't speak TLS; is http:// meant?"),
    (
        "certificate required",
        "TLS: the server wants a client certificate (ETCD_CERT_FILE and ETCD_KEY_FILE, or etcdCertFile …)",
    ),
    (
        "CERTIFICATE_REQUIRED",
        "TLS: the server wants a client certificate (ETCD_CERT_FILE and ETCD_KEY_FILE, or etcdCertFile …)",
    ),
    ("alert bad certificate", "TLS: the server refuses our client certificate"),
    ("BAD_CERTIFICATE", "TLS: the server refuses our client certificate"),
)
_REASON = re.compile(
    r"(?:connect|Failed to connect to remote host): (?:getsockopt\(SO_ERROR\): )?([^();]+)"
    r"|connect failed: addr: \S+ error: ([^();]+)|(Ssl handshake failed[^;]*)|(Timeout occurred[^;]*)"
)


def explain(details: str) -> str:
    """etcd's or gRPC's own words, or better ones."""
    for needle, text in _EXPLAINED:
        if needle in details:
            return text
    if found := _REASON.search(details):
        words = str(next(filter(None, found.groups())))
        return words.strip().replace("Ssl handshake failed", "TLS handshake failed")
    return details.removeprefix("etcdserver: ").strip() or "no reason given"


_HUNG_UP = ("Socket closed", "Connection reset", "Unwrap failed", "Handshake read failed", "Endpoint closing", "SETTINGS frame")


def hung_up(error: grpc.RpcError) -> bool:
    """Whether the server closed the connection without saying why; servers do that to clients they can't talk with."""
    return any(needle in (error.details() or "") for needle in _HUNG_UP)


def translate(error: grpc.RpcError, endpoint: str) -> EtcdError:
    """A gRPC error as ours; `endpoint` is named in the text."""
    code, details = error.code(), error.details() or ""
    trouble = next((trouble for needle, trouble in _BY_TEXT if needle in details), None)
    if trouble is None:
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
            trouble = Trouble.UNREACHABLE
        else:
            trouble = Trouble.TOKEN if code is grpc.StatusCode.UNAUTHENTICATED else Trouble.REFUSED
    text = "no answer within the deadline" if code is grpc.StatusCode.DEADLINE_EXCEEDED else explain(details)
    return EtcdError(trouble, f"{endpoint}: {text}")
