"""`hostward doctor` on a real host: with and without an agent, its datastore, rights; it changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import documents as d
from tests.e2e.conftest import Site
from tests.lab.agent import COMMAND
from tests.lab.probes import Listener

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]


def doctor(site: Site, **env: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit status, and the findings by check."""
    done = site.agent.command("doctor", "-o", "json", "--env-file", "/nonexistent", **env)
    assert done.stderr == ""
    found: dict[str, list[dict[str, Any]]] = {}
    for item in json.loads(done.stdout):
        found.setdefault(item["check"], []).append(item)
    return done.returncode, found


def bad(found: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    return {check: item["level"] for check, items in found.items() for item in items if item["level"] != "ok"}


def test_a_healthy_host(shared: Site) -> None:
    before = shared.everything()
    shared.agent.wait("it is ready", lambda: shared.agent.health("readiness")[0] == 200)
    code, found = doctor(shared)
    assert (code, bad(found)) == (0, {})
    assert found["host endpoints"][0]["finding"] == "1 for node worker"
    assert found["etcd rights"][0]["finding"].endswith("resources can be read")
    assert found["agent's readiness"][0]["finding"] == "ready"
    assert "clock" in found
    text = shared.agent.command("doctor")
    assert "ok    agent                        hostward" in text.stdout
    assert shared.everything() == before


def test_a_host_before_anything_is_there(site: Site) -> None:
    code, found = doctor(site)
    assert (code, bad(found)) == (1, {"datastore": "fail", "agent": "warn"})
    assert "no ClusterInformation" in found["datastore"][0]["finding"]
    assert not site.agent.state.exists()
    assert not site.agent.lock_file.exists()
    assert "hw" not in str(site.everything())


def test_no_etcd(site: Site) -> None:
    site.etcd.kill()
    code, found = doctor(site)
    assert code == 1
    assert bad(found) == {"etcd": "fail", "agent": "warn"}


def test_another_node_name(site: Site) -> None:
    site.guard()
    _, found = doctor(site, HOSTWARD_NODE_NAME="wroker")
    assert bad(found)["host endpoints"] == "warn"
    assert "there are some for worker" in found["host endpoints"][0]["do"]


def test_an_agent_in_trouble(site: Site) -> None:
    site.agent.start()
    site.agent.wait("it says that it waits", lambda: bool(site.agent.status().get("frozen")))
    code, found = doctor(site)
    assert code == 1
    assert bad(found)["agent's datastore"] == bad(found)["agent's readiness"] == "fail"
    site.agent.kill()
    assert bad(doctor(site)[1])["agent"] == "warn"


def test_settings_of_this_host_and_of_the_datastore(site: Site, tmp_path: Path) -> None:
    code, found = doctor(site, HOSTWARD_MARK_MASK="lots")
    assert (code, bad(found)["settings"]) == (1, "fail")
    assert "HOSTWARD_MARK_MASK" in found["settings"][0]["finding"]
    ssh = tmp_path / "sshd"
    ssh.symlink_to(sys.executable)
    listen = "import socket; s = socket.create_server(('', 2222)); print('up', flush=True); input()"
    server = site.worker.popen(str(ssh), "-S", "-c", listen, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        code, found = doctor(site)
        assert (code, bad(found)["failsafe ports"]) == (1, "fail")
        assert "sshd listens on port 2222" in found["failsafe ports"][0]["finding"]
        site.etcd.put(d.CLUSTER, d.cluster())
        ports = [{"protocol": "TCP", "port": 2222}]
        configuration = {"metadata": {"name": "default"}, "spec": {"failsafeInboundHostPorts": ports}}
        api = {"apiVersion": "projectcalico.org/v3", "kind": "FelixConfiguration"}
        site.etcd.put(f"{d.ROOT}felixconfigurations/default", api | configuration)
        code, found = doctor(site)
        assert (code, "failsafe ports" in bad(found)) == (0, False)
    finally:
        server.communicate("\n", timeout=10)


def test_others_and_their_marks(site: Site) -> None:
    site.agent.iptables("-N", "cali-INPUT")
    site.worker.run("ip", "rule", "add", "fwmark", "0x1000000/0x1000000", "table", "7")
    _, found = doctor(site)
    assert bad(found)["Felix"] == bad(found)["packet marks"] == "warn"


def test_without_rights_it_says_what_it_did_not_see(site: Site) -> None:
    confined = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *COMMAND, "doctor", "-o", "json"]
    done = subprocess.run(
        ["ip", "netns", "exec", site.worker.name, *confined],
        env=site.agent.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = {item["check"]: item for item in json.loads(done.stdout)}
    assert found["kernel"]["level"] == found["other firewalls"]["level"] == "warn"
    assert "CAP_NET_ADMIN" in found["kernel"]["finding"]
    assert found["etcd"]["level"] == "ok"


def test_a_directory(site: Site, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("kind: [", encoding="utf-8")
    code, found = doctor(site, HOSTWARD_DATASTORE=f"dir:{tmp_path}")
    assert (code, bad(found)["datastore"]) == (1, "fail")
    (tmp_path / "one.yaml").unlink()
    code, found = doctor(site, HOSTWARD_DATASTORE=f"dir:{tmp_path}")
    assert (code, bad(found)) == (0, {"agent": "warn"})
    code, found = doctor(site, HOSTWARD_DATASTORE=f"dir:{tmp_path / 'none'}")
    assert (code, bad(found)["datastore"]) == (1, "fail")


def test_what_all_would_deny_of_what_is_forwarded(site: Site) -> None:
    """A connection through the worker that Felix's meaning lets pass, and one that a policy with applyOnForward allows."""
    site.worker.forward()
    for number, client in enumerate((site.hosts["client0"], site.hosts["client1"])):
        client.ip(*(f"route add default via {address}" for address in site.WORKER[number]))
    site.guard()
    rules = [d.to_ports("Allow", [81], "TCP")]
    applied = d.policy("through", 30, rules, egress=rules, types=["Ingress", "Egress"])
    site.etcd.put(d.policy_key("through"), applied)
    assert "forwarding" not in doctor(site)[1]  # All, the default
    felix = {"HOSTWARD_HOST_FORWARD_POLICY": "ApplyOnForward"}
    site.agent.env |= felix
    site.agent.start()  # without rules that look at them the kernel keeps no connections
    site.agent.wait_applied(site.etcd.revision())
    with Listener(site.hosts["client1"], tcp=(81, 8443)):
        (found,) = doctor(site, **felix)[1]["forwarding"]
        assert (found["level"], "through eth0 by all policies; none" in found["finding"]) == ("ok", True)
        for version in (0, 1):
            for port in (81, 8443):
                assert site.probers[0].hold(f"{version}-{port}", site.CLIENT[1][version], port) == "ok"
        (found,) = doctor(site, **felix)[1]["forwarding"]
    assert found["level"] == "warn"
    assert "deny 2 of the connections that are open now" in found["finding"]
    assert f"to {site.CLIENT[1][0]}:8443" in found["finding"]
    assert f"to [{site.CLIENT[1][1]}]:8443" in found["finding"]
    site.etcd.put(
        d.policy_key("through"),
        d.policy("through", 30, [{"action": "Allow"}], egress=[{"action": "Allow"}], types=["Ingress", "Egress"]),
    )
    (found,) = doctor(site, **felix)[1]["forwarding"]
    assert (found["level"], "none of the connections" in found["finding"]) == ("ok", True)
