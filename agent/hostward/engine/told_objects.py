"""What the engine tells of stored objects: how many there are, which are set aside and why, which lack an interface here.

Engine thread only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from itertools import chain, islice
from typing import Final

from hostward.datastore.feed import Unread
from hostward.engine.cut_off import CutOff
from hostward.engine.intake import Intake
from hostward.engine.mailbox import Batch
from hostward.model import keys
from hostward.model.keys import ResourceKey
from hostward.model.links import Link
from hostward.model.resolved import ANY_INTERFACE, Resolved, Scope
from hostward.model.resources import HostEndpoint, Resource
from hostward.report import status
from hostward.report.logs import get_logger
from hostward.report.metrics import Metrics
from hostward.report.sizes import Cluster

log = get_logger()
MOST_NAMES: Final = 20
MANIFEST: Final = "Manifest"
"""The kind under which files of a directory are counted: they may hold objects of any."""


def some(names: Collection[str]) -> list[str]:
    """Names for a log line, not more than a person reads."""
    rest = len(names) - MOST_NAMES
    return [*sorted(names)[:MOST_NAMES], *([f"and {rest} more"] if rest > 0 else [])]


class ToldObjects:
    """Keeps what was last told. `set_aside` is what status shows of `set_aside_count`."""

    def __init__(self, metrics: Metrics, node: str) -> None:
        self.set_aside: tuple[status.SetAside, ...] = ()
        self.warnings: tuple[str, ...] = ()
        self._metrics = metrics
        self._node = node
        self._asides = -1
        self._aside: frozenset[tuple[ResourceKey, str, str, bool]] = frozenset()
        self._kinds: Mapping[str, int] = {}
        self._files: Mapping[str, Unread] = {}
        self._cut_off = CutOff()
        self._own: dict[ResourceKey, HostEndpoint] = {}
        self._links: Mapping[str, Link] = {}
        self._ports: frozenset[str] = frozenset()

    @property
    def set_aside_count(self) -> int:
        """How many problems objects have."""
        return len(self._aside) + len(self._files)

    @property
    def own_endpoints(self) -> tuple[HostEndpoint, ...]:
        """The host endpoints of this node."""
        return tuple(self._own.values())

    def absorbed(self, batch: Batch, intake: Intake, changes: Mapping[ResourceKey, Resource | None]) -> bool:
        """A batch was taken in, with these changes of what is in force; whether this node's host endpoints are others now."""
        before = dict(self._own)
        for changed, value in changes.items():
            if isinstance(value, HostEndpoint) and value.node == self._node:
                self._own[changed] = value
            else:
                self._own.pop(changed, None)
        if batch.links is not None:
            self._follow_links(batch.links)
        if batch.snapshot:
            self._metrics.felix.resyncs.add()
        if batch.revision is not None:
            self._metrics.updated(Counter(key.kind for path in batch.objects if (key := keys.parse(path)) is not None))
            self._report(intake)
        return self._own != before

    def look(self, resolved: Resolved, links: Collection[str], scope: Scope, now: float) -> None:
        """Compares what is in force with the interfaces that there are."""
        guarded = resolved.workloads
        if new := self._cut_off.follow(links, scope, guarded, now):
            log.warning("workload interfaces without an endpoint are cut off", interfaces=some(new))
        isolated = sum(workload.isolated for workload in guarded.values())
        self._metrics.workload_interfaces(active=len(guarded) - isolated, isolated=isolated, cut_off=len(self.cut_off))
        governing = {
            endpoint.endpoint
            for interface, endpoint in resolved.endpoints.items()
            if interface in links or interface == ANY_INTERFACE
        }
        idle = [endpoint.name for endpoint in self._own.values() if endpoint.name not in governing]
        self._metrics.unmatched(len(idle))
        first = sorted(idle)[:MOST_NAMES]
        vain = [f"host endpoint {name}: governs no interface that this host has" for name in first]
        self.warnings = (*vain, *self._look_at_ports(resolved))

    def _look_at_ports(self, resolved: Resolved) -> list[str]:
        """Warnings of interfaces in whose name no packet comes: the kernel gives it that of their bridge, bond or VRF."""
        governed = resolved.endpoints
        masters = {name: self._links[name].master for name in governed if name in self._links}
        ports = {name: master for name, master in sorted(masters.items()) if master and master not in governed}
        if new := ports.keys() - self._ports:
            log.warning("packets of a port come in its master's name, which has no host endpoint", interfaces=some(new))
        self._ports = frozenset(ports)
        return [
            f"host endpoint {governed[name].endpoint}: {name} is a port of {master}, as whose its packets are judged: name that"
            for name, master in [*ports.items()][:MOST_NAMES]
        ]

    @property
    def cut_off(self) -> tuple[str, ...]:
        """The workload interfaces that no endpoint stands behind."""
        return self._cut_off.names

    def _follow_links(self, links: Mapping[str, Link]) -> None:
        changed = [name for name in links.keys() | self._links.keys() if links.get(name) != self._links.get(name)]
        none: frozenset[str] = frozenset()
        before, now = ([table[n].addresses if n in table else none for n in changed] for table in (self._links, links))
        self._metrics.felix.links(len(changed), sum(len(old ^ new) for old, new in zip(before, now, strict=True)))
        self._links = links

    def _report(self, intake: Intake) -> None:
        held = intake.kinds
        self._metrics.objects(held)
        self._metrics.cluster(
            Cluster(
                hosts=held["Node"],
                host_endpoints=held["HostEndpoint"],
                workload_endpoints=held["WorkloadEndpoint"],
                policies=held["GlobalNetworkPolicy"] + held["NetworkPolicy"],
                profiles=held["Profile"],
                tiers=held["Tier"],
                network_sets=held["GlobalNetworkSet"] + held["NetworkSet"],
            )
        )
        if intake.asides != self._asides:  # thousands may be broken: they aren't described anew in every round
            self._asides = intake.asides
            self._report_aside(intake)

    def _report_aside(self, intake: Intake) -> None:
        aside = frozenset(
            (entry.key, problem.path, problem.reason, entry.older_in_force)
            for entry in intake.aside.values()
            for problem in entry.problems
        )
        for key, path, reason, older in sorted(aside - self._aside):
            log.warning("set aside", key=str(key), path=path, reason=reason, older_version_in_force=older)
        self._aside = aside
        self._kinds = Counter(key.kind for key in intake.aside)
        self._describe_aside()

    def follow_files(self, files: Mapping[str, Unread]) -> None:
        """Of a directory: the manifests that aren't wholly understood, whose feed has logged them. Cheap while none changes."""
        if files is not self._files:
            self._files = files
            self._describe_aside()

    def _describe_aside(self) -> None:
        objects = (
            status.SetAside(key=str(key), path=path, reason=reason, older_in_force=older)
            for key, path, reason, older in sorted(self._aside)
        )
        files = (
            status.SetAside(key=path, path="", reason=unread.reason, older_in_force=unread.older_in_force)
            for path, unread in sorted(self._files.items())
        )
        self.set_aside = tuple(islice(chain(files, objects), status.MAX_SET_ASIDE))
        self._metrics.set_aside({**self._kinds, MANIFEST: len(self._files)} if self._files else self._kinds)
