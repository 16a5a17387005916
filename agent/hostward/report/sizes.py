"""How much there is of what: the values that the engine hands to metrics. Pure values; any thread."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal, NamedTuple

from msgspec import Struct, field

from hostward.model.resolved import Resolved
from hostward.model.resources import HostEndpoint
from hostward.model.selector_needs import needs
from hostward.model.selectors import parse
from hostward.model.sets import NamedPortSet, SelectorSet
from hostward.render.ruleset import FAMILIES, TABLES, Family, Ruleset, TableId

DatastoreState = Literal["waiting", "resync", "in-sync", "lost"]
DATASTORE_STATES: Final[tuple[DatastoreState, ...]] = ("waiting", "resync", "in-sync", "lost")


FROZEN: Final = ("waiting", "uninitialised", "not-ready", "other-cluster")
"""Why what is in force can be kept as it is (D12)."""


class TableSize(Struct, frozen=True):
    """Own chains of a table, and own rules in them and in the kernel's chains."""

    chains: int
    rules: int


class SetsSize(Struct, frozen=True):
    """Own sets of a family, all their members, and how full the fullest one is (1: it takes no more)."""

    sets: int
    members: int
    fullest: float = 0.0


class Activity(Struct, frozen=True):
    """What is in force on this host: interfaces with host endpoints and with workload endpoints, their policies, and sets.

    `selectors`: those of sets, by whether an index finds what they match. `empty_selectors` match nothing with an address;
    `without_addresses`: this host's host endpoints that a selector means in vain, as they name none.
    """

    endpoints: int = 0
    workloads: int = 0
    policies: int = 0
    sets: int = 0
    selectors: Mapping[bool, int] = field(default_factory=dict)
    empty_selectors: int = 0
    without_addresses: int = 0


class Sizes(NamedTuple):
    """All that is in the kernel and in force."""

    tables: Mapping[TableId, TableSize]
    sets: Mapping[Family, SetsSize]
    activity: Activity = Activity()


class Cluster(Struct, frozen=True):
    """How many objects the datastore holds."""

    hosts: int = 0
    host_endpoints: int = 0
    workload_endpoints: int = 0
    policies: int = 0
    profiles: int = 0
    tiers: int = 0
    network_sets: int = 0


def measured(resolved: Resolved, desired: Ruleset, own: Collection[HostEndpoint] = ()) -> Sizes:
    """How much there is of everything; costs as much as there is. `own`: this host's host endpoints."""
    tables = {TableId(family, name): TableSize(0, 0) for family in FAMILIES for name in TABLES}
    for where, table in desired.tables.items():
        hooked = sum(len(hook.first) + len(hook.last) for hook in table.hooks.values())
        tables[where] = TableSize(len(table.chains), hooked + sum(len(chain) for chain in table.chains.values()))
    sets: dict[Family, SetsSize] = {}
    for family in FAMILIES:
        mine = [held for held in desired.sets.values() if held.family == family]
        fullest = max((len(held.members) / held.max_members for held in mine), default=0.0)
        sets[family] = SetsSize(len(mine), sum(len(held.members) for held in mine), fullest)
    return Sizes(tables, sets, _activity(resolved, own))


def _activity(resolved: Resolved, own: Collection[HostEndpoint]) -> Activity:
    selectors = {ref.selector for ref in resolved.sets if isinstance(ref, SelectorSet | NamedPortSet)}
    meant = [parse(ref.selector) for ref in resolved.sets if isinstance(ref, SelectorSet)]
    addressless = [endpoint for endpoint in own if not endpoint.expected_ips]
    found = sum(needs(selector) is not None for selector in selectors)
    return Activity(
        len(resolved.endpoints),
        len(resolved.workloads),
        len(resolved.policies),
        len(resolved.sets),
        {True: found, False: len(selectors) - found},
        sum(not members for ref, members in resolved.sets.items() if isinstance(ref, SelectorSet)),
        sum(any(selector.matches(endpoint.labels) for selector in meant) for endpoint in addressless),
    )
