"""TLS with client certificates, user and password: what works, and what the operator is told when it doesn't."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hostward.datastore.connection import from_environment
from hostward.datastore.etcd.feed import EtcdFeed
from hostward.datastore.etcd.store import EtcdStore
from hostward.datastore.initialise import initialise
from hostward.datastore.store import StoreError
from hostward.model import keys
from hostward.model.keys import ROOT
from tests.datastore.recorder import running
from tests.lab.certificates import authority, issue
from tests.lab.etcd import Etcd, Tls

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    home = tmp_path_factory.mktemp("tls")
    ca = authority(home, "ca")
    return Tls(ca, *issue(home, ca, "server"), *issue(home, ca, "client"))


@pytest.fixture(scope="module")
def secure(tls: Tls) -> Iterator[Etcd]:
    with Etcd(tls=tls) as server:
        server.put(f"{ROOT}x", "1")
        yield server


def refusal(environ: dict[str, str]) -> str:
    """What a store says to the operator; the feed must say it too."""
    connection = from_environment(environ)
    store = EtcdStore(connection)
    with pytest.raises(StoreError) as told:
        store.list("Tier")
    store.close()
    with running(EtcdFeed(connection)) as heard:
        heard.wait(lambda: heard.losses)
    assert heard.losses[0] == str(told.value)
    return str(told.value)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_client_certificates_let_us_in(secure: Etcd, name: str) -> None:
    connection = from_environment(secure.env | {"ETCD_ENDPOINTS": f"https://{name}:{secure.port}"})
    with running(EtcdFeed(connection)) as heard:
        heard.wait_for(f"{ROOT}x", b"1")
    store = EtcdStore(connection)
    initialise(store)
    assert len(store.list("Tier")[1]) == 3
    store.close()


def test_a_wrong_authority_is_named(secure: Etcd, tmp_path: Path) -> None:
    other = authority(tmp_path, "other")
    assert "certificate isn't signed by the given CA" in refusal(secure.env | {"ETCD_CA_CERT_FILE": str(other)})


def test_a_missing_client_certificate_is_named(secure: Etcd) -> None:
    text = refusal({"ETCD_ENDPOINTS": secure.url, "ETCD_CA_CERT_FILE": secure.env["ETCD_CA_CERT_FILE"]})
    assert text.startswith(secure.url)
    assert "certificate" in text


def wait_until_it_listens(url: str) -> None:
    """Before that a store and a feed may be told different things."""
    address = urlsplit(url)
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((address.hostname or "", address.port or 0), 1).close()
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens at {url}"
            time.sleep(0.05)
        else:
            return


def test_a_certificate_for_another_name(tls: Tls, tmp_path: Path) -> None:
    cert, key = issue(tmp_path, tls.ca, "elsewhere", "DNS:elsewhere.invalid")
    # etcdctl asks for the same name, so that the server is started without waiting for it.
    server = Etcd(tls=Tls(tls.ca, cert, key, tls.client_cert, tls.client_key), start=False)
    try:
        server.launch()
        wait_until_it_listens(server.url)
        assert "certificate isn't" in refusal(server.env)
    finally:
        server.close()


def test_files_that_are_no_certificates(secure: Etcd, tmp_path: Path, tls: Tls) -> None:
    missing = refusal(secure.env | {"ETCD_CA_CERT_FILE": "/x/ca-*pem_file"})
    assert missing == (
        "ETCD_CA_CERT_FILE: /x/ca-*pem_file: no such file; this still is a placeholder, put the real name in its place"
    )
    garbage = tmp_path / "garbage"
    garbage.write_text("hello")
    assert (
        refusal(secure.env | {"ETCD_CERT_FILE": str(garbage)}) == f"ETCD_CERT_FILE: {garbage}: holds no certificate in PEM form"
    )
    assert (
        refusal(secure.env | {"ETCD_KEY_FILE": str(garbage)}) == f"ETCD_KEY_FILE: {garbage}: holds no private key in PEM form"
    )
    assert "can't be used together" in refusal(secure.env | {"ETCD_KEY_FILE": str(tls.server_key)})


def test_plain_and_tls_mixed_up(secure: Etcd) -> None:
    with Etcd() as plain:
        assert "TLS handshake failed" in refusal(secure.env | {"ETCD_ENDPOINTS": plain.url.replace("http:", "https:")})
    assert refusal({"ETCD_ENDPOINTS": secure.url.replace("https:", "http:")})


def test_renewed_certificates_are_used(tls: Tls, tmp_path: Path) -> None:
    """The files are read again for each connection: a feed that starts with a wrong one recovers when it's replaced."""
    with Etcd(tls=tls) as server:
        server.put(f"{ROOT}x", "1")
        ca = tmp_path / "ca.pem"
        shutil.copy(authority(tmp_path, "expired"), ca)
        with running(EtcdFeed(from_environment(server.env | {"ETCD_CA_CERT_FILE": str(ca)}))) as heard:
            heard.wait(lambda: heard.losses)
            shutil.copy(tls.ca, ca)
            heard.wait_for(f"{ROOT}x", b"1")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Etcd]:
    """A server with users: root, and one that may read and write nothing. Tokens live for a second."""
    with Etcd(options=["--auth-token-ttl", "1"]) as server:
        server.put(f"{ROOT}x", "1")
        server.ctl("user", "add", "root:secret")
        server.ctl("user", "grant-role", "root", "root")
        server.ctl("user", "add", "nobody:secret")
        server.ctl("auth", "enable")
        server.user = "root:secret"
        yield server


