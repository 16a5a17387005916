"""A real systemd boots with our units: rules before the network, an agent that is ready, watched, and always started again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hostward.dataplane.saved_rules import FILE, read
from hostward.engine.memory import FILE as MEMORY
from tests.lab import saved
from tests.lab.booted import Machine, why_not
from tests.lab.netns import Namespace

pytestmark = pytest.mark.kernel
AGENT, BOOT, NETWORK = "hostward-agent.service", "hostward-boot.service", "network-manager.service"
MANAGER = """
[Unit]
DefaultDependencies=no
After=network-pre.target
Before=network.target
Wants=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'iptables-legacy-save >/shared/v4; ip6tables-legacy-save >/shared/v6'
[Install]
WantedBy=multi-user.target
"""
ENDPOINT = """
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: w0}
spec: {node: worker, interfaceName: eth0}
"""


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    if reason := why_not():
        pytest.skip(reason)
    made = Namespace("machine")
    yield made
    made.close()


def boot(namespace: Namespace, state: Path, datastore: str) -> Machine:
    """A boot of the machine; whoever brings the network up notes which rules there are."""
    environment = {"HOSTWARD_DATASTORE": datastore, "HOSTWARD_NODE_NAME": "worker", "ETCD_ENDPOINTS": "http://127.0.0.1:9"}
    return Machine(
        namespace, state, units={NETWORK: MANAGER}, environment=environment, drop_in="WatchdogSec=5\nTimeoutAbortSec=1\n"
    )  # fmt: skip


def wait_ready(machine: Machine) -> None:
    ready = "what the datastore says is in force"
    machine.wait(ready, lambda: machine.show(AGENT, "StatusText")["StatusText"] == ready)


def guards(path: Path) -> bool:
    return "-A hw-INPUT -i eth0 -g hw-fh-eth0" in path.read_text()


def test_a_host_boots_and_boots_again_without_its_datastore(namespace: Namespace, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with boot(namespace, state, "dir:/shared") as machine:
        (machine.shared / "endpoint.yaml").write_text(ENDPOINT)
        machine.wait_active(AGENT)
        wait_ready(machine)
        assert "nothing is guarded until the agent runs" in machine.journal(BOOT)
        assert not guards(machine.shared / "v4"), "the first time nobody knows what to guard"
        machine.wait("the endpoint is guarded", lambda: "hw-fh-eth0" in namespace.run("iptables-legacy-save"))

        # Not root, two capabilities, a filter, by systemd itself.
        agent = machine.show(AGENT, "MainPID", "User", "NRestarts")
        assert (agent["User"], agent["NRestarts"]) == ("hostward", "0")
        process = dict(
            line.split(":\t", 1)
            for line in machine.run("cat", f"/proc/{agent['MainPID']}/status").splitlines()
            if ":\t" in line
        )
        assert "0" not in process["Uid"].split()
        assert {process[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0000000000003000"}
        assert (process["NoNewPrivs"], process["Seccomp"]) == ("1", "2")

        # One that hangs is ended and started anew; what it enforced stays.
        before = saved.everything(namespace)
        machine.run("kill", "-STOP", agent["MainPID"])
        machine.wait("another agent runs", lambda: machine.show(AGENT, "NRestarts")["NRestarts"] != "0")
        machine.wait_active(AGENT)
        wait_ready(machine)
        assert saved.everything(namespace) == before
        assert "watchdog" in machine.run("journalctl", "-o", "cat", "--no-pager", "_PID=1").lower()

        # An orderly end keeps the last rules.
        (state / FILE).unlink(missing_ok=True)
        machine.run("systemctl", "stop", AGENT)
        assert machine.show(AGENT, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
        assert saved.everything(namespace) == before
        assert read((state / FILE).read_bytes()).families.keys() == {4, 6}

    # Who is that user can leave links there, for whoever comes after it. This one's end is root's, and empty.
    (state / MEMORY).unlink()
    (state / MEMORY).symlink_to("/etc/.pwd.lock")
    again = Namespace("machine")
    try:
        with boot(again, state, "etcd") as machine:
            machine.wait_active(AGENT)  # with no etcd, but not before it has tried for a while
            assert "are in force" in machine.journal(BOOT)
            assert machine.run("stat", "-c", "%s", "/etc/.pwd.lock").strip() == "0"
            assert guards(machine.shared / "v4")
            assert guards(machine.shared / "v6")
            done = machine.show(BOOT, "ExecMainExitTimestampMonotonic")["ExecMainExitTimestampMonotonic"]
            began = machine.show(NETWORK, "ExecMainStartTimestampMonotonic")["ExecMainStartTimestampMonotonic"]
            assert 0 < int(done) < int(began)
            assert "Datastore: " in machine.show(AGENT, "StatusText")["StatusText"]
            machine.wait_active("multi-user.target")
    finally:
        again.close()
