"""How much there is of what: the values that the engine hands to metrics. Pure values; any thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from hostward.model.resolved import Resolved
from hostward.render.ruleset import FAMILIES, TABLES, Family, Ruleset, TableId

DatastoreState = Literal["waiting", "resync", "in-sync", "lost"]
DATASTORE_STATES: Final[tuple[DatastoreState, ...]] = ("waiting", "resync", "in-sync", "lost")


@dataclass(frozen=True, slots=True)
class TableSize:
    """Own chains of a table, and own rules in them and in the kernel's chains."""

    chains: int
    rules: int


@dataclass(frozen=True, slots=True)
class SetsSize:
    """Own sets of a family and all their members."""

    sets: int
    members: int


@dataclass(frozen=True, slots=True)
class Activity:
    """What is in force on this host: interfaces with host endpoints and with workload endpoints, their policies, and sets."""

    endpoints: int = 0
    workloads: int = 0
    policies: int = 0
    sets: int = 0


class Sizes(NamedTuple):
    """All that is in the kernel and in force."""

    tables: Mapping[TableId, TableSize]
    sets: Mapping[Family, SetsSize]
    activity: Activity


@dataclass(frozen=True, slots=True)
class Cluster:
    """How many objects the datastore holds."""

    hosts: int = 0
    host_endpoints: int = 0
    workload_endpoints: int = 0
    policies: int = 0
    profiles: int = 0
    tiers: int = 0


def measured(resolved: Resolved, desired: Ruleset) -> Sizes:
    """How much there is of everything; costs as much as there is."""
    tables = {TableId(family, name): TableSize(0, 0) for family in FAMILIES for name in TABLES}
    for where, table in desired.tables.items():
        hooked = sum(len(hook.first) + len(hook.last) for hook in table.hooks.values())
        tables[where] = TableSize(len(table.chains), hooked + sum(len(chain) for chain in table.chains.values()))
    sets: dict[Family, SetsSize] = {}
    for family in FAMILIES:
        mine = [held for held in desired.sets.values() if held.family == family]
        sets[family] = SetsSize(len(mine), sum(len(held.members) for held in mine))
    activity = Activity(len(resolved.endpoints), len(resolved.workloads), len(resolved.policies), len(resolved.sets))
    return Sizes(tables, sets, activity)
