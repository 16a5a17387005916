"""What vagrant/Vagrantfile defines: validated by Vagrant, and evaluated without it (vagrantfile.rb), in a Debian root."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.lab import image
from tests.lab.container import Mount

HERE = Path(__file__).parent
VAGRANT = """
FROM debian:bookworm-slim
RUN apt-get update -q && apt-get install -q -y --no-install-recommends vagrant && rm -rf /var/lib/apt/lists/* /var/cache/*
"""
FILE = HERE.parents[1] / "vagrant/Vagrantfile"


@dataclass(frozen=True)
class Definition:
    """A machine: its host name, the addresses of its interfaces after Vagrant's own, and the script that provisions it."""

    hostname: str
    addresses: tuple[str, ...]
    script: str


@cache
def evaluated() -> dict[str, Any]:
    """Every call that the file makes: for all machines, and for each."""
    found: dict[str, Any] = json.loads(_run("ruby --disable-gems /evaluate/vagrantfile.rb /vagrant/Vagrantfile"))
    return found


def validated() -> str:
    """What Vagrant says of the file; RuntimeError if it isn't valid."""
    return _run("cd /vagrant && vagrant validate --ignore-provider")


def _run(command: str) -> str:
    mounts = [Mount(str(FILE.parent), "/vagrant"), Mount(str(HERE), "/evaluate")]
    return image.run(image.made(VAGRANT, "vagrant")[0], command, mounts=mounts, env={"HOME": "/tmp"})


def definitions() -> dict[str, Definition]:
    """The machines by name, in the order in which they start."""
    return {name: _definition(calls) for name, calls in evaluated()["machines"].items()}


def _definition(calls: list[tuple[str, list[str], dict[str, str]]]) -> Definition:
    (hostname,) = (arguments[0] for name, arguments, _ in calls if name == "hostname=")
    networks = [(arguments, options) for name, arguments, options in calls if name == "network"]
    assert all(arguments == ["private_network"] for arguments, _ in networks)
    (provision,) = ((arguments, options) for name, arguments, options in calls if name == "provision")
    assert provision[0] == ["shell"]
    return Definition(hostname, tuple(options["ip"] for _, options in networks), provision[1]["inline"])
