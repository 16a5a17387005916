"""Status: what the agent publishes is what `hostward status` shows, and its exit code says whether an agent runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from hostward.cli.status import command, lines
from hostward.model.keys import ResourceKey
from hostward.model.resolved import PolicyLists, ResolvedEndpoint, ResolvedWorkload, TierPolicies
from hostward.model.resources import Policy
from hostward.model.rules import Action
from hostward.report.agent_lock import AgentLock, AgentRunsError, is_agent_running
from hostward.report.status import (
    DatastoreStatus,
    HookStatus,
    InterfaceStatus,
    SetAside,
    Status,
    StatusError,
    StatusFile,
    WorkloadStatus,
    interface_status,
    read_status,
    workload_status,
)

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
STATUS = Status(
    node="w1",
    pid=42,
    version="1.2",
    started_at=NOW - timedelta(hours=1),
    desired_revision=9,
    applied_revision=8,
    datastore=DatastoreStatus(state="lost", last_contact=NOW - timedelta(seconds=30), detail="connection refused"),
    frozen=("datastoreReady is false",),
    interfaces=(
        InterfaceStatus(
            name="eth0",
            endpoint="w1-public",
            hooks=(
                HookStatus(hook="preDNAT", direction="ingress", policies=("deny-nodeports",)),
                HookStatus(hook="normal", direction="ingress", policies=("a", "b")),
            ),
            profiles=("p",),
        ),
        InterfaceStatus(name="eth1", endpoint="w1-private", isolated=True),
    ),
    workloads=(
        WorkloadStatus(
            name="cali1",
            endpoint="shop/w1-k8s-web-eth0",
            addresses=("10.0.0.5", "2001:db8::5"),
            hooks=(
                HookStatus(hook="normal", direction="ingress", policies=("shop/web", "a")),
                HookStatus(hook="normal", direction="egress", policies=("shop/web",)),
            ),
            profiles=("kns.shop", "ksa.shop.default"),
        ),
        WorkloadStatus(name="cali2", endpoint="shop/x", isolated=True),
    ),
    cut_off=("cali3", "cali4\n"),
    set_aside=(
        SetAside(key="GlobalNetworkPolicy(x)", path="spec.ingress[0].action", reason="\x1b[2Jbad", older_in_force=True),
    ),
    warnings=("failsafeInboundHostPorts is empty",),
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(state: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--state-dir", str(state), *arguments])


def publish(state: Path, status: Status = STATUS) -> None:
    StatusFile(str(state), Clock()).publish(status)


def test_what_is_written_is_read(tmp_path):
    publish(tmp_path)
    read = read_status(str(tmp_path))
    assert read.interfaces == STATUS.interfaces
    assert read.workloads == STATUS.workloads
    assert read.cut_off == STATUS.cut_off
    assert read.set_aside == STATUS.set_aside
    assert read.set_aside_count == 1
    assert read.written_at is not None
    assert os.listdir(tmp_path) == ["status.json"]
    assert (tmp_path / "status.json").stat().st_mode & 0o777 == 0o640


def test_an_interface_whose_name_is_not_text_ends_nothing(tmp_path):
    odd = msgspec.structs.replace(STATUS, interfaces=(InterfaceStatus(name="nic\udcff", endpoint="x"),))
    publish(tmp_path, odd)
    assert [interface.name for interface in read_status(str(tmp_path)).interfaces] == ["nic?"]


def test_only_changes_are_written_and_the_age_of_the_contact_every_ten_seconds(tmp_path):
    clock = Clock()
    file = StatusFile(str(tmp_path), clock)
    path = tmp_path / "status.json"
    file.publish(STATUS)
    path.unlink()
    later = Status(
        **{name: getattr(STATUS, name) for name in STATUS.__struct_fields__}
        | {"datastore": DatastoreStatus(state="lost", last_contact=NOW, detail="connection refused")}
    )
    file.publish(later)
    assert not path.exists()
    clock.now = 10
    file.publish(later)
    assert read_status(str(tmp_path)).datastore.last_contact == NOW
    path.unlink()
    file.publish(STATUS)
    assert not path.exists()
    file.publish(Status(node="w1", pid=1, version="1", started_at=NOW))
    assert path.exists()


def test_a_directory_that_can_not_be_written_raises_nothing(tmp_path):
    publish(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    publish(tmp_path / "file")


def test_many_objects_set_aside_are_counted_and_cut(tmp_path):
    publish(tmp_path, Status(node="w1", pid=1, version="1", started_at=NOW, set_aside=STATUS.set_aside * 3000))
    read = read_status(str(tmp_path))
    assert (len(read.set_aside), read.set_aside_count) == (1000, 3000)
    assert list(lines(read, NOW, running=True))[-1] == "  and 2000 more"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"node": 1}', b"\xff\xfe", b"[" * 5000])
def test_a_broken_file_is_an_error_with_its_name(tmp_path, content):
    (tmp_path / "status.json").write_bytes(content)
    with pytest.raises(StatusError, match=r"status\.json"):
        read_status(str(tmp_path))


def test_an_endpoint_without_policy_says_what_that_means():
    bare = msgspec.structs.replace(
        STATUS,
        interfaces=(InterfaceStatus(name="eth0", endpoint="a"), InterfaceStatus(name="eth1", endpoint="b", profiles=("p",))),
        workloads=(WorkloadStatus(name="cali1", endpoint="shop/x"),),
    )
    text = "\n".join(lines(bare, NOW, running=True))
    assert "a\n  no policy and no profile: denies all but failsafe ports\n" in text
    assert "b\n  no policy\n  profiles            p\n" in text
    assert "shop/x\n  no policy and no profile: denies all\n" in text


def test_text():
    assert "\n".join(lines(STATUS, NOW, running=True)) == (
        "Agent:      hostward 1.2 on w1, running, process 42, since 2030-01-02T02:04:05Z\n"
        "Status of:  never (never)\n"
        "Datastore:  lost, last contact 30 s ago: connection refused\n"
        "Revision:   8 applied, 9 received\n"
        "Frozen:     datastoreReady is false; the kernel keeps the rules that it has\n"
        "Warning:    failsafeInboundHostPorts is empty\n"
        "\n"
        "eth0: host endpoint w1-public\n"
        "  preDNAT    ingress  deny-nodeports\n"
        "  normal     ingress  a, b\n"
        "  profiles            p\n"
        "eth1: host endpoint w1-private (not understood: denies all but failsafe ports)\n"
        "  no policy\n"
        "cali1: workload endpoint shop/w1-k8s-web-eth0\n"
        "  addresses           10.0.0.5, 2001:db8::5\n"
        "  normal     ingress  shop/web, a\n"
        "  normal     egress   shop/web\n"
        "  profiles            kns.shop, ksa.shop.default\n"
        "cali2: workload endpoint shop/x (not understood: cut off)\n"
        "  no policy\n"
        "cali3: no workload endpoint: cut off\n"
        "cali4\\n: no workload endpoint: cut off\n"
        "\n"
        "Not understood (1):\n"
        "  GlobalNetworkPolicy(x): spec.ingress[0].action: \\x1b[2Jbad (its last understood version stays in force)"
    )


def test_command_beside_a_running_agent(tmp_path):
    lock = AgentLock(str(tmp_path))
    publish(tmp_path)
    result = run(tmp_path)
    assert result.exit_code == 0
    assert "running, process 42" in result.stdout
    assert result.stderr == ""
    document = json.loads(run(tmp_path, "-o", "json").stdout)
    assert document["running"] is True
    assert document["appliedRevision"] == 8
    assert document["interfaces"][0]["hooks"][1] == {"hook": "normal", "direction": "ingress", "policies": ["a", "b"]}
    assert document["workloads"][0]["addresses"] == ["10.0.0.5", "2001:db8::5"]
    assert [workload["isolated"] for workload in document["workloads"]] == [False, True]
    assert document["cutOff"] == ["cali3", "cali4\n"]
    assert document["setAside"][0]["olderInForce"] is True
    lock.release()


def test_command_without_an_agent_still_says_what_was(tmp_path):
    AgentLock(str(tmp_path)).release()
    publish(tmp_path)
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "not running" in result.stdout
    assert "eth0: host endpoint w1-public" in result.stdout
    assert "No agent is running" in result.stderr
    result = run(tmp_path, "-o", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["running"] is False


def test_command_where_there_never_was_an_agent(tmp_path):
    result = run(tmp_path / "x")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "status.json is missing" in result.stderr
    assert json.loads(run(tmp_path / "x", "-o", "json").stdout) == {"running": False}
    assert run(tmp_path, "-o", "xml").exit_code == 2


def test_command_takes_the_directory_from_the_environment(tmp_path):
    publish(tmp_path)
    result = CliRunner().invoke(command, [], env={"HOSTWARD_STATE_DIR": str(tmp_path)})
    assert "eth0" in result.stdout


def test_one_agent_per_state_directory(tmp_path):
    state = str(tmp_path / "deep" / "state")
    assert not is_agent_running(state)
    lock = AgentLock(state)
    assert is_agent_running(state)
    with pytest.raises(AgentRunsError, match=str(os.getpid())):
        AgentLock(state, patience=0.1)
    assert is_agent_running(state)
    lock.release()
    assert not is_agent_running(state)


def test_the_lock_of_a_killed_agent_is_free(tmp_path):
    hold = (
        "import sys; from hostward.report.agent_lock import *; x = AgentLock(sys.argv[1]); print('held', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        assert agent.stdout.readline() == b"held\n"
        assert is_agent_running(str(tmp_path))
        agent.kill()
        agent.wait(10)
    assert not is_agent_running(str(tmp_path))
    AgentLock(str(tmp_path)).release()


def test_interface_status_from_what_was_resolved():
    def key(name: str) -> ResourceKey:
        return ResourceKey("GlobalNetworkPolicy", "", name)

    first = TierPolicies("t", Action.PASS, ingress=(key("default.a"),), egress=(key("b"),))
    second = TierPolicies("default", Action.DENY, ingress=(key("c"), key("b")))
    policies = {key("default.a"): Policy(key("default.a"), "a", "t", None, "all()", ingress=True, egress=False)}
    endpoint = ResolvedEndpoint("eth0", "w1-eth0", PolicyLists(pre_dnat=(second,), normal=(first, second)), ("p",))
    assert interface_status("eth0", endpoint, policies) == InterfaceStatus(
        name="eth0",
        endpoint="w1-eth0",
        hooks=(
            HookStatus(hook="preDNAT", direction="ingress", policies=("c", "b")),
            HookStatus(hook="normal", direction="ingress", policies=("a", "c", "b")),
            HookStatus(hook="normal", direction="egress", policies=("b",)),
        ),
        profiles=("p",),
    )


def test_workload_status_from_what_was_resolved():
    everywhere = ResourceKey("GlobalNetworkPolicy", "", "default.a")
    here, other = ResourceKey("NetworkPolicy", "shop", "default.a"), ResourceKey("NetworkPolicy", "shop", "knp.default.b")
    tiers = (
        TierPolicies("t", Action.PASS, ingress=(everywhere,)),
        TierPolicies("default", Action.DENY, ingress=(here, other), egress=(here,)),
    )
    policies = {key: Policy(key, "a", "t", None, "all()", ingress=True, egress=False) for key in (everywhere, here)}
    endpoint = ResolvedWorkload("cali1", "shop/w", ("10.0.0.5",), tiers, ("kns.shop",), ("10.9.0.0/16",), isolated=True)
    assert workload_status("cali1", endpoint, policies) == WorkloadStatus(
        name="cali1",
        endpoint="shop/w",
        addresses=("10.0.0.5",),
        isolated=True,
        hooks=(
            # A name alone would not tell a global policy from one in a namespace.
            HookStatus(hook="normal", direction="ingress", policies=("a", "shop/a", "shop/knp.default.b")),
            HookStatus(hook="normal", direction="egress", policies=("shop/a",)),
        ),
        profiles=("kns.shop",),
    )
