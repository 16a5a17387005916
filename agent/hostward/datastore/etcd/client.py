"""One channel to one etcd server: TLS, token, deadlines, and requests that a stop can interrupt.

Built on python-etcd3's client for channel and messages. Its watcher drops watches on errors and its calls hide why they failed
(statements.md libraries 5.3), so that requests go to its generated stubs. A client lives as long as its channel; any thread.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from typing import Final, TypeVar

import etcd3
import grpc
from etcd3 import etcdrpc
from google.protobuf.unknown_fields import UnknownFieldSet
from msgspec import Struct

from hostward.datastore.connection import Connection, Endpoint, Pem, SettingsError
from hostward.datastore.etcd.errors import EtcdError, Trouble, hung_up, translate

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

RECEIVE_LIMIT: Final = 64 << 20  # bytes of one answer; whoever asks for more asks again in smaller pages
_STOP_POLL: Final = 0.2  # seconds
_STATUS_ERRORS: Final = 8  # field of StatusResponse that etcd3's messages don't know yet: alarms, as text


class StoppedError(Exception):
    """The caller was told to stop while it waited."""


class _Material(Struct, frozen=True):
    """PEM texts of a TLS channel."""

    ca: bytes | None
    key: bytes | None
    cert: bytes | None


def _material(connection: Connection) -> _Material:
    """Reads certificates and key anew, and says what is wrong with them before gRPC fails without a reason."""
    texts: dict[str, bytes | None] = {}
    for pem, marker, what in (
        (connection.ca, b"-----BEGIN CERTIFICATE-----", "certificate"),
        (connection.cert, b"-----BEGIN CERTIFICATE-----", "certificate"),
        (connection.key, b"PRIVATE KEY-----", "private key"),
    ):
        if pem is not None:
            texts[pem.setting] = pem.read()
            if marker not in (texts[pem.setting] or b""):
                raise SettingsError(f"{pem.setting}: {pem.file or 'the inline text'}: holds no {what} in PEM form")
    if connection.cert and connection.key and connection.cert.file and connection.key.file:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(connection.cert.file, connection.key.file, "")
        except (ssl.SSLError, OSError) as error:
            both = f"{connection.cert.setting}: {connection.cert.file} and {connection.key.setting}: {connection.key.file}"
            raise SettingsError(f"{both}: can't be used together: {error}") from error

    def text(pem: Pem | None) -> bytes | None:
        return texts[pem.setting] if pem else None

    return _Material(text(connection.ca), text(connection.key), text(connection.cert))


class _Channel(etcd3.Etcd3Client):
    """etcd3's client over texts instead of files, and with the system's CAs where none is given."""

    def __init__(self, host: str, port: int, material: _Material | None, options: list[tuple[str, object]]) -> None:
        self._material = material
        super().__init__(host, port, ca_cert=None if material is None else "", grpc_options=options)

    def _get_secure_creds(
        self,
        ca_cert: str,  # noqa: ARG002 # etcd3's signature; the texts are in the material
        cert_key: str | None = None,  # noqa: ARG002 # the same
        cert_cert: str | None = None,  # noqa: ARG002 # the same
    ) -> grpc.ChannelCredentials:
        material = self._material or _Material(None, None, None)
        return grpc.ssl_channel_credentials(material.ca, material.key, material.cert)


class Client:
    """Requests to one server. Every one may raise EtcdError, or StoppedError once `stop` is set."""

    def __init__(self, connection: Connection, endpoint: Endpoint, address: str, stop: threading.Event | None = None) -> None:
        self.endpoint = endpoint
        self._connection, self._stop = connection, stop
        options: list[tuple[str, object]] = [
            ("grpc.max_receive_message_length", RECEIVE_LIMIT),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),  # or a new channel would inherit the old one's broken connection and backoff
            ("grpc.enable_http_proxy", 0),  # a proxy for web pages has no business between an agent and its datastore
            ("grpc.default_authority", f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host),
        ]
        material = None
        if endpoint.tls:
            material = _material(connection)
            options.append(("grpc.ssl_target_name_override", endpoint.host))  # we connect to an address, but check the name
        host = f"ipv6:[{address}]" if ":" in address else f"ipv4:{address}"
        self._channel = _Channel(host, endpoint.port, material, options)
        self._kv, self._maintenance = self._channel.kvstub, self._channel.maintenancestub
        self.leases = etcdrpc.LeaseStub(self._channel.channel)
        self._watch = etcdrpc.WatchStub(self._channel.channel)
        self._token: str | None = None
        self._answered = False

    def close(self) -> None:
        """Ends all requests and streams."""
        self._channel.close()

    def translate(self, error: grpc.RpcError) -> EtcdError:
        """A gRPC error of this server."""
        if self._answered or not hung_up(error):
            return translate(error, str(self.endpoint))
        if not self.endpoint.tls:
            guess = "the server hung up; does it want https:// ?"
        elif self._connection.cert is None:
            guess = "TLS handshake failed: the server hung up; does it want a client certificate, or not speak TLS here?"
        else:
            guess = "TLS handshake failed: the server hung up; does it accept this client certificate, and speak TLS here?"
        return EtcdError(Trouble.UNREACHABLE, f"{self.endpoint}: {guess}")

    def metadata(self, *, leader: bool = False) -> list[tuple[str, str]]:
        """Headers of a request; with `leader`, etcd ends a stream when its server loses the cluster."""
        token = [("token", self._token)] if self._token else []
        return token + [("hasleader", "true")] * leader

    def start(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        timeout: float,
        done: Callable[[grpc.Future[_Response]], None],
    ) -> None:
        """Sends a request; `done` is called from gRPC's thread."""
        method.future(request, timeout=timeout, metadata=self.metadata()).add_done_callback(done)

    def _call(
        self, method: grpc.UnaryUnaryMultiCallable[_Request, _Response], request: _Request, timeout: float | None = None
    ) -> _Response:
        finished = threading.Event()
        future = method.future(request, timeout=timeout or self._connection.timeout, metadata=self.metadata())
        future.add_done_callback(lambda _: finished.set())
        while not finished.wait(_STOP_POLL):
            if self._stop is not None and self._stop.is_set():
                future.cancel()
                raise StoppedError
        try:
            response = future.result()
        except grpc.RpcError as error:
            raise self.translate(error) from error
        self._answered = True
        return response

    def authenticate(self) -> None:
        """Gets a token, if a user is set; a store without authentication is fine too, as for Calico's own client."""
        if self._connection.username is None:
            return
        request = etcdrpc.AuthenticateRequest(name=self._connection.username, password=self._connection.password or "")
        stub = etcdrpc.AuthStub(self._channel.channel)
        self._token = None  # etcd refuses even this request if it carries a token that it has forgotten
        try:
            self._token = self._call(stub.Authenticate, request, self._connection.dial_timeout).token
        except EtcdError as error:
            if "authentication is not enabled" not in str(error):
                raise

    def range(self, request: etcdrpc.RangeRequest, timeout: float | None = None) -> etcdrpc.RangeResponse:
        """A read; linearizable unless the request says otherwise."""
        return self.call(self._kv.Range, request, timeout)

    def transact(self, request: etcdrpc.TxnRequest) -> etcdrpc.TxnResponse:
        """A transaction."""
        return self.call(self._kv.Txn, request)

    def call(
        self, method: grpc.UnaryUnaryMultiCallable[_Request, _Response], request: _Request, timeout: float | None = None
    ) -> _Response:
        """A request; one that etcd refused for its token was not carried out, and is sent again with a new one."""
        try:
            return self._call(method, request, timeout)
        except EtcdError as error:
            if error.trouble is not Trouble.TOKEN:
                raise
        self.authenticate()
        return self._call(method, request, timeout)

    def probe(self, key: bytes, timeout: float, done: Callable[[grpc.Future[etcdrpc.RangeResponse]], None]) -> None:
        """A linearizable one-key read without waiting for it."""
        self.start(self._kv.Range, etcdrpc.RangeRequest(key=key, keys_only=True), timeout, done)

    def status(self) -> tuple[bool, tuple[str, ...]]:
        """Whether the server sees a leader, and the alarms it raises (`NOSPACE`, `CORRUPT`). Needs no rights."""
        response = self._call(self._maintenance.Status, etcdrpc.StatusRequest(), self._connection.dial_timeout)
        unknown = UnknownFieldSet(response)
        fields = [unknown[index] for index in range(len(unknown))]
        texts = [bytes(one.data).decode("utf-8", "replace") for one in fields if one.field_number == _STATUS_ERRORS]
        alarms = [text.split("alarm:", 1)[1].split()[0] for text in texts if "alarm:" in text]
        return response.leader != 0, tuple(dict.fromkeys(alarms))

    def require_leader(self) -> None:
        """The first request of a command: EtcdError unless the server answers and belongs to a working cluster."""
        led, _ = self.status()
        if not led:
            raise EtcdError(Trouble.UNREACHABLE, f"{self.endpoint}: the etcd cluster has no leader (quorum lost?)")

    def watch(self, requests: object) -> grpc.StreamCall[etcdrpc.WatchResponse]:
        """A watch stream over an iterator of requests; its token is checked once, at its start."""
        return self._watch.Watch(requests, metadata=self.metadata(leader=True))  # type: ignore[arg-type] # an iterator, as said
