"""An agent that any test starts, but in the image and without root: as the container of deploy/daemonset.yaml, with its user.

    python -m tests.lab.confined agent

It becomes this process, so that tests know it by its number. The directory that holds its state is its node: it is prepared and
given to it, as `hostward prepare` does, and so are files that its environment names. Knows nothing of what a test does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml

from tests.lab import image
from tests.lab.container import Mount, Spec, run
from tests.lab.pod import Node, containers

MANIFEST = Path(__file__).parents[2] / "deploy/daemonset.yaml"
OWN = ("HOSTWARD_", "FELIX_", "ETCD_", "NODENAME", "NOTIFY_SOCKET", "WATCHDOG_", "XTABLES_LOCKFILE")


def spec(arguments: list[str], environment: dict[str, str]) -> Spec:
    """The agent's container, with a test's environment and files in place of the manifest's and the node's."""
    (document,) = yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))
    pod = document["spec"]["template"]["spec"]
    (name,) = (container["name"] for container in pod["containers"])
    home = Path(environment["HOSTWARD_STATE_DIR"]).parent
    maps = {"calico-config": {"etcd_endpoints": ""}}
    manifest = containers(pod, image.build(), Node("worker", home / "unused", maps))[name]
    mine = {key: value for key, value in environment.items() if key.startswith(OWN)}
    mounts = [Mount("tmpfs", "/tmp"), Mount(str(home), str(home))]
    for path in filter(lambda path: not path.is_relative_to(home), named(mine)):
        give(path, manifest)
        mounts.append(Mount(str(path), str(path), read_only=True))
    Path(mine["HOSTWARD_IPTABLES_LOCK_FILE_PATH"]).touch()
    give(home, manifest)
    command = ["hostward", *arguments]
    return replace(manifest, command=command, env={"PATH": image.PATH, **mine}, mounts=mounts, processes=False)


def named(environment: dict[str, str]) -> Iterator[Path]:
    """Files that the environment names; of a directory of manifests what holds it, as it may come and go."""
    for value in environment.values():
        path = Path(value.removeprefix("dir:"))
        if path.is_absolute() and (value.startswith("dir:") or path.exists()):
            yield path.parent if value.startswith("dir:") else path


def give(path: Path, to: Spec) -> None:
    """Makes a file or a directory with all that is in it the container's user's."""
    for one in (path, *path.rglob("*")):
        os.chown(one, to.user, to.group, follow_symlinks=False)


if __name__ == "__main__":
    sys.exit(run(spec(sys.argv[1:], dict(os.environ))))
