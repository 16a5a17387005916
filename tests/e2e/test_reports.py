"""What the running agent tells: status, metrics, health; and that trouble with telling stops no enforcement."""

from __future__ import annotations

import contextlib
import json
import socket

import pytest

from tests.e2e import documents as d
from tests.e2e.conftest import GUARDED, Site

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]


def test_status_for_people_and_machines(guarded: Site) -> None:
    text = guarded.agent.command("status")
    assert (text.returncode, text.stderr) == (0, "")
    for line in (
        f"Agent:      hostward 0.1.0 on worker, running, process {guarded.agent.pid}, since ",
        "Datastore:  in-sync, last contact ",
        f"Revision:   {guarded.etcd.revision()} applied",
        "eth0: host endpoint w0",
        "  normal     ingress  web, friends",
        "  preDNAT    ingress  early",
    ):
        assert any(found.startswith(line) for found in text.stdout.splitlines()), f"{line!r} is not in:\n{text.stdout}"
    status = json.loads(guarded.agent.command("status", "-o", "json").stdout)
    assert status["running"] is True
    assert status["appliedRevision"] == status["desiredRevision"] == guarded.etcd.revision()
    (interface,) = status["interfaces"]
    assert (interface["name"], interface["endpoint"]) == ("eth0", "w0")
    assert {hook["hook"]: hook["policies"] for hook in interface["hooks"]} == {
        "preDNAT": ["early"],
        "normal": ["web", "friends"],
    }
    guarded.agent.stop()
    stopped = guarded.agent.command("status", "-o", "json")
    assert stopped.returncode == 1
    assert json.loads(stopped.stdout)["running"] is False
    assert "No agent is running" in stopped.stderr


def test_metrics_of_the_main_job(shared: Site) -> None:
    agent = shared.agent
    revision = shared.etcd.revision()
    assert agent.metric("hostward_applied_revision") == agent.metric("hostward_desired_revision") == revision
    assert "\nhostward_applied_revision " in agent.metrics()  # without labels: the contract
    assert agent.metric("hostward_build_info", version="0.1.0") == 1
    assert agent.metric("hostward_active_endpoints") == 1
    assert agent.metric("hostward_active_policies") == 3
    assert agent.metric("hostward_apply_seconds_count") >= 1
    assert agent.metric("hostward_datastore_state", state="in-sync") == 1
    for version in "46":
        listed = shared.worker.run(f"ip{'6' * (version == '6')}tables-legacy-save", "-t", "filter").splitlines()
        ours = [line for line in listed if line.startswith("-A ") and "hw" in line]
        assert agent.metric("hostward_rules", table="filter", ip_version=version) == len(ours)
        assert agent.metric("hostward_chains", table="filter", ip_version=version) == sum(x.startswith(":hw-") for x in listed)
        assert agent.metric("hostward_sets", ip_version=version) == 1
        assert agent.metric("hostward_set_members", ip_version=version) == 2
    # Felix's names are served beside ours.
    assert agent.metric("felix_active_local_endpoints") == 1


def test_pods_and_interfaces_without_an_endpoint_are_told_of(guarded: Site) -> None:
    agent, etcd = guarded.agent, guarded.etcd
    for name in ("cali1", "cali2"):
        guarded.worker.ip(f"link add {name} type veth peer name {name}-peer", f"link set {name} up")
    agent.wait("both are listed", lambda: agent.status()["cutOff"] == ["cali1", "cali1-peer", "cali2", "cali2-peer"])
    spec = {"node": "worker", "interfaceName": "cali1", "ipNetworks": ["10.0.0.5/32"], "profiles": ["kns.shop"]}
    policy = {"selector": "", "types": ["Ingress"], "ingress": [{"action": "Allow"}]}
    staged = {"selector": "", "ingress": [{"action": "Deny"}]}
    etcd.put(f"{d.ROOT}networkpolicies/shop/knp.default.web", {"spec": policy})
    etcd.put(f"{d.ROOT}stagednetworkpolicies/shop/try", {"spec": staged})
    agent.wait_applied(etcd.put(f"{d.ROOT}workloadendpoints/shop/w", {"spec": spec}))
    agent.wait("one isn't any more", lambda: "cali1" not in agent.status()["cutOff"])
    (workload,) = agent.status()["workloads"]
    assert (workload["name"], workload["endpoint"], workload["addresses"]) == ("cali1", "shop/w", ["10.0.0.5"])
    lines = agent.command("status").stdout.splitlines()
    at = lines.index("cali1: workload endpoint shop/w")
    assert lines[at + 1 : at + 6] == [
        "  addresses           10.0.0.5",
        "  normal     ingress  shop/knp.default.web",
        "  profiles            kns.shop",
        "cali1-peer: no workload endpoint: cut off",
        "cali2: no workload endpoint: cut off",
    ]
    assert agent.metric("hostward_workload_interfaces", state="active") == 1
    assert agent.metric("hostward_workload_interfaces", state="cut-off") == 3
    assert agent.metric("hostward_objects", kind="StagedNetworkPolicy") == 1
    assert agent.metric("felix_active_local_endpoints") == 2

    def warned() -> set[str]:
        told = agent.log_lines("workload interfaces without an endpoint are cut off")
        return {name for line in told for name in line["interfaces"]}

    agent.wait("a warning", lambda: "cali2" in warned())


