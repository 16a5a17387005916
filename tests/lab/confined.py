"""An agent that any test starts, but in the image and without root: as the container of deploy/daemonset.yaml, with its user.

It is the process that the test starts, which knows it by its number. The directory that holds its state is its node: it is
prepared and given to it, as `hostward prepare` does, and so are files that its environment names. Knows nothing of tests.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import yaml

from tests.lab import image
from tests.lab.container import Mount, Spec
from tests.lab.pod import Node, containers

MANIFEST = Path(__file__).parents[2] / "deploy/daemonset.yaml"
OWN = ("HOSTWARD_", "FELIX_", "ETCD_", "NODENAME", "NOTIFY_SOCKET", "WATCHDOG_", "XTABLES_LOCKFILE")


@cache
def container() -> Spec:
    """The agent's, as the manifest says."""
    (document,) = yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))
    pod = document["spec"]["template"]["spec"]
    (name,) = (container["name"] for container in pod["containers"])
    with tempfile.TemporaryDirectory() as unused:
        return containers(pod, image.build(), Node("worker", Path(unused), {"calico-config": {"etcd_endpoints": ""}}))[name]


def command(environment: Mapping[str, str]) -> list[str]:
    """What starts an agent: the manifest's container with a test's environment and files in place of the node's."""
    home = Path(environment["HOSTWARD_STATE_DIR"]).parent
    mine = {key: value for key, value in environment.items() if key.startswith(OWN)}
    mounts = [Mount("tmpfs", "/tmp"), Mount(str(home), str(home))]
    for path in filter(lambda path: not path.is_relative_to(home), named(mine)):
        give(path)
        mounts.append(Mount(str(path), str(path), read_only=True))
    Path(mine["HOSTWARD_IPTABLES_LOCK_FILE_PATH"]).touch()
    give(home)
    env = {"PATH": image.PATH, **mine}
    spec = replace(container(), command=["hostward", "agent"], env=env, mounts=mounts, processes=False)
    return spec.write(home / "container.json")


def named(environment: Mapping[str, str]) -> Iterator[Path]:
    """Files that the environment names; of a directory of manifests what holds it, as it may come and go."""
    for value in environment.values():
        path = Path(value.removeprefix("dir:"))
        if path.is_absolute() and (value.startswith("dir:") or path.exists()):
            yield path.parent if value.startswith("dir:") else path


def give(path: Path) -> None:
    """Makes a file or a directory with all that is in it the container's user's."""
    for one in (path, *path.rglob("*")):
        os.chown(one, container().user, container().group, follow_symlinks=False)
