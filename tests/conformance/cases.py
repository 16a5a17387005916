"""The public conformance data as values: its steps, their clusters, what is asked of them (README.md beside this file)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.lab.pipeline import NODE
from tests.lab.pod_model import Packet

FILE: Final = Path(__file__).with_name("networkpolicy-cases.json.gz")
CASES: Final[list[dict[str, Any]]] = json.loads(gzip.decompress(FILE.read_bytes()))
POLICY: Final = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
PORTS: Final = [
    {"containerPort": port, "name": f"serve-{port}-{protocol.lower()}", "protocol": protocol}
    for port in (80, 81)
    for protocol in ("TCP", "UDP", "SCTP")
]


@dataclass(frozen=True)
class Asked:
    """One packet of a step: its key in the data, the pods as `namespace/name`, and `expected`: ingress bit, egress bit."""

    name: str
    source: str
    destination: str
    packet: Packet
    expected: str

    @property
    def is_to_itself(self) -> bool:
        """Whether the packet would never leave its pod."""
        return self.source == self.destination


@dataclass(frozen=True)
class Step:
    """A state of the cluster. `place` is its case and its number in it."""

    place: tuple[int, int]
    content: dict[str, Any]

    @property
    def label(self) -> str:
        """A word for a test's name."""
        return f"{self.place[0]:03}-{self.place[1]}"

    @property
    def description(self) -> str:
        """What the case is about."""
        return str(CASES[self.place[0]]["description"])

    @property
    def addresses(self) -> dict[str, str]:
        """The pods and their addresses."""
        return {name: pod["ip"] for name, pod in self.content["pods"].items()}

    def objects(self) -> Iterator[dict[str, Any]]:
        """The Kubernetes objects of the cluster."""
        for name, labels in self.content["namespaces"].items():
            yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        for name, pod in self.content["pods"].items():
            namespace, _, own = name.partition("/")
            yield {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": own, "namespace": namespace, "labels": pod["labels"]},
                "spec": {"nodeName": NODE, "containers": [{"name": "serve", "ports": PORTS}]},
                "status": {"phase": "Running", "podIP": pod["ip"]},
            }
        for policy in self.content["policies"] or ():
            yield POLICY | policy

    def asked(self) -> Iterator[Asked]:
        """All packets of the step with what must become of them."""
        for name, expected in self.content["results"].items():
            pods, _, service = name.rpartition(":")
            source, destination = pods.split(">")
            protocol, port = service.split("/")
            packet = Packet(self.addresses[source], self.addresses[destination], protocol, int(port))
            yield Asked(name, source, destination, packet, expected)


STEPS: Final = [
    Step((case, number), content) for case, found in enumerate(CASES) for number, content in enumerate(found["steps"])
]
