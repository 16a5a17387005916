"""The same agent on each datastore: a directory of manifests, etcd with client certificates, etcd with users."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.datastore.test_etcd_security import authority, issue
from tests.e2e import documents as d
from tests.e2e.conftest import ALL_OPEN, Site
from tests.lab.agent import Agent
from tests.lab.etcd import Etcd, Tls

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
ENDPOINT = """\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata:
  name: w0
  labels: {role: worker}
spec:
  node: worker
  interfaceName: eth0
"""
POLICY = """\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: web
spec:
  selector: role == 'worker'
  types: [Ingress]
  ingress:
  - action: Allow
    protocol: TCP
    destination: {ports: [%s]}
"""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def closed_but(*ports: int) -> dict[str, tuple[int, ...]]:
    return {"v4": ports, "v6": ports}


def test_a_directory(site: Site, stack: ExitStack, tmp_path: Path) -> None:
    site.etcd.stop()
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    agent = site.agent = stack.enter_context(Agent(site.worker, datastore=f"dir:{manifests}", start=False))
    (manifests / "endpoint.yaml").write_text(ENDPOINT)
    (manifests / "policy.yaml").write_text(POLICY % 80)
    agent.start()
    site.until("it is guarded", lambda: site.reached() == closed_but(22, 80))
    assert agent.health("readiness")[0] == 200
    (manifests / "policy.yaml").write_text(POLICY % 81)
    site.until("the new rule is in force", lambda: site.reached() == closed_but(22, 81))
    (manifests / "policy.yaml").write_text(POLICY % 82 + "  unheardOf: 1\n")
    site.until("it is set aside", lambda: bool(agent.status()["setAside"]))
    assert site.reached() == closed_but(22, 81)
    done = agent.command("apply", "-f", str(write(tmp_path / "new.yaml", POLICY % "80,82")))
    assert (done.returncode, done.stderr) == (0, "")
    site.until("what was applied is in force", lambda: site.reached() == closed_but(22, 80, 82))
    assert agent.status()["setAside"] == []
    (manifests / "other.yaml").write_text("kind: Foo\n")
    site.until("a file that can't be used is told", lambda: len(agent.status()["setAside"]) == 1)
    assert agent.status()["setAside"][0]["key"] == str(manifests / "other.yaml")
    site.until("and counted", lambda: agent.metric("hostward_objects_set_aside", kind="Manifest") == 1)
    assert "Foo" in agent.command("status").stdout
    (manifests / "other.yaml").unlink()
    site.until("it is forgotten", lambda: agent.status()["setAside"] == [])
    # With no agent the directory changes; with no directory the agent goes by what it remembers.
    agent.kill()
    before = site.everything()
    manifests.rename(tmp_path / "elsewhere")
    agent.start()
    site.until("it says that the directory is missing", lambda: agent.status().get("datastore", {}).get("state") == "lost")
    time.sleep(0.5)
    assert site.everything() == before
    (tmp_path / "elsewhere").rename(manifests)
    site.until("it is ready", lambda: agent.health("readiness")[0] == 200)
    assert site.everything() == before
    (manifests / "endpoint.yaml").unlink()
    site.until("it is open", lambda: site.reached() == ALL_OPEN)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_client_certificates(site: Site, stack: ExitStack, tmp_path: Path) -> None:
    ca = authority(tmp_path, "ca")
    tls = Tls(ca, *issue(tmp_path, ca, "server"), *issue(tmp_path, ca, "client"))
    site.etcd.close()
    site.etcd = stack.enter_context(Etcd(site.worker, tls=tls))
    revision = site.guard()
    site.agent.env = dict(site.etcd.env)
    site.agent.start()
    site.agent.wait_applied(revision)
    assert site.reached() == closed_but(22, 80, 81)
    site.etcd.kill()
    site.etcd.start()
    site.agent.wait_applied(site.etcd.put(d.policy_key("web"), d.policy("web", 10, [d.to_ports("Deny", [80], "TCP")])))
    assert site.reached() == closed_but(22, 81)
    # The commands use the same certificates.
    got = site.agent.command("get", "hostendpoints", "-o", "json")
    assert (got.returncode, got.stderr) == (0, "")
    assert [item["metadata"]["name"] for item in json.loads(got.stdout)["items"]] == ["w0"]


def test_a_user_who_may_only_read(site: Site) -> None:
    """The agent never writes: a role that reads the resources is all that it needs."""
    etcd = site.etcd
    revision = site.guard()
    for command in (
        "user add root:secret",
        "user grant-role root root",
        "role add agents",
        f"role grant-permission agents --prefix=true read {d.ROOT}",
        "user add agent:Pass-Phrase9",
        "user grant-role agent agents",
        "auth enable",
    ):
        etcd.ctl(*command.split())
    etcd.user = "root:secret"
    site.agent.env = etcd.env | {"ETCD_USERNAME": "agent", "ETCD_PASSWORD": "wrong-Pass-Phrase"}
    site.agent.start()
    site.until("it is refused", lambda: site.agent.status().get("datastore", {}).get("state") == "lost")
    assert site.reached() == ALL_OPEN
    assert site.agent.health("readiness")[0] == 503
    site.agent.stop()
    site.agent.env["ETCD_PASSWORD"] = "Pass-Phrase9"
    site.agent.start()
    site.agent.wait_applied(revision)
    assert site.reached() == closed_but(22, 80, 81)
    site.agent.wait_applied(etcd.put(d.policy_key("web"), d.policy("web", 10, [d.to_ports("Deny", [80], "TCP")])))
    assert site.reached() == closed_but(22, 81)
    for secret in ("Pass-Phrase9", "wrong-Pass-Phrase"):
        told = (site.agent.log_file.read_text(), site.agent.metrics(), json.dumps(site.agent.status()))
        assert not [text for text in told if secret in text]


def test_several_endpoints_one_of_them_dead(site: Site) -> None:
    revision = site.guard()
    site.agent.env["ETCD_ENDPOINTS"] = f"http://127.0.0.1:2378,{site.etcd.url}"
    site.agent.start()
    site.agent.wait_applied(revision)
    assert site.reached() == closed_but(22, 80, 81)
