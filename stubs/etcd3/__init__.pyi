"""The part of python-etcd3 0.12.0 that the etcd client uses; its own Watcher and exceptions are not among it."""

from collections.abc import Sequence

import grpc
from etcd3 import etcdrpc

class Etcd3Client:
    channel: grpc.Channel
    kvstub: etcdrpc.KVStub
    maintenancestub: etcdrpc.MaintenanceStub
    def __init__(
        self,
        host: str = ...,
        port: int = ...,
        ca_cert: str | None = ...,
        cert_key: str | None = ...,
        cert_cert: str | None = ...,
        timeout: float | None = ...,
        user: str | None = ...,
        password: str | None = ...,
        grpc_options: Sequence[tuple[str, object]] | None = ...,
    ) -> None: ...
    def close(self) -> None: ...
    def _get_secure_creds(
        self, ca_cert: str, cert_key: str | None = ..., cert_cert: str | None = ...
    ) -> grpc.ChannelCredentials: ...
