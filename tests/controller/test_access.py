"""Who asks which API server: a pod's surroundings, kubeconfig files, TLS; and lines and waits as values."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostward.kube.access import Access, Source, in_cluster
from hostward.kube.client import Client
from hostward.kube.errors import ApiError
from hostward.kube.kubeconfig import read_kubeconfig
from hostward.kube.lines import lines
from tests.lab.kubeapi import TOKEN, FakeApi, Fault

POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


# --- in a pod --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("environment", "override", "url"),
    [
        (POD, {}, "https://10.96.0.1:443"),
        (POD | {"KUBERNETES_SERVICE_HOST": "fd00::1"}, {}, "https://[fd00::1]:443"),
        (POD | {"KUBERNETES_SERVICE_HOST": "[fd00::1]"}, {}, "https://[fd00::1]:443"),
        (POD, {"host": "192.0.2.7", "port": 6443}, "https://192.0.2.7:6443"),
        ({}, {"host": "fd00::2"}, "https://[fd00::2]:443"),
    ],
)
def test_a_pod_knows_its_server(environment, override, url):
    access = in_cluster(environment, **override)
    assert str(access) == url
    assert (str(access.ca), str(access.token)) == (
        "service account: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
        "service account: /var/run/secrets/kubernetes.io/serviceaccount/token",
    )


@pytest.mark.parametrize(
    ("environment", "needle"),
    [({}, "KUBERNETES_SERVICE_HOST isn't set"), (POD | {"KUBERNETES_SERVICE_PORT": "tcp://1"}, "KUBERNETES_SERVICE_PORT")],
)
def test_no_pod(environment, needle):
    with pytest.raises(ApiError, match=needle) as caught:
        in_cluster(environment)
    assert caught.value.reason == "Settings"


# --- kubeconfig ------------------------------------------------------------------------------------------------------------
def config(cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example:6443/k8s/"} | (cluster or {})}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}, {"name": "y", "context": {"cluster": "c"}}],
        "current-context": "x",
    } | changed


def written(folder: Path, document: object) -> Path:
    file = folder / "config"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return file


def test_a_kubeconfig_with_files_and_inline_data(tmp_path):
    data = base64.b64encode(b"pem").decode()
    user = {"client-certificate": "u.pem", "client-key": "/etc/u.key", "client-key-data": data, "tokenFile": "t", "token": "no"}
    access = read_kubeconfig(written(tmp_path, config({"certificate-authority": "ca.pem", "tls-server-name": "name"}, user)))
    assert (str(access), access.verify, access.server_name) == ("https://api.example:6443/k8s", True, "name")
    assert access.ca == Source("certificate-authority", tmp_path / "ca.pem")
    assert access.cert == Source("client-certificate", tmp_path / "u.pem")
    assert access.key == Source("client-key-data", inline=b"pem"), "data win over a file"
    assert access.token == Source("tokenFile", tmp_path / "t"), "a file wins over a text"


def test_scalars_of_a_kubeconfig_stay_as_they_are_written(tmp_path):
    text = """