def test_drops_are_counted_by_interface_direction_and_reason(guarded: Site) -> None:
    assert guarded.reached() == GUARDED
    dropped = guarded.agent.metric

    def counted() -> bool:
        return dropped("hostward_dropped_packets_total", interface="eth0", direction="ingress") > 0

    guarded.etcd.delete(d.policy_key("early"))
    guarded.agent.wait_applied(guarded.etcd.revision())
    assert guarded.reached() == GUARDED  # 82 is dropped at the end of the tier now
    guarded.until("drops are counted", counted)
    assert dropped("hostward_dropped_packets_total", interface="eth0", reason="end-of-tier") >= 2


def test_health_over_http(shared: Site) -> None:
    for page in ("liveness", "readiness"):
        code, text = shared.agent.health(page)
        assert code == 200, text
        assert "Engine" in text
    assert shared.agent.http("/nothing", 9099)[0] == 404
    assert shared.agent.http("/liveness", 9091)[0] == 404


def test_ports_in_use_stop_no_enforcement(site: Site) -> None:
    """They are reported, and served as soon as they are free."""
    with contextlib.ExitStack() as taken:
        with site.worker.entered():
            for port in (9091, 9099):
                sock = taken.enter_context(socket.socket())
                sock.bind(("127.0.0.1", port))
                sock.listen()
        revision = site.guard()
        site.agent.start()
        site.agent.wait_applied(revision)
        assert site.reached() == GUARDED
        told = [line for line in site.agent.log_lines() if line.get("port") in (9091, 9099) and line["level"] != "info"]
        assert {line["port"] for line in told} == {9091, 9099}
        assert site.agent.alive

    def served() -> bool:
        with contextlib.suppress(OSError):
            return site.agent.health("readiness")[0] == 200 and site.agent.metric("hostward_applied_revision") == revision
        return False

    site.until("both are served", served)


def test_a_log_line_says_what_changed(guarded: Site) -> None:
    (line,) = guarded.agent.log_lines("applied")
    assert line["revision"] == guarded.etcd.revision()
    assert line["policies"] == ["early", "friends", "web"]
    assert line["interfaces"] == ["eth0"]
    assert line["rules_written"] > 50
    assert line["seconds"] > 0
    revision = guarded.etcd.put(d.policy_key("web"), d.policy("web", 10, [d.to_ports("Allow", [8080], "TCP")]))
    guarded.agent.wait_applied(revision)
    last = guarded.agent.log_lines("applied")[-1]
    assert (last["policies"], last["interfaces"], last["revision"]) == (["web"], [], revision)


def test_bad_settings_are_told_and_nothing_is_touched(site: Site) -> None:
    site.guard()
    done = site.agent.command("agent", HOSTWARD_MARK_MASK="0x3")
    assert done.returncode == 1
    assert "markMask" in done.stderr or "HOSTWARD_MARK_MASK" in done.stderr
    assert site.everything() == {"sets": []}
    shown = site.agent.command("agent", "--show-config")
    assert shown.returncode == 0
    assert "nodeName" in shown.stdout
