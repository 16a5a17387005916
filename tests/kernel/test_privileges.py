"""The agent with no more privileges than its systemd unit and its DaemonSet give it: CAP_NET_ADMIN and CAP_NET_RAW."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.agent import COMMAND, clean_environment
from tests.lab.netns import Namespace

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs util-linux's setpriv")]

ENDPOINT = """
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: worker-lan, labels: {role: worker}}
spec: {node: worker, interfaceName: lan}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: office, labels: {role: office}}
spec: {nets: [192.0.2.0/24]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: office}
spec:
  selector: role == 'worker'
  ingress:
  - {action: Allow, protocol: TCP, source: {selector: role == 'office'}, destination: {ports: [8443]}}
"""


def can_read(user: str) -> bool:
    """Whether a user may run the checkout: its parents may be somebody's private directories."""
    command = ["setpriv", "--reuid", user, "--clear-groups", *COMMAND, "--help"]
    return (
        subprocess.run(command, capture_output=True, timeout=30, check=False, env=clean_environment(), cwd="/").returncode == 0
    )


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that every user can enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="hostward-caps-") as name:
        yield Path(name)


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_two_capabilities_are_enough(home: Path, user: str) -> None:
    if not can_read(user):
        pytest.skip(f"{user} can't read this checkout")
    manifests, state, lock = home / "manifests", home / "state", home / "xtables.lock"
    for directory in (manifests, state):
        directory.mkdir()
    (manifests / "all.yaml").write_text(ENDPOINT, encoding="utf-8")
    lock.touch()
    for path in (home, manifests, state, lock):
        shutil.chown(path, user)
    capabilities = "-all,+net_admin,+net_raw"
    identity = [] if user == "root" else ["--reuid", user, "--clear-groups", f"--ambient-caps={capabilities}"]
    confined = [
        "setpriv", "--no-new-privs", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}", *identity,
        *COMMAND, "agent", "--datastore", f"dir:{manifests}",
    ]  # fmt: skip
    environ = clean_environment() | {
        "NODENAME": "worker",
        "HOSTWARD_STATE_DIR": str(state),
        "HOSTWARD_IPTABLES_LOCK_FILE_PATH": str(lock),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    namespace = Namespace("caps")
    agent = None
    try:
        namespace.run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "other")
        namespace.run("ip", "link", "set", "lan", "up")
        with (home / "log").open("w") as log:
            agent = namespace.popen(*confined, env=environ, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while "hw-" not in (rules := namespace.run("iptables-legacy-save")) or "8443" not in rules:
            assert agent.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline, (home / "log").read_text()
            time.sleep(0.05)
        assert "192.0.2.0/24" in namespace.run("ipset", "save")
        fields = dict(line.split(":\t") for line in Path(f"/proc/{agent.pid}/status").read_text().splitlines() if ":\t" in line)
        assert int(fields["CapEff"], 16) == 1 << 12 | 1 << 13
    finally:
        if agent is not None:
            agent.kill()
            agent.wait(10)
        namespace.close()
