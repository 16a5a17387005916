"""Whose open connections must not live on: addresses that left this host's workloads, went from one to another, or came back.

An open connection passes whatever policy says now (`statements.md` H-70): one of a workload that is gone would reach the
next workload with its address. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hostward.model.resolved import ResolvedWorkload

Places = dict[str, set[tuple[str, str]]]


class Flows(NamedTuple):
    """Addresses: `gone` from all workloads, `moved` from one to another, `returned` before they were forgotten."""

    gone: frozenset[str] = frozenset()
    moved: frozenset[str] = frozenset()
    returned: frozenset[str] = frozenset()


def flows_to_forget(
    before: Mapping[str, ResolvedWorkload], after: Mapping[str, ResolvedWorkload], pending: frozenset[str] = frozenset()
) -> Flows:
    """What becomes of addresses when the workloads by interface change (H-71). `pending`: gone earlier and not forgotten yet.

    An endpoint of another name is another workload, also on the same interface.
    """
    old, new = _places(before), _places(after)
    arrived = {address for address, places in new.items() if places - old.get(address, set())}
    moved = frozenset(arrived & old.keys())
    return Flows(frozenset(old.keys() - new.keys()), moved, pending & (arrived - moved))


def have_moved(before: Mapping[str, ResolvedWorkload], after: Mapping[str, ResolvedWorkload], names: Iterable[str]) -> bool:
    """Whether any of these interfaces has another workload, or other addresses, than before; else nothing is forgotten."""
    return any(_who(before.get(name)) != _who(after.get(name)) for name in names)


def _who(workload: ResolvedWorkload | None) -> tuple[str, frozenset[str]] | None:
    return None if workload is None else (workload.endpoint, frozenset(workload.addresses))


def _places(workloads: Mapping[str, ResolvedWorkload]) -> Places:
    """Address to the interfaces and endpoints that have it."""
    places: Places = {}
    for interface, workload in workloads.items():
        for address in workload.addresses:
            places.setdefault(address, set()).add((interface, workload.endpoint))
    return places
