"""Changes of what a workload stores that nobody's datagrams meet: for churn, for costs by kind, and for leaks. Seeded."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random

from benchmarks import documents as d
from benchmarks import workload
from benchmarks.documents import Document
from benchmarks.sizes import Size

Change = tuple[str, Document | None]
"""A key, and what is put there; None deletes."""
Changes = Iterator[Change]
RULE, MEMBER, POLICY, LABEL = "rule edit", "set member", "policy added, removed", "pod's label"
KINDS = (RULE, MEMBER, POLICY, LABEL)
WEIGHTS = (20, 65, 10, 5)  # performance.md 4.2: most of what changes is membership


def policies_of_workloads(size: Size) -> int:
    """How many policies can be edited here."""
    return size.policies - workload.host_policies(size)


def of(size: Size, kind: str, serial: int) -> Change:
    """Change `serial` of a kind. What the first makes, the second takes back."""
    back = serial % 2 == 1
    number = serial // 2
    if kind == RULE:
        port = 0 if back else 60_000 + serial % 1_000
        return workload.workload_policy(size, number % policies_of_workloads(size), port=port)
    if kind == MEMBER:
        more = [] if back else [f"172.16.{serial // 250 % 250}.{serial % 250}/32"]
        return workload.network_set(size, 1 + number % (size.sets - 1), more=more)
    if kind == LABEL:
        app = {} if back else {"app": "moved"}
        return workload.pod(size, number % size.workloads, **app)
    key, document = d.global_policy(
        f"extra{number % 100:05}", 150, f"tier == 't{number % 2}'", ingress=[d.rule("Allow", "TCP", [50_000 + number % 100])]
    )
    return key, None if back else document


def mixed(size: Size, seed: int = 1) -> Changes:
    """Without end, the kinds by their weights; each kind goes on where it was."""
    random = Random(seed)
    serials = dict.fromkeys(KINDS, 0)
    while True:
        (kind,) = random.choices(KINDS, WEIGHTS)
        yield of(size, kind, serials[kind])
        serials[kind] += 1


def rule_edits(size: Size) -> Changes:
    """Without end: another policy's rule each time, never as it was before. What a burst undoes would be no work."""
    for serial in count():
        yield workload.workload_policy(size, serial % policies_of_workloads(size), port=50_000 + serial % 10_000)
