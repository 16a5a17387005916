"""What the controller serves is what docs/metrics.md lists."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from prometheus_client.parser import text_string_to_metric_families

from hostward.controller.inbox import Inbox
from hostward.controller.telling import Teller
from hostward.datastore.etcd.lease import Leadership
from hostward.kube.reflector import Reflector
from hostward.report.health import HealthBoard

PAGE = Path(__file__).parents[2] / "docs/metrics.md"
ROW = re.compile(r"^\| `(hostward_controller_\w+)` \| (\w+) \| ([\w, ]*) ?\|", re.MULTILINE)


def test_every_family_is_documented_with_its_type_and_labels() -> None:
    leadership = SimpleNamespace(terms=1, leader="here", trouble="")
    reflector = SimpleNamespace(
        resource=SimpleNamespace(plural="pods"), lists=1, watches=1, forbidden=False, absent=False, errors={"gone": 1}
    )
    reflectors = cast("list[Reflector]", [reflector])
    teller = Teller(HealthBoard(time.monotonic), Inbox([]), cast("Leadership", leadership), reflectors)
    listed = {name: (kind, re.findall(r"\w+", labels)) for name, kind, labels in ROW.findall(PAGE.read_text(encoding="utf-8"))}
    served = {}
    for family in text_string_to_metric_families(teller.text().decode()):
        if family.name.startswith("hostward_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            served[name] = family.type
            for sample in family.samples:
                assert set(sample.labels) == set(listed[name][1]), name
    assert served == {name: kind for name, (kind, _) in listed.items()}
