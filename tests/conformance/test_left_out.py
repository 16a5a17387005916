"""What the public data leaves out: as values through the whole pipeline, and by packets through a real agent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conformance import corners_alone as alone
from tests.conformance import corners_beside as beside
from tests.conformance import corners_ports as ports
from tests.conformance.corner_cluster import PODS, TCP, UDP, Case
from tests.lab.kubernetes_model import Cluster
from tests.lab.pipeline import Node
from tests.lab.podnode import PodNode

GROUPS = {
    "families": alone.FAMILIES,
    "blocks": alone.BLOCKS,
    "ports": ports.PORTS,
    "ICMP": alone.PINGS,
    "labels": alone.LABELS,
    "order": beside.ORDER,
    "administrators": beside.ADMINISTRATORS,
    "services": beside.SERVICES,
}
CASES = [case for group in GROUPS.values() for case in group]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_as_values(case: Case) -> None:
    node = Node(case.cluster)
    for packet, passes in case.asked():
        assert all(node.verdict(packet)) == passes, packet
        if case.plain:
            assert node.verdict(packet) == Cluster(case.cluster).verdict(packet), packet


@pytest.fixture(scope="module")
def node() -> Iterator[PodNode]:
    with ExitStack() as stack:
        node = PodNode(stack, tcp=TCP, udp=UDP)
        node.have(PODS)
        yield node


@pytest.mark.kernel
@pytest.mark.etcd
@pytest.mark.parametrize("group", GROUPS)
def test_by_packets(node: PodNode, group: str) -> None:
    wrong = []
    for case in GROUPS[group]:
        node.enforce(case.cluster)
        packets, expected = zip(*case.asked(), strict=True)
        for packet, passes, verdict in zip(packets, expected, node.ask(packets, expected), strict=True):
            if verdict.passed != passes or (verdict.heard and not passes):
                wrong.append((case.name, packet, f"passes: {passes}", verdict))
    assert wrong == []