clusters: [{name: c, cluster: {server: 'https://[fd00::1]', insecure-skip-tls-verify: true}}]
users: [{name: 1, user: {token: 0123e4}}]
contexts: [{name: on, context: {cluster: c, user: 1}}]
current-context: on
"""
    access = read_kubeconfig(written(tmp_path, text))
    assert str(access) == "https://[fd00::1]:443"
    assert access.token == Source("token", inline=b"0123e4")
    assert not access.verify


def test_a_context_without_a_user(tmp_path):
    assert read_kubeconfig(written(tmp_path, config(user={"token": "t"})), "y").token is None


@pytest.mark.parametrize(
    ("document", "needle"),
    [
        (config(user={"exec": {"command": "aws"}}), "exec: credentials from a program"),
        (config(user={"auth-provider": {"name": "gcp"}}), "auth-provider: auth-provider isn't supported"),
        (config(user={"username": "u", "password": "secret"}), "username: a user name and password"),
        (config(user={"as": "root"}), "as: acting as somebody else"),
        (config({"proxy-url": "http://p"}), "proxy-url"),
        (config({"insecure-skip-tls-verify": True, "certificate-authority": "f"}), "contradicts certificate-authority"),
        (config({"insecure-skip-tls-verify": "true", "certificate-authority": "f"}), "contradicts certificate-authority"),
        (config({"certificate-authority-data": "%%secret%%"}), "certificate-authority-data: not base64"),
        (config({"server": "api.example"}), "server: must be https"),
        (config({"server": "https://u:secret@api.example"}), "server: must be https"),
        (config({"server": "https://api.example:99999"}), "server: not a URL"),
        (config(user={"client-certificate": "f"}), "client-certificate: goes only together"),
        (config(user={"token": ["secret"]}), "token: expected a text"),
        (config(**{"current-context": "z"}), "contexts: no context named 'z'"),
        (config(**{"current-context": ""}), "current-context: missing"),
        (config(users=[]), "users: no user named 'u'"),
        (config(clusters={"name": "c"}), "clusters: no cluster named 'c'"),
        (config(contexts=[7, {"name": "x"}]), "contexts.x: expected a mapping"),
        ("[]", "kubeconfig: expected a mapping"),
        ("users: [token: secret: secret", "not YAML, line 1"),
    ],
)
def test_a_kubeconfig_that_will_not_do(tmp_path, document, needle):
    file = written(tmp_path, document)
    with pytest.raises(ApiError) as caught:
        read_kubeconfig(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert needle in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None, "which would quote it"


def test_a_kubeconfig_that_is_not_there(tmp_path):
    with pytest.raises(ApiError, match="No such file"):
        read_kubeconfig(tmp_path / "none")


def test_secrets_are_not_shown():
    access = Access("h", 1, token=Source("token", inline=b"secret"), key=Source("k", inline=b"secret"))
    assert "secret" not in f"{access} {access!r}"


# --- TLS -------------------------------------------------------------------------------------------------------------------
def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`server` signed itself for 127.0.0.1, `stranger` for another name, `client` for clients; NAME.pem and NAME.key."""
    folder = tmp_path_factory.mktemp("certs")
    for name, names in (("server", "IP:127.0.0.1"), ("stranger", "DNS:elsewhere"), ("client", "DNS:client")):
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"),
            *("-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem"),
        )
    return folder


def tls_server(certs: Path, name: str, clients: str | None = None) -> FakeApi:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / f"{name}.pem", certs / f"{name}.key")
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certs / f"{clients}.pem")
    return FakeApi(tls=context)


@pytest.fixture
def api(certs: Path) -> Iterator[FakeApi]:
    with tls_server(certs, "server") as one:
        yield one


def secured(api: FakeApi, certs: Path, ca: str, **more: Any) -> Access:
    return Access("127.0.0.1", api.port, ca=Source("ca", certs / f"{ca}.pem"), token=Source("t", inline=TOKEN.encode()), **more)


def test_a_server_with_the_certificate_that_is_expected(api, certs):
    client = Client(secured(api, certs, "server"))
    assert client.get("/readyz") == b"ok"
    with client.stream("/api/v1/pods", {"watch": "true", "resourceVersion": "102", "timeoutSeconds": "1"}, 10) as pieces:
        assert list(pieces) == []


def test_a_server_with_another_certificate(api, certs):
    with pytest.raises(ApiError, match="TLS") as caught:
        Client(secured(api, certs, "stranger")).get("/readyz")
    assert caught.value.reason == "Tls"
    assert api.requests == [], "no token was sent"
    with pytest.raises(ApiError, match="TLS"):
        Client(Access("127.0.0.1", api.port)).get("/readyz")
    assert api.requests == []


def test_a_certificate_for_another_name(certs):
    with tls_server(certs, "stranger") as api:
        with pytest.raises(ApiError, match="TLS"):
            Client(secured(api, certs, "stranger")).get("/readyz")
        assert Client(secured(api, certs, "stranger", server_name="elsewhere")).get("/readyz") == b"ok"


def test_unverified_only_when_asked_for(api, certs):
    assert Client(Access("127.0.0.1", api.port, verify=False)).get("/readyz") == b"ok"


