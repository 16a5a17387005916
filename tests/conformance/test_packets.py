"""The public conformance data by packets: a real agent, pods in namespaces, TCP and UDP by sockets, SCTP by INITs (README.md).

Every step becomes one transaction in etcd; when the agent says that its revision is applied, all packets of the step are sent
at once. Every one that must pass has to be answered; of every other one the question must not even arrive, and the packet
filter must have counted a drop on the side whose policies deny it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random

import pytest

from tests.conformance.cases import STEPS, Asked, Step
from tests.lab.podnode import PodNode

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
SAMPLE = 12
SEED = 20260711


@dataclass
class Figures:
    """What came of it all."""

    steps: int = 0
    probes: int = 0
    agreed: int = 0
    again: int = 0
    to_itself: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"conformance: {self.steps} steps, {self.probes} probes, {self.agreed} agreed ({self.again} at the second try), "
            f"{self.to_itself} from a pod to itself not applicable, {self.seconds:.0f} s"
        )


@pytest.fixture
def node() -> Iterator[PodNode]:
    with ExitStack() as stack:
        yield PodNode(stack)


def differences(node: PodNode, step: Step, figures: Figures) -> Iterator[str]:
    """Where a step's packets don't do what the data says."""
    node.have({name: [address] for name, address in step.addresses.items()})
    node.enforce(step.objects())
    all_asked = list(step.asked())
    asked = [one for one in all_asked if not one.is_to_itself]
    before = node.drops()
    verdicts = node.ask([one.packet for one in asked], [one.expected == "11" for one in asked])
    dropped = node.drops() - before
    figures.steps += 1
    figures.probes += len(asked)
    figures.to_itself += len(all_asked) - len(asked)
    for one, verdict in zip(asked, verdicts, strict=True):
        passes = one.expected == "11"
        figures.again += verdict.again
        if verdict.passed != passes or (verdict.heard and not passes):
            came = "arrived" if verdict.heard else "didn't arrive"
            yield f"{step.label} {one.name}: expected {one.expected}, {verdict.outcome.result}, the question {came}"
        else:
            figures.agreed += 1
    for (address, direction), least in expected_drops(asked).items():
        # More than least where TCP tried again by itself; none where no policy denies.
        if dropped[address, direction] < least or (not least and dropped[address, direction]):
            yield f"{step.label} {address} {direction}: {dropped[address, direction]} drops where {least} packets are denied"


def expected_drops(asked: Iterable[Asked]) -> dict[tuple[str, str], int]:
    """How many packets each pod's policies deny, by its address and their direction; a packet that doesn't get out isn't asked
    in."""
    found: dict[tuple[str, str], int] = {}
    for one in asked:
        into, out = tuple(one.expected)
        for address, direction, denies in (
            (one.packet.source, "egress", out == "0"),
            (one.packet.destination, "ingress", out == "1" and into == "0"),
        ):
            found[address, direction] = found.get((address, direction), 0) + denies
    return found


def run(node: PodNode, steps: Iterable[Step]) -> Figures:
    """All steps, one after the other in the same cluster."""
    figures, began = Figures(), time.monotonic()
    wrong = [difference for step in steps for difference in differences(node, step, figures)]
    figures.seconds = time.monotonic() - began
    print(figures)
    assert wrong == [], f"{len(wrong)} of {figures.probes}"
    return figures


def test_a_sample(node: PodNode) -> None:
    figures = run(node, sorted(Random(SEED).sample(STEPS, SAMPLE), key=lambda step: step.place))
    assert figures.steps == SAMPLE


@pytest.mark.conformance
@pytest.mark.timeout(3600)
def test_everything(node: PodNode, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        figures = run(node, STEPS)
    assert figures.steps == len(STEPS)
