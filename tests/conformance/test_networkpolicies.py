"""Every verdict of the public conformance data, on what the converter makes of its objects (README.md beside this file)."""

from __future__ import annotations

import pytest

from tests.conformance.cases import CASES, STEPS, Step
from tests.lab.pipeline import documents
from tests.lab.pod_model import World

VERDICTS = 123_669
SELF_PROBES = 13_713


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.label)
def test_step(step: Step) -> None:
    model = World(documents(step.objects()))
    wrong = [
        (asked.name, f"expected {asked.expected}, got {got}")
        for asked in step.asked()
        if (got := "".join(str(int(bit)) for bit in model.verdict(asked.packet))) != asked.expected
    ]
    assert wrong == [], step.description


def test_nothing_of_the_data_is_left_out() -> None:
    asked = [one for step in STEPS for one in step.asked()]
    assert len(asked) == VERDICTS
    assert sum(one.is_to_itself for one in asked) == SELF_PROBES
    assert all(step["probe"] is None for case in CASES for step in case["steps"])