def test_a_client_certificate(certs):
    with tls_server(certs, "server", clients="client") as api:
        files = {kind: Source(kind, certs / f"client.{ending}") for kind, ending in (("cert", "pem"), ("key", "key"))}
        assert Client(secured(api, certs, "server", **files)).get("/readyz") == b"ok"
        with pytest.raises(ApiError):
            Client(secured(api, certs, "server")).get("/readyz")


def test_certificates_are_read_again(api, certs, tmp_path):
    """A new CA is used after a minute; streams that are open stay open."""
    now = [0.0]
    (tmp_path / "ca.pem").write_bytes((certs / "server.pem").read_bytes())
    client = Client(secured(api, tmp_path, "ca"), now=lambda: now[0])
    assert client.get("/readyz") == b"ok"
    (tmp_path / "ca.pem").write_bytes((certs / "stranger.pem").read_bytes())
    now[0] = 59.0
    assert client.get("/readyz") == b"ok"
    now[0] = 61.0
    with pytest.raises(ApiError, match="TLS"):
        client.get("/readyz")


@pytest.mark.parametrize(
    "content", [b"", b"nothing", b"\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_certificates(api, tmp_path, content):
    (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(ApiError, match="holds no certificate") as caught:
        Client(secured(api, tmp_path, "ca")).get("/readyz")
    assert caught.value.reason == "Credentials"


def test_a_pair_that_is_none(api, certs):
    wrong = {"cert": Source("client-certificate", certs / "client.pem"), "key": Source("client-key", certs / "server.key")}
    with pytest.raises(ApiError, match=r"client-certificate.*client-key.*can't be used together"):
        Client(secured(api, certs, "server", **wrong)).get("/readyz")


def test_a_token_goes_over_https_only():
    with pytest.raises(ApiError, match="only sent over https"):
        Client(Access("192.0.2.7", 80, tls=False, token=Source("t", inline=b"secret")))


def test_a_redirect_is_not_followed():
    with FakeApi() as other, FakeApi() as api:
        api.faults.append(Fault("any", 1, status=302, headers={"Location": f"{other.url}/readyz"}))
        with pytest.raises(ApiError, match="HTTP 302"):
            Client(Access("127.0.0.1", api.port, tls=False, token=Source("t", inline=TOKEN.encode()))).get("/readyz")
        assert other.requests == []


def test_a_client_that_is_closed_asks_no_more(api, certs):
    client = Client(secured(api, certs, "server"))
    assert client.get("/readyz") == b"ok"
    client.close()
    with pytest.raises(ApiError):
        client.get("/readyz")


def test_closing_ends_a_stream_over_tls(api, certs):
    client, ended = Client(secured(api, certs, "server")), threading.Event()

    def follow() -> None:
        with client.stream("/api/v1/pods", {"watch": "true", "resourceVersion": "102"}, 60) as pieces:
            begun.set()
            try:
                list(pieces)
            except ApiError:
                ended.set()

    begun = threading.Event()
    threading.Thread(target=follow, daemon=True).start()
    assert begun.wait(20)
    client.close()
    assert ended.wait(20)


# --- lines -----------------------------------------------------------------------------------------------------------------
@given(st.lists(st.binary(min_size=1).filter(lambda line: b"\n" not in line and line.strip())), st.data())
def test_lines_are_the_same_however_they_are_cut(whole, data):
    text = b"".join(line + b"\n" for line in whole)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert list(lines(pieces)) == whole


def test_a_line_comes_before_the_next_piece_is_asked_for():
    def pieces() -> Iterator[bytes]:
        yield b"a\nb"
        pytest.fail("asked too early")

    assert next(lines(pieces())) == b"a"


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 11 + b"\n"], [b"x" * 6, b"x" * 5 + b"\n"], [b"\n\n", b"x" * 10, b"x"]])
def test_a_line_has_a_bound(pieces):
    with pytest.raises(ApiError) as caught:
        list(lines(pieces, longest=10))
    assert caught.value.reason == "TooLarge"
    assert list(lines([b"x" * 10, b"\n"], longest=10)) == [b"x" * 10]
