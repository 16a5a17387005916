"""How much there is of what: the values that the engine hands to metrics. Pure values; any thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

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


@dataclass(frozen=True, slots=True)
class Cluster:
    """How many objects the datastore holds."""

    hosts: int = 0
    host_endpoints: int = 0
    workload_endpoints: int = 0
    policies: int = 0
    profiles: int = 0
    tiers: int = 0
