"""An agent that runs as a manifest says, in containers of the image: the init containers to their end, then the agent.

Otherwise an `Agent` as any: killed, restarted, asked. The node's files are in its home and outlive its processes.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.lab.agent import ROOT, Agent
from tests.lab.container import Spec
from tests.lab.image import Image
from tests.lab.netns import Namespace
from tests.lab.pod import Node, containers


class PodAgent(Agent):
    """The agent of a pod in a namespace that stands for the node's network."""

    def __init__(
        self,
        namespace: Namespace,
        pod: Mapping[str, Any],
        image: Image,
        *,
        config_maps: Mapping[str, Mapping[str, str]],
        secrets: Mapping[str, Mapping[str, str]] | None = None,
        **changes: Any,
    ) -> None:
        """`changes`: fields of the agent's `Spec` to be other than the manifest and the runtime make them."""
        super().__init__(namespace, start=False)
        # Any user must come through to what the pod mounts.
        self.home.chmod(0o755)
        files = self.home / "node"
        self.state, self.lock_file = files / "var/lib/hostward", files / "run/xtables.lock"
        self.specs = containers(pod, image, Node(self.node, files, config_maps, secrets or {}))
        self.first = [self.specs[container["name"]] for container in pod.get("initContainers", ())]
        (name,) = (container["name"] for container in pod["containers"])
        self.spec = replace(self.specs[name], env={**self.specs[name].env, "HOSTWARD_LOG_FORMAT": "json"}, **changes)
        self.env = {key: value for key, value in self.spec.env.items() if key.startswith("HOSTWARD_")}  # where it answers

    def start(self) -> None:
        """Runs the init containers, starts the agent and returns at once."""
        assert self.process is None, "the agent is already running"
        for spec in self.first:
            done = self.run(spec)
            assert done.returncode == 0, f"{spec.command}: {done.stdout}{done.stderr}"
        with self.log_file.open("a", encoding="utf-8") as log:
            options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True}
            self.process = self.namespace.popen(*self.spec.write(self.home / "agent.json"), cwd=ROOT, **options)

    def run(self, spec: Spec) -> subprocess.CompletedProcess[str]:
        """Runs a container in the node's network to its end."""
        command = ["ip", "netns", "exec", self.namespace.name, *spec.write(self.home / "run.json")]
        return subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command as `kubectl exec` does: another process with all that the agent's container was given."""
        return self.run(replace(self.spec, command=command))

    def status(self) -> dict[str, Any]:
        """The content of its status.json. Each process of a pod is number 1 to itself, so an old one's can't be told apart."""
        process, self.process = self.process, None
        try:
            return super().status()
        finally:
            self.process = process

    @property
    def inside(self) -> int:
        """The agent's own process, by its number outside: the child of the one that made the container."""
        (child,) = subprocess.run(
            ["pgrep", "-P", str(self.pid)], capture_output=True, text=True, check=True, timeout=10
        ).stdout.split()
        return int(child)