def test_tokens_that_expire_are_renewed(guarded: Etcd) -> None:
    connection = from_environment(guarded.env)
    store = EtcdStore(connection)
    initialise(store)
    with running(EtcdFeed(connection, probe_after=1.5)) as heard:
        heard.wait(lambda: heard.snapshots)
        time.sleep(2.2)  # longer than a token lives unused
        assert len(store.list("Tier")[1]) == 3
        store.delete(keys.ResourceKey("Tier", "", "default"))
        heard.wait(lambda: f"{ROOT}tiers/default" not in heard.state)
        contacts = heard.contacts
        heard.wait(lambda: heard.contacts > contacts + 2, "a probe with an expired token leads to a new one")
        guarded.put(f"{ROOT}y", "2")
        heard.wait_for(f"{ROOT}y", b"2")
        assert not heard.losses
        assert len(heard.snapshots) == 1
    store.close()


def test_a_restarted_server_that_forgot_our_token(guarded: Etcd) -> None:
    store = EtcdStore(from_environment(guarded.env))
    with running(EtcdFeed(from_environment(guarded.env))) as heard:
        heard.wait(lambda: heard.snapshots)
        store.list("Tier")
        guarded.kill()
        guarded.start()
        store.list("Tier")
        guarded.put(f"{ROOT}z", "3")
        heard.wait_for(f"{ROOT}z", b"3")
        assert len(heard.snapshots) == 1
    store.close()


def test_users_that_are_refused(guarded: Etcd) -> None:
    assert "refuses this user name or password" in refusal(guarded.env | {"ETCD_PASSWORD": "wrong"})
    assert "permission denied" in refusal(guarded.env | {"ETCD_USERNAME": "nobody"})
    assert "wants a user and password" in refusal({"ETCD_ENDPOINTS": guarded.url})


def test_a_user_where_none_is_needed() -> None:
    with Etcd() as server:
        server.put(f"{ROOT}x", "1")
        with running(EtcdFeed(from_environment(server.env | {"ETCD_USERNAME": "u", "ETCD_PASSWORD": "p"}))) as heard:
            heard.wait_for(f"{ROOT}x", b"1")


def test_passwords_are_not_shown(guarded: Etcd) -> None:
    assert "secret" not in repr(from_environment(guarded.env))
