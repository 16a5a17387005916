"""The Vagrantfile's machines, provisioned by its scripts, and the tutorial on them: as Vagrant would, but in namespaces."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.install.vagrantfile import Definition, definitions, evaluated, validated
from tests.lab.machine import Machine
from tests.lab.probes import Listener
from tests.lab.topology import Host, Network

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.kernel, pytest.mark.timeout(1500)]


class Site(Network):
    """The machines of a Vagrantfile: a switch for each network, interfaces in the order in which Vagrant numbers them."""

    def __init__(self, defined: dict[str, Definition], debian: Path, stack: ExitStack) -> None:
        super().__init__()
        stack.callback(self.close)
        switches: dict[str, Host] = {}
        for name, definition in defined.items():
            host = self.host(name)
            for number, address in enumerate(definition.addresses, start=1):  # eth0 is Vagrant's own
                net = address.rpartition(".")[0]
                if net not in switches:
                    switches[net] = self.host(f"net{len(switches)}")
                    switches[net].ip("link add switch type bridge", "link set switch up")
                port = f"{name}-{number}"
                self.link(host, f"eth{number}", [f"{address}/24"], switches[net], port, [])
                switches[net].ip(f"link set {port} master switch")
        self.settle()
        self.machines = {name: stack.enter_context(Machine(debian, self.hosts[name])) for name in defined}
        for machine in self.machines.values():
            machine.take_checkout()

    def enterings(self, directory: Path) -> Path:
        """A program that runs a script of its stdin on the machine that is its argument, as tutorial.sh wants it."""
        cases = "\n".join(f"{name}) exec {' '.join(machine.entering())} sh -s ;;" for name, machine in self.machines.items())
        program = directory / "on"
        program.write_text(f"#!/bin/sh\ncase $1 in\n{cases}\nesac\nexit 1\n", encoding="utf-8")
        program.chmod(0o755)
        return program


@pytest.fixture(scope="module")
def site(debian: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(definitions(), debian, stack)


def test_the_vagrantfile_is_valid_and_has_what_the_tutorial_names() -> None:
    assert "Vagrantfile validated successfully" in validated()
    defined = definitions()
    assert list(defined) == ["etcd", "worker-1", "worker-2"], "the datastore first"
    assert all(name == definition.hostname for name, definition in defined.items())
    (etcd,) = defined["etcd"].addresses
    addresses = dict(re.findall(r"(\w+)=([\d.]+)", (ROOT / "vagrant/tutorial.sh").read_text(encoding="utf-8")))
    assert addresses["ETCD"] == etcd
    assert (addresses["PUBLIC"], addresses["PRIVATE"]) == defined["worker-1"].addresses
    assert addresses["CLIENT"] == defined["worker-2"].addresses[0]
    folders = {tuple(arguments) for name, arguments, _ in evaluated()["all"] if name == "synced_folder"}
    assert ("..", "/hostward") in folders
    for definition in defined.values():
        program, _, _ = definition.script.removeprefix("/hostward/").partition(" ")
        assert os.access(ROOT / program, os.X_OK)


def test_provisioning_and_the_tutorial(site: Site, tmp_path: Path) -> None:
    defined = definitions()
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: site.machines[name].provision(defined[name].script), defined))
    for name in ("worker-1", "worker-2"):
        asked = site.machines[name].calls()
        assert "enable hostward-agent.service" in asked
        assert "restart hostward-agent.service" in asked
    assert "enable etcd.service" in site.machines["etcd"].calls()
    assert not [call for call in site.machines["etcd"].calls() if call.startswith(("enable hostward", "restart hostward"))]

    with Listener(site.hosts["worker-1"], tcp=[22]):  # a virtual machine has its sshd
        done = subprocess.run(
            [str(ROOT / "vagrant/tutorial.sh")], env=os.environ | {"ON": str(site.enterings(tmp_path))},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1200, check=False,
        )  # fmt: skip
    logs = "".join(site.machines[name].run("tail -n 5 /run/*.log") for name in site.machines)
    assert done.returncode == 0, done.stdout + logs
    steps = re.split(r"^\d  ", done.stdout, flags=re.MULTILINE)
    assert len(steps) == 7
    assert "worker-1-worker-public" in steps[2], "the endpoints are shown"
    assert "public-node-port   blocked" in steps[3]
    assert steps[3].count("gets through") == 5
    assert site.hosts["worker-1"].run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "1"
