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
EXTRA = 100  # policies that come and go
WINDOW = 20
WEIGHTS = (20, 65, 10, 5)  # statements.md performance 4.2: most of what changes is membership


def policies_of_workloads(size: Size) -> int:
    """How many policies can be edited here."""
    return size.policies - workload.host_policies(size)


def targets(size: Size, kind: str) -> int:
    """Among how many objects the changes of a kind go round."""
    found = {RULE: policies_of_workloads(size), MEMBER: size.sets - 1, LABEL: size.workloads, POLICY: EXTRA}
    return found[kind]


def window(size: Size, kind: str) -> int:
    """So many changes are made before they are taken back in turn: a burst must not undo itself, that would be no work."""
    return min(WINDOW, targets(size, kind))


def of(size: Size, kind: str, serial: int) -> Change:
    """Change `serial` of a kind; after `window` more it is taken back."""
    wide = window(size, kind)
    turn, at = divmod(serial, 2 * wide)
    back = at >= wide
    nth = turn * wide + at % wide
    number = nth % targets(size, kind)
    if kind == RULE:
        return workload.workload_policy(size, number, port=0 if back else 60_000 + nth % 1_000)
    if kind == MEMBER:
        more = [] if back else [f"172.16.{nth // 250 % 250}.{nth % 250}/32"]
        return workload.network_set(size, 1 + number, more=more)
    if kind == LABEL:
        app = {} if back else {"app": "moved"}
        return workload.pod(size, number, **app)
    key, document = d.global_policy(
        f"extra{number:05}", 150, f"tier == 't{number % 2}'", ingress=[d.rule("Allow", "TCP", [50_000 + number])]
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
