"""The HTTP servers, over loopback: answers, limits, TLS, and that neither clients nor addresses can stop them."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import msgspec
import pytest

from hostward.model.settings import BUILT_IN
from hostward.report.endpoints import health_server, metrics_route, metrics_server
from hostward.report.health import HealthBoard
from hostward.report.http import Response
from hostward.report.metrics import Metrics
from hostward.report.server import Server
from hostward.report.tls import TlsError, TlsFiles

HOST = "127.0.0.1"
BIG = b"x" * 3_000_000


def broken() -> Response:
    raise RuntimeError("a bug")


ROUTES = {"/a": lambda: Response(HTTPStatus.OK, b"answer"), "/big": lambda: Response(HTTPStatus.OK, BIG), "/bug": broken}


@pytest.fixture
def serve() -> Iterator[object]:
    servers = []

    def start(**options: object) -> Server:
        server = Server("test", HOST, 0, ROUTES, **options)
        servers.append(server)
        server.start()
        assert server.wait(10)
        return server

    yield start
    for server in servers:
        server.stop()
        assert not server._thread.is_alive()


def get(server: Server, path: str, method: str = "GET", context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    host, port = server.address
    if context is None:
        connection = http.client.HTTPConnection(host, port, timeout=10)
    else:
        connection = http.client.HTTPSConnection(host, port, timeout=10, context=context)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def talk(server: Server, data: bytes) -> bytes:
    """Everything the server answers to these bytes."""
    with socket.create_connection(server.address, timeout=10) as client:
        client.sendall(data)
        got = b""
        try:
            while chunk := client.recv(65536):
                got += chunk
        except ConnectionResetError:
            pass
        return got


def test_answers(serve):
    server = serve()
    assert get(server, "/a") == (200, b"answer")
    assert get(server, "/a?x=1") == (200, b"answer")
    assert get(server, "/big") == (200, BIG)
    assert get(server, "/a", "HEAD") == (200, b"")
    assert get(server, "/b")[0] == 404
    assert get(server, "/a", "POST")[0] == 405
    assert get(server, "/bug")[0] == 500
    assert get(server, "/a") == (200, b"answer")


def test_odd_requests(serve):
    server = serve()
    assert talk(server, b"GET /a HTTP/1.0\n\n").startswith(b"HTTP/1.1 200 ")
    assert talk(server, b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert talk(server, b"GET /a\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert talk(server, b"\xff\x00 \xfe HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 405 ")
    assert talk(server, b"GET /a HTTP/1.1\r\nX: " + b"x" * 9000).startswith(b"HTTP/1.1 431 ")
    assert get(server, "/a") == (200, b"answer")


def test_a_million_bytes_of_headers_are_refused(serve):
    server = serve()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # cut off while it still sent
        assert talk(server, b"GET /a HTTP/1.1\r\n" + b"X: y\r\n" * 200_000)[:12] in (b"", b"HTTP/1.1 431")
    assert get(server, "/a") == (200, b"answer")


def test_idle_connections_do_not_keep_a_probe_out(serve):
    server = serve(max_connections=8)
    before = threading.active_count()
    idle = [socket.create_connection(server.address, timeout=10) for _ in range(100)]
    try:
        for _ in range(5):
            assert get(server, "/a") == (200, b"answer")
        assert threading.active_count() == before
        assert len(server._connections) <= 8
    finally:
        for client in idle:
            client.close()


def test_a_request_that_never_ends_is_cut_off(serve):
    server = serve(deadline=1.0)
    assert talk(server, b"GET /a HTT") == b""


def test_a_reader_that_never_reads_is_cut_off_and_stops_nobody(serve):
    server = serve(deadline=1.0)
    with socket.create_connection(server.address, timeout=10) as client:
        client.sendall(b"GET /big HTTP/1.1\r\n\r\n")
        assert get(server, "/a") == (200, b"answer")
        assert settled(lambda: not server._connections)


def test_a_connection_that_is_pushed_out_in_the_moment_it_asks(serve):
    gate, waiting = threading.Event(), threading.Event()
    gate.set()

    def clock() -> float:
        if not gate.is_set():
            waiting.set()
            gate.wait(10)
        return time.monotonic()

    server = serve(max_connections=1, clock=clock)
    with socket.create_connection(server.address, timeout=10) as first:
        assert settled(lambda: server._connections)
        gate.clear()
        assert waiting.wait(10)
        # Both become readable while the server's thread is held: the newcomer first, then the one that it pushes out.
        with socket.create_connection(server.address, timeout=10):
            first.sendall(b"GET /a HTTP/1.1\r\n\r\n")
            gate.set()
            assert closed(first)
        assert get(server, "/a") == (200, b"answer")


def closed(client: socket.socket) -> bool:
    """Whether the other side has ended this connection."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def settled(condition: object) -> bool:
    """Whether something comes true within ten seconds."""
    return any(condition() or time.sleep(0.02) for _ in range(500))


