"""Each server of etcd asked by itself: why it can't be used, what its clock says, and what our user may read."""

from __future__ import annotations

import http.server
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hostward.cli import checkups
from hostward.datastore import checkup, connection
from hostward.datastore.connection import from_environment
from hostward.datastore.store import StoreError
from hostward.model.keys import ROOT
from hostward.report.certificates import validity
from tests.lab.certificates import authority, issue
from tests.lab.etcd import Etcd, Tls, free_ports

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    home = tmp_path_factory.mktemp("tls")
    ca = authority(home, "ca")
    return Tls(ca, *issue(home, ca, "server"), *issue(home, ca, "client"))


@pytest.fixture(scope="module")
def secure(tls: Tls) -> Iterator[Etcd]:
    with Etcd(tls=tls) as server:
        server.put(f"{ROOT}tiers/x", "1")
        server.put(f"{ROOT}profiles/x", "1")
        yield server


@pytest.fixture(scope="module")
def plain() -> Iterator[Etcd]:
    with Etcd() as server:
        yield server


def ask(environ: dict[str, str]) -> checkup.Answer:
    (answer,) = checkup.ask_each(from_environment(environ))
    return answer


class Page(http.server.BaseHTTPRequestHandler):
    """Says a time of its own."""

    skew = timedelta()

    def do_GET(self) -> None:  # the library's name
        self.send_response_only(200)
        moment = datetime.now(UTC) - self.skew
        self.send_header("Date", moment.strftime("%a, %d %b %Y %H:%M:%S GMT"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Tests have no log."""


@contextmanager
def web(skew: timedelta = timedelta(), cert: Path | None = None, key: Path | None = None) -> Iterator[str]:
    """A web server that is so much behind; with TLS when it has a certificate. Its URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Skewed", (Page,), {"skew": skew}))
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that hangs up is what is tested
    if cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"{'https' if cert else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_it_answers(secure: Etcd, plain: Etcd) -> None:
    for server in (secure, plain):
        answer = ask(server.env)
        assert (answer.endpoint, answer.trouble) == (server.url, "")
        assert answer.skew is not None
        assert abs(answer.skew) < 60


def test_each_server_by_itself(plain: Etcd) -> None:
    (port,) = free_ports(1)
    good, bad = checkup.ask_each(from_environment({"ETCD_ENDPOINTS": f"{plain.url},http://127.0.0.1:{port}"}))
    assert (good.trouble, bad.trouble) == ("", "Connection refused")
    assert bad.do


def test_clocks_that_differ() -> None:
    for skew in (timedelta(hours=1), timedelta(hours=-1)):
        with web(skew) as url:
            found = ask({"ETCD_ENDPOINTS": url}).skew
        assert found is not None
        assert abs(found - skew.total_seconds()) < 60


def test_a_name_that_nobody_has() -> None:
    assert "host name not found" in ask({"ETCD_ENDPOINTS": "http://nosuch.invalid:2379"}).trouble


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        assert "no answer within 0.2 s" in ask({"ETCD_ENDPOINTS": f"http://127.0.0.1:{silent.getsockname()[1]}"}).trouble


def test_http_and_https_mixed_up(secure: Etcd, plain: Etcd) -> None:
    told = ask({"ETCD_ENDPOINTS": secure.url.replace("https", "http")})
    assert told.trouble in ("the server wants TLS", "the server hung up") or "https" in told.do, told
    told = ask({"ETCD_ENDPOINTS": plain.url.replace("http", "https")})
    assert (told.trouble, "http://" in told.do) in (("the server doesn't speak TLS", True), ("the server hung up", True))


def test_a_wrong_authority(secure: Etcd, tmp_path: Path) -> None:
    told = ask(secure.env | {"ETCD_CA_CERT_FILE": str(authority(tmp_path, "other"))})
    assert "isn't signed by the CA" in told.trouble


def test_no_client_certificate(secure: Etcd) -> None:
    told = ask({name: value for name, value in secure.env.items() if name not in ("ETCD_CERT_FILE", "ETCD_KEY_FILE")})
    assert "client certificate" in told.trouble
    assert "ETCD_CERT_FILE" in told.do


def test_a_client_certificate_that_nobody_trusts(secure: Etcd, tmp_path: Path) -> None:
    cert, key = issue(tmp_path, authority(tmp_path, "other"), "stranger")
    told = ask(secure.env | {"ETCD_CERT_FILE": str(cert), "ETCD_KEY_FILE": str(key)})
    assert "refuses our client certificate" in told.trouble


def test_a_certificate_for_another_name(tls: Tls, tmp_path: Path) -> None:
    with web(cert=(pair := issue(tmp_path, tls.ca, "elsewhere", "DNS:elsewhere.invalid"))[0], key=pair[1]) as url:
        assert "isn't for this" in ask({"ETCD_ENDPOINTS": url, "ETCD_CA_CERT_FILE": str(tls.ca)}).trouble


def expired(home: Path, ca: Path) -> tuple[Path, Path]:
    cert, key = issue(home, ca, "expired")
    command = [
        "openssl",
        "x509",
        "-req",
        "-in",
        str(home / "expired.csr"),
        "-CA",
        str(ca),
        "-CAkey",
        str(ca.with_suffix(".key")),
    ]
    command += ["-CAcreateserial", "-days", "-1", "-extfile", str(home / "ext"), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return cert, key


def test_a_certificate_that_has_expired(tls: Tls, tmp_path: Path) -> None:
    cert, key = expired(tmp_path, tls.ca)
    with web(cert=cert, key=key) as url:
        assert "has expired" in ask({"ETCD_ENDPOINTS": url, "ETCD_CA_CERT_FILE": str(tls.ca)}).trouble
    _, ends = validity(cert.read_bytes())
    assert ends < datetime.now(UTC)


def test_validity_as_openssl_says_it(tls: Tls) -> None:
    for path in (tls.ca, tls.server_cert):
        begins, ends = validity(path.read_bytes())
        said = subprocess.run(
            ["openssl", "x509", "-in", str(path), "-noout", "-dates"], check=True, capture_output=True, text=True, timeout=60
        ).stdout
        assert f"notBefore={begins:%b} {begins.day:2d} {begins:%H:%M:%S %Y} GMT" in said
        assert f"notAfter={ends:%b} {ends.day:2d} {ends:%H:%M:%S %Y} GMT" in said


def test_what_may_be_read(secure: Etcd) -> None:
    assert checkup.count_resources(from_environment(secure.env)) == 2


def test_rights(tmp_path: Path) -> None:
    with Etcd() as server:
        for words in (
            ["user", "add", "root:r"], ["user", "grant-role", "root", "root"], ["role", "add", "some"],
            ["role", "grant-permission", "--prefix=true", "some", "read", f"{ROOT}tiers/"],
            ["role", "add", "all"], ["role", "grant-permission", "--prefix=true", "all", "read", "/calico/resources/"],
            ["user", "add", "few:f"], ["user", "grant-role", "few", "some"],
            ["user", "add", "many:m"], ["user", "grant-role", "many", "all"], ["auth", "enable"],
        ):  # fmt: skip
            server.ctl(*words)
        environ = {"ETCD_ENDPOINTS": server.url, "ETCD_USERNAME": "few", "ETCD_PASSWORD": "f"}
        assert ask(environ).trouble == ""
        with pytest.raises(StoreError, match="permission denied"):
            checkup.count_resources(from_environment(environ))
        with pytest.raises(StoreError, match="refuses this user name or password"):
            checkup.count_resources(from_environment(environ | {"ETCD_PASSWORD": "x"}))
        assert checkup.count_resources(from_environment(environ | {"ETCD_USERNAME": "many", "ETCD_PASSWORD": "m"})) == 0


def test_a_server_that_resets_the_connection_before_tls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def reset() -> None:
            taken, _ = listening.accept()
            taken.recv(1)
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            taken.close()

        with ThreadPoolExecutor(1) as server:
            done = server.submit(reset)
            told = ask({"ETCD_ENDPOINTS": f"https://127.0.0.1:{port}"})
            done.result()
    assert told.trouble == "the server hung up"
    assert "http://" in told.do


def test_doctor_says_that_nobody_has_named_etcd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "DEFAULT_AUTHORITY", "127.0.0.1:1")
    nobody, somebody = checkups.etcd({}), checkups.etcd({"ETCD_ENDPOINTS": "http://127.0.0.1:1"})
    assert [(one.level, one.do[:13]) for one in (*nobody, *somebody)] == [("fail", "nothing says "), ("fail", "is etcd runni")]
