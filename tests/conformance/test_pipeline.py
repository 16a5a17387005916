"""Every verdict of the public conformance data, on the packet filter that the agent would make of its objects, as values."""

from __future__ import annotations

import pytest

from tests.conformance.cases import STEPS, Step
from tests.lab.pipeline import Node


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.label)
def test_step(step: Step) -> None:
    node = Node(step.objects())
    wrong = [
        (asked.name, f"expected {asked.expected}, got {got}")
        for asked in step.asked()
        if (got := "".join(str(int(bit)) for bit in node.verdict(asked.packet))) != asked.expected
    ]
    assert wrong == [], step.description
