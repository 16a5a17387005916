"""`make install` and `make uninstall` on a machine, as an operator runs them."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostward.model.setting_sources import resolve
from tests.lab.machine import Machine
from tests.lab.topology import Host

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]


@pytest.fixture
def machine(debian: Path) -> Iterator[Machine]:
    namespace = Host("bare")
    try:
        with Machine(debian, namespace) as machine:
            machine.take_checkout()
            yield machine
    finally:
        namespace.close()


def block(number: int) -> list[str]:
    """The commands of one block of shell under "A host" in docs/install.md."""
    section = (ROOT / "docs/install.md").read_text(encoding="utf-8").split("## A host\n")[1].split("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)[number].splitlines()


def test_docs_install_upgrade_and_remove_without_harm(machine: Machine) -> None:
    packages, install = block(0)
    # As where nobody but root may read what root makes.
    assert "installed in /opt/hostward" in machine.provision(f"umask 077 && cd /hostward && {packages} && {install}")
    assert machine.calls() == ["daemon-reload", "try-restart hostward-agent.service"]
    for unit in (ROOT / "systemd").glob("*.service"):
        assert (machine.root / "usr/lib/systemd/system" / unit.name).read_bytes() == unit.read_bytes()
    assert (machine.root / "usr/lib/sysusers.d/hostward.conf").exists()
    assert "hostward" in machine.run("id hostward")
    assert "pip" not in machine.run("ls /opt/hostward/bin /opt/hostward/lib/python3*/site-packages")
    settings = machine.root / "etc/hostward/agent.env"
    assert stat.S_IMODE(settings.stat().st_mode) == 0o640
    assert machine.run("stat -c %U:%G /etc/hostward/agent.env").strip() == "root:hostward"

    manifests = machine.root / "etc/hostward/manifests"
    manifests.mkdir()
    (manifests / "all.yaml").write_text(GUARDED)
    settings.write_text("HOSTWARD_DATASTORE=dir:/etc/hostward/manifests\nNODENAME=bare\n")
    machine.run("ip link add lan type veth peer name other")
    check, enable, ask = block(1)
    checked = machine.run(f"{check} || true")
    assert re.search(r"^ok +capabilities", checked, flags=re.MULTILINE), checked
    machine.run(enable)
    guards = "for i in $(seq 300); do iptables-legacy -S | grep -q 8443 && exit 0; sleep 0.1; done; cat /run/*.log; exit 1"
    machine.run(guards)
    assert "bare-lan" in machine.run(ask)
    assert "hostward" in machine.run("stat -c %U /proc/$(cat /run/hostward-agent.service.pid)")

    began = machine.run("cat /run/hostward-agent.service.pid")
    (upgrade,) = block(2)
    assert "agent.env stays as it is" in machine.provision(f"cd /hostward && {upgrade}")
    assert settings.read_text().startswith("HOSTWARD_DATASTORE"), "the operator's settings are the operator's"
    assert machine.run("cat /run/hostward-agent.service.pid") != began, "the new version runs"
    assert not list((machine.root / "opt").glob("hostward.*"))

    twice = (
        'for i in $(seq 300); do [ "$(grep -c "agent starts" /run/hostward-agent.service.log)" = 2 ] && exit 0; sleep 0.1; done'
    )
    machine.run(f"{twice}; exit 1")

    running = machine.run("cat /run/hostward-agent.service.pid")
    file = machine.root / "etc/hostward/agent.toml"
    file.write_text("unheardOf = 1\n")
    with pytest.raises(RuntimeError, match=r"(?s)unheardOf.*nothing was changed"):
        machine.provision(f"cd /hostward && {upgrade}")
    assert machine.run("cat /run/hostward-agent.service.pid; hostward version").startswith(running)
    file.write_text("")
    assert not list((machine.root / "opt").glob("hostward.*"))

    stop, clean, remove = block(3)
    with pytest.raises(RuntimeError, match=f"the agent runs. Stop it first:  {stop}"):
        machine.run(f"cd /hostward && {remove}")
    machine.run(stop)
    with pytest.raises(RuntimeError, match=f"Remove them: *{clean}"):
        machine.run(f"cd /hostward && {remove}")
    machine.run(f"test -x /opt/hostward/bin/hostward; {guards}")
    machine.run(clean)
    machine.run(f"cd /hostward && {remove}")
    for path in ("opt/hostward", "usr/local/bin/hostward", "usr/lib/systemd/system/hostward-agent.service"):
        assert not os.path.lexists(machine.root / path)
    assert settings.exists()


def test_rules_stay_when_asked_to(machine: Machine) -> None:
    machine.run("iptables-legacy -N hw-in")
    with pytest.raises(RuntimeError, match="KEEP_RULES=yes"):
        machine.run("make -C /hostward uninstall")
    assert "removed" in machine.run("make -C /hostward uninstall KEEP_RULES=yes")
    assert "hw-in" in machine.run("iptables-legacy -S")


def test_a_package_is_staged_without_touching_the_machine(machine: Machine) -> None:
    machine.provision("make -C /hostward install DESTDIR=/tmp/stage PREFIX=/usr && chown -R 1000 /tmp/stage")
    listed = machine.run(
        "cd /tmp/stage && find . ! -type d ! -path './opt/hostward/lib/*' -printf '%p %l\\n' | sort"
    ).splitlines()
    assert "./usr/bin/hostward /opt/hostward/bin/hostward" in [line.strip() for line in listed]
    assert machine.run("head -1 /tmp/stage/opt/hostward/bin/hostward") == "#!/opt/hostward/bin/python3\n"
    assert "./opt/hostward/docs/runbooks/README.md" in [line.strip() for line in listed]
    assert not (machine.root / "opt/hostward").exists()
    assert not (machine.root / "etc/hostward").exists()
    assert machine.calls() == []
    machine.run("make -C /hostward uninstall DESTDIR=/tmp/stage PREFIX=/usr")
    left = machine.run("cd /tmp/stage && find . ! -type d").split()
    assert sorted(left) == ["./etc/hostward/agent.env", "./etc/hostward/agent.toml"]


def test_it_says_what_is_missing(machine: Machine) -> None:
    machine.run("rm /usr/bin/cc /usr/sbin/iptables-legacy-restore")
    with pytest.raises(RuntimeError, match=r"apt-get install --no-install-recommends gcc libc6-dev iptables"):
        machine.provision("make -C /hostward install")
    assert not (machine.root / "opt/hostward").exists()


def test_the_examples_are_good_settings() -> None:
    text = re.sub(r"^#(\w+ = )", r"\1", (ROOT / "systemd/agent.toml").read_text(), flags=re.MULTILINE)
    file = tomllib.loads(text)
    assert set(file) == {"nodeName", "failsafeInboundHostPorts"}
    lines = re.findall(r"^#(\w+)=(.+)$", (ROOT / "systemd/agent.env").read_text(), flags=re.MULTILINE)
    assert len(lines) == 5
    resolved = resolve(dict(lines), file, None, None, "elsewhere")
    assert not resolved.errors
    assert not resolved.notices
    assert resolved.settings.node_name == "worker-1"


GUARDED = """
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: bare-lan, labels: {role: bare}}
spec: {node: bare, interfaceName: lan}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: web}
spec:
  selector: role == 'bare'
  ingress:
  - {action: Allow, protocol: TCP, destination: {ports: [8443]}}
"""