def test_an_address_in_use_is_tried_again():
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        server = Server("test", HOST, port, ROUTES, retry=(0.02, 0.05))
        server.start()
        assert not server.wait(0.2)
    assert server.wait(10)
    assert get(server, "/a") == (200, b"answer")
    server.stop()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_can_not_be_had_is_no_error_and_can_be_stopped(host):
    server = Server("test", host, 0, ROUTES, retry=(30, 30))
    server.start()
    assert not server.wait(0.05)
    server.stop()
    assert not server._thread.is_alive()


def test_ipv6():
    server = Server("test", "::1", 0, ROUTES)
    server.start()
    assert server.wait(10)
    assert get(server, "/a") == (200, b"answer")
    server.stop()


# --- TLS ---------------------------------------------------------------------------------------------------------------
def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca, server and client signed by it, and a stranger that signed itself; NAME.pem and NAME.key."""
    folder = tmp_path_factory.mktemp("certs")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for name in ("ca", "stranger"):
        openssl(
            "req", "-x509", *curve, "-subj", f"/CN={name}", "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem"
        )
    for name in ("server", "server2", "client"):
        openssl(
            *("req", "-x509", *curve, "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-addext", "basicConstraints=CA:FALSE", "-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key"),
            *("-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem"),
        )
    return folder


def client_context(certs: Path, name: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certs / "ca.pem"))
    if name:
        context.load_cert_chain(certs / f"{name}.pem", certs / f"{name}.key")
    return context


def files(certs: Path, ca: str = "", **options: str) -> TlsFiles:
    return TlsFiles(str(certs / "server.pem"), str(certs / "server.key"), str(certs / ca) if ca else "", **options)


def test_tls_without_client_certificates(serve, certs):
    server = serve(tls=files(certs))
    assert get(server, "/big", context=client_context(certs)) == (200, BIG)
    assert talk(server, b"GET /a HTTP/1.1\r\n\r\n")[:4] != b"HTTP"
    with pytest.raises(ssl.SSLError):
        get(server, "/a", context=ssl.create_default_context())


def test_client_certificates(serve, certs):
    server = serve(tls=files(certs, ca="ca.pem"))
    assert get(server, "/a", context=client_context(certs, "client")) == (200, b"answer")
    for name in (None, "stranger"):
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            get(server, "/a", context=client_context(certs, name))
    given = serve(tls=files(certs, ca="ca.pem", client_auth="VerifyClientCertIfGiven"))
    assert get(given, "/a", context=client_context(certs)) == (200, b"answer")


def test_idle_tls_connections_are_bounded_too(serve, certs):
    server = serve(tls=files(certs), max_connections=4, deadline=1.0)
    idle = [socket.create_connection(server.address, timeout=10) for _ in range(10)]
    assert get(server, "/a", context=client_context(certs)) == (200, b"answer")
    assert settled(lambda: not server._connections)
    for client in idle:
        client.close()


def test_renewed_certificates_are_used_and_broken_ones_are_not(serve, certs, tmp_path):
    for end in ("pem", "key"):
        shutil.copy(certs / f"server.{end}", tmp_path / f"live.{end}")
    server = serve(tls=TlsFiles(str(tmp_path / "live.pem"), str(tmp_path / "live.key")))

    def subject() -> str:
        with (
            socket.create_connection(server.address, timeout=10) as raw,
            client_context(certs).wrap_socket(raw, server_hostname=HOST) as client,
        ):
            return dict(pair[0] for pair in client.getpeercert()["subject"])["commonName"]

    assert subject() == "server"
    (tmp_path / "live.pem").write_text("half")
    assert subject() == "server"
    for end in ("pem", "key"):
        shutil.copy(certs / f"server2.{end}", tmp_path / f"live.{end}")
    assert subject() == "server2"


def test_tls_files_that_come_late(certs, tmp_path):
    server = Server("test", HOST, 0, ROUTES, tls=TlsFiles(str(tmp_path / "c"), str(tmp_path / "k")), retry=(0.02, 0.05))
    server.start()
    assert not server.wait(0.1)
    shutil.copy(certs / "server.key", tmp_path / "k")
    shutil.copy(certs / "server.pem", tmp_path / "c")
    assert server.wait(10)
    assert get(server, "/a", context=client_context(certs)) == (200, b"answer")
    server.stop()


def test_tls_errors_name_setting_and_file(certs, tmp_path):
    (tmp_path / "bad.pem").write_text("nonsense")
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    for tls, words in (
        (TlsFiles(str(tmp_path / "x"), str(certs / "server.key")), ("prometheusMetricsCertFile", "x")),
        (TlsFiles(str(certs / "server.pem"), str(certs / "client.key")), ("prometheusMetricsKeyFile", "client.key")),
        (TlsFiles(str(tmp_path / "pipe"), str(tmp_path / "pipe")), ("prometheusMetricsCertFile", "pipe")),
        (TlsFiles(str(certs / "server.pem"), ""), ("prometheusMetricsKeyFile",)),
        (
            TlsFiles(str(certs / "server.pem"), str(certs / "server.key"), str(tmp_path / "bad.pem")),
            ("prometheusMetricsCAFile", "bad.pem"),
        ),
    ):
        with pytest.raises(TlsError) as caught:
            tls.context()
        assert all(word in str(caught.value) for word in words)


# --- what is served ----------------------------------------------------------------------------------------------------
def free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return probe.getsockname()[1]


def test_health_over_http():
    board = HealthBoard(time.monotonic)
    board.register("engine", live=True, ready=True)
    server = health_server(msgspec.structs.replace(BUILT_IN, health_port=free_port()), board)
    server.start()
    assert server.wait(10)
    assert get(server, "/liveness")[0] == 200
    status, body = get(server, "/readiness")
    assert status == 503
    assert b"engine" in body
    board.report("engine", detail="applied 7")
    status, body = get(server, "/readiness")
    assert status == 200
    assert b"applied 7" in body
    server.stop()


def test_metrics_over_http():
    metrics = Metrics(version="1", node="w1")
    metrics.applied(41)
    server = metrics_server(msgspec.structs.replace(BUILT_IN, prometheus_metrics_port=free_port()), metrics)
    server.start()
    assert server.wait(10)
    status, body = get(server, "/metrics")
    assert status == 200
    assert b"\nhostward_applied_revision 41.0\n" in body
    server.stop()


def test_servers_can_be_switched_off():
    off = msgspec.structs.replace(BUILT_IN, health_enabled=False, prometheus_metrics_enabled=False)
    assert health_server(off, HealthBoard(time.monotonic)) is None
    assert metrics_server(off, Metrics(version="1", node="w1")) is None


def test_half_of_tls_never_means_plain_http():
    half = msgspec.structs.replace(BUILT_IN, prometheus_metrics_ca_file="/ca.pem", prometheus_metrics_port=free_port())
    server = metrics_server(half, Metrics(version="1", node="w1"))
    server.start()
    assert not server.wait(0.1)
    server.stop()


def test_a_flood_of_scrapes_takes_a_tenth_of_a_core():
    now = 0.0
    made = 0

    def text() -> bytes:
        nonlocal now, made
        made += 1
        now += 0.01
        return b"%d" % made

    route = metrics_route(text, lambda: now, lambda: now)
    assert route().body == b"1"
    now += 0.09
    assert route().body == b"1"
    now += 0.02
    assert route().body == b"2"
