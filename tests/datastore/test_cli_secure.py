"""The page's calicoctl.cfg with TLS, and user and password: as transcripts, right and wrong."""

import shutil

import pytest

from tests.datastore.command_line import run
from tests.datastore.test_etcd_security import authority, issue
from tests.lab.etcd import Etcd, Tls
from tests.unit.test_convert_v1 import PAGE

pytestmark = pytest.mark.etcd

CONFIG = """\
apiVersion: v1
kind: calicoApiConfig
metadata:
spec:
    etcdEndpoints: {url}
    etcdKeyFile: {home}/admin-key.pem
    etcdCertFile: {home}/admin.pem
    etcdCACertFile: {home}/{ca}
"""


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A server, and a directory with certificates under the names that the page uses."""
    home = tmp_path_factory.mktemp("certs")
    ca = authority(home, "ca-dal10-cluster")
    tls = Tls(ca, *issue(home, ca, "server"), *issue(home, ca, "admin"))
    shutil.copy(tls.client_key, home / "admin-key.pem")
    with Etcd(tls=tls) as server:
        yield server, home


@pytest.fixture(scope="module")
def guarded():
    with Etcd() as server:
        for arguments in (
            ("user", "add", "root:secret"),
            ("user", "grant-role", "root", "root"),
            ("user", "add", "reader:secret"),
            ("role", "add", "reading"),
            ("role", "grant-permission", "reading", "--prefix=true", "read", "/calico/"),
            ("user", "grant-role", "reader", "reading"),
            ("auth", "enable"),
        ):
            server.ctl(*arguments)
        server.user = "root:secret"
        yield server


@pytest.fixture
def hw(monkeypatch, capsys, tmp_path):
    for name in ("HOSTWARD_DATASTORE", "ETCD_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(PAGE)
    return lambda *args: run(capsys, *args)


def config(tmp_path, secure, ca="ca-dal10-cluster.pem"):
    server, home = secure
    (tmp_path / "calicoctl.cfg").write_text(CONFIG.format(url=server.url, home=home, ca=ca))
    return "--config=calicoctl.cfg"


def test_the_pages_config(hw, secure, tmp_path):
    with_config = config(tmp_path, secure)
    applied = (0, "Successfully applied 1 'GlobalNetworkPolicy' resource(s)\n", "")
    assert hw("apply", "-f", "recipe.yaml", with_config) == applied
    assert "deny-kube-node-port-services" in hw(with_config, "get", "policy")[1]
    assert hw("delete", with_config, "policy", "deny-kube-node-port-services")[0] == 0


@pytest.mark.parametrize("ca", ["ca-*pem_file", "<ca-*pem_file>"])
def test_the_pages_placeholder_is_named(hw, secure, tmp_path, ca):
    home = secure[1]
    assert hw("get", "nodes", config(tmp_path, secure, ca)) == (
        1,
        "",
        f"calicoctl.cfg:8: etcdCACertFile: {home}/{ca}: no such file; this still is a placeholder, put the real name "
        f"in its place ({home} holds admin-key.pem, admin.pem, ca-dal10-cluster.pem, server.pem)\n",
    )


def test_a_wrong_authority(hw, secure, tmp_path):
    other = authority(tmp_path, "other")
    shutil.copy(other, secure[1] / "other.crt")
    code, out, err = hw("get", "nodes", config(tmp_path, secure, "other.crt"))
    assert (code, out) == (1, "")
    assert "certificate isn't signed by the given CA" in err


def test_user_and_password(hw, guarded, monkeypatch):
    for name, value in guarded.env.items():
        monkeypatch.setenv(name, value)
    assert hw("apply", "-f", "recipe.yaml") == (0, "Successfully applied 1 'GlobalNetworkPolicy' resource(s)\n", "")
    monkeypatch.setenv("ETCD_USERNAME", "reader")
    assert "deny-kube-node-port-services" in hw("get", "policy")[1]
    code, out, err = hw("apply", "-f", "recipe.yaml")
    assert (code, out) == (1, "")
    assert "permission denied" in err
    assert hw("apply", "-f", "recipe.yaml", "--dry-run")[0] == 0  # reading is enough
    monkeypatch.setenv("ETCD_PASSWORD", "wrong-password")
    code, out, err = hw("get", "policy")
    assert (code, out) == (1, "")
    assert "refuses this user name or password" in err
    assert "wrong-password" not in err
