"""Connection settings from the environment and from calicoctl.cfg of both generations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hostward.datastore.config_file import from_config_file
from hostward.datastore.connection import Connection, SettingsError, from_environment
from hostward.datastore.directory.store import DirStore
from hostward.datastore.etcd.feed import EtcdFeed
from hostward.datastore.etcd.store import EtcdStore
from hostward.datastore.opening import open_feed, open_store

V1 = """\
apiVersion: v1
kind: calicoApiConfig
metadata:
spec:
    etcdEndpoints: https://192.0.2.1:2379,https://192.0.2.2:2379
    etcdKeyFile: /etc/calico/key.pem
    etcdCertFile: /etc/calico/cert.pem
    etcdCACertFile: /etc/calico/ca-*pem_file
"""
V3 = """\
apiVersion: projectcalico.org/v3
kind: CalicoAPIConfig
metadata: {}
spec:
  datastoreType: etcdv3
  etcdEndpoints: "http://etcd.example:4001, [2001:db8::1]:2379"
  etcdUsername: u
  etcdPassword: "0112"
"""


def endpoints(connection: Connection) -> list[str]:
    return [str(one) for one in connection.endpoints]


def test_the_environment() -> None:
    found = from_environment(
        {"ETCD_ENDPOINTS": "https://a:1, b:2/", "ETCD_CA_CERT_FILE": "ca", "ETCD_CERT_FILE": "c", "ETCD_KEY_FILE": "k"}
    )
    assert endpoints(found) == ["https://a:1", "http://b:2"]
    assert found.ca is not None
    assert (found.ca.setting, found.ca.file) == ("ETCD_CA_CERT_FILE", "ca")
    assert endpoints(from_environment({})) == ["http://127.0.0.1:2379"]
    assert endpoints(from_environment({"ETCD_SCHEME": "https", "ETCD_AUTHORITY": "[::1]:7"})) == ["https://[::1]:7"]
    prefixed = from_environment(
        {"ETCD_ENDPOINTS": "http://no:1", "CALICO_ETCD_ENDPOINTS": "http://yes:1", "ETCD_AUTHORITY": "x:1"}
    )
    assert endpoints(prefixed) == ["http://yes:1"]


def test_a_user_counts_only_with_a_password() -> None:
    both = from_environment({"ETCD_USERNAME": "u", "ETCD_PASSWORD": "p"})
    assert (both.username, both.password) == ("u", "p")
    assert "'p'" not in repr(both)
    half = from_environment({"ETCD_USERNAME": "u"})
    assert half.username is None
    assert "ETCD_USERNAME" in half.notices[0]


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"ETCD_ENDPOINTS": "etcd://x"}, "ETCD_ENDPOINTS"),
        ({"ETCD_ENDPOINTS": "http://x:99999"}, "ETCD_ENDPOINTS"),
        ({"ETCD_ENDPOINTS": "<ETCD_URL>"}, 'ETCD_ENDPOINTS: "<ETCD_URL>" still is a placeholder'),
        ({"ETCD_ENDPOINTS": "http://u:p@x:1"}, "ETCD_ENDPOINTS"),
        ({"CALICO_ETCD_ENDPOINTS": "http://x y"}, "CALICO_ETCD_ENDPOINTS"),
        ({"ETCD_CERT_FILE": "c"}, "ETCD_KEY_FILE"),
        ({"ETCD_KEY_FILE": "c"}, "ETCD_CERT_FILE"),
    ],
)
def test_wrong_variables_are_named(environ: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        from_environment(environ)


def test_the_old_config_file() -> None:
    found = from_config_file(V1.encode(), "cfg")
    assert endpoints(found) == ["https://192.0.2.1:2379", "https://192.0.2.2:2379"]
    assert found.cert is not None
    assert found.cert.file == "/etc/calico/cert.pem"
    assert not found.notices  # as the page has it: scripts that run calicoctl 1.6 hear nothing either
    named = from_config_file(V1.replace("spec:\n", "spec:\n    datastoreType: etcdv2\n").encode(), "cfg")
    assert len(named.notices) == 1
    assert "etcdv2" in named.notices[0]
    assert found.ca is not None
    with pytest.raises(SettingsError, match=re.escape("cfg:8: etcdCACertFile: /etc/calico/ca-*pem_file: no such file")):
        found.ca.read()
    authority = (
        "apiVersion: v1\nkind: calicoApiConfig\nspec:\n  datastoreType: etcdv3\n  etcdScheme: https\n  etcdAuthority: h:1"
    )
    found = from_config_file(authority.encode(), "cfg")
    assert endpoints(found) == ["https://h:1"]
    assert not found.notices


def test_the_new_config_file() -> None:
    found = from_config_file(V3.encode(), "cfg")
    assert endpoints(found) == ["http://etcd.example:4001", "http://[2001:db8::1]:2379"]
    assert (found.username, found.password) == ("u", "0112")
    inline = V3 + "  etcdCACert: |\n    -----BEGIN CERTIFICATE-----\n    x\n    -----END CERTIFICATE-----\n"
    found = from_config_file(inline.encode(), "cfg")
    assert found.ca is not None
    assert found.ca.read().startswith(b"-----BEGIN CERTIFICATE-----\nx")
    assert "BEGIN" not in repr(found)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (V1.replace("etcdKeyFile", "etcdKeyFiles"), 'cfg:6: unknown key "spec.etcdKeyFiles"; did you mean "etcdKeyFile"?'),
        (V1.replace("etcdKeyFile", "etcdkeyfile"), 'cfg:6: unknown key "spec.etcdkeyfile"; did you mean "etcdKeyFile"?'),
        (V1.replace("metadata:", "metdata:"), 'cfg:3: unknown key "metdata"; did you mean "metadata"?'),
        (V3.replace("etcdUsername", "etcdScheme"), 'cfg:7: unknown key "spec.etcdScheme"'),
        (V1.replace("calicoApiConfig", "CalicoAPIConfig"), 'cfg:2: invalid config file: unknown kind "CalicoAPIConfig"'),
        (V1.replace("v1", "v2", 1), 'cfg:1: invalid config file: unknown apiVersion "v2"'),
        (V3.replace("etcdv3", "etcdv2"), 'cfg:5: unknown datastoreType "etcdv2"'),
        (V3.replace("etcdv3", "kubernetes"), "cfg:5: datastoreType kubernetes is not supported"),
        (V3.replace('"0112"', "12"), "cfg:8: etcdPassword: expected a text; write it in quotes"),
        (V1.replace("https://192.0.2.2", "ftp://x"), "cfg:5: etcdEndpoints"),
        (V1.replace("    etcdKeyFile", "    #"), "etcdCertFile is set without etcdKeyFile"),
        ("apiVersion: v1\nkind: calicoApiConfig\nspec: {}", "cfg:3: etcdEndpoints: no etcd endpoints are given"),
        (V1 + "    etcdKeyFile: x\n", "cfg:9: key"),
        ("a: [", "Error reading config file: cfg:1"),
        ("", "Error reading config file: cfg: expected one document, found 0"),
        (V3 + "  etcdCACert: x\n  etcdCACertFile: y\n", "both as files and inline"),
    ],
)
def test_wrong_config_files_are_explained(text: str, told: str) -> None:
    with pytest.raises(SettingsError) as error:
        from_config_file(text.encode(), "cfg")
    assert told in str(error.value)


def test_a_config_file_wins_whole_over_the_environment(tmp_path: Path) -> None:
    config, heard = tmp_path / "calicoctl.cfg", list[str]()
    environ = {"ETCD_ENDPOINTS": "not an endpoint", "ETCD_USERNAME": "u"}
    config.write_text(V1 + "    datastoreType: etcdv2\n")
    assert isinstance(open_store("etcd", config, True, environ, heard.append), EtcdStore)
    assert isinstance(open_store("etcd", config, False, environ), EtcdStore)
    assert len(heard) == 1
    with pytest.raises(SettingsError, match="ETCD_ENDPOINTS"):
        open_store("etcd", tmp_path / "none", False, environ)
    with pytest.raises(SettingsError, match=f"^Error reading config file: {tmp_path}/none: No such file or directory$"):
        open_store("etcd", tmp_path / "none", True, environ)
    with pytest.raises(SettingsError, match="Error reading config file"):
        open_store("etcd", tmp_path, False, environ)


def test_datastore_urls(tmp_path: Path) -> None:
    assert isinstance(open_store(f"dir:{tmp_path}", None, False, {}), DirStore)
    assert isinstance(open_feed("etcd", {}), EtcdFeed)
    for url in ("dir:", "etcd3", "", "file:/x"):
        with pytest.raises(SettingsError, match="is not known"):
            open_feed(url, {})
