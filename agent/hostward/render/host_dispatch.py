"""Which host interface's packets go to which chain, for each kind of traffic (`statements.md` H-7, H-52; D7).

Owned by the engine thread's renderer; pure but for its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from msgspec.structs import replace

from hostward.model.resolved import ANY_INTERFACE, ResolvedEndpoint
from hostward.render import names
from hostward.render.dispatch import Dispatch, Way, by_interface
from hostward.render.endpoint import has_pre_dnat, has_untracked, speaks_of_workloads
from hostward.render.marks import clear, put
from hostward.render.names import Direction
from hostward.render.options import Options
from hostward.render.ruleset import RETURN, Chain, Interface, Jump, Rule, TableName, Target

Traffic = Literal["", "fw", "wl"]
Speaks = Callable[[ResolvedEndpoint], bool]
_LOOPBACK = "lo"


def _always(_: ResolvedEndpoint) -> bool:
    return True


class HostDispatch:
    """To each interface's chain; to the `*` endpoint's for all others but `lo` (D7) and, if said, workloads (H-52).

    The word of an interface's own endpoint counts even where it has none: where it doesn't speak, `*` doesn't either (H-7).
    """

    def __init__(self, root: str, direction: Direction, traffic: Traffic, speaks: Speaks, *, before_any: Chain = ()) -> None:
        self.tree = Dispatch(root, "in" if direction == "ingress" else "out")
        self._direction: Direction = direction
        self._traffic: Traffic = traffic
        self._speaks = speaks
        self._before_any = before_any
        self._any = False

    def update(self, endpoints: Mapping[str, ResolvedEndpoint], changed: Iterable[str]) -> set[str]:
        """Takes the endpoints, of which those of some interfaces may have changed; the known chains that may differ."""
        own = endpoints.get(ANY_INTERFACE)
        speaks = own is not None and self._speaks(own)
        affected = set(changed) if speaks is self._any else {*endpoints, *changed, _LOOPBACK}
        self._any = speaks
        affected.discard(ANY_INTERFACE)
        targets = {interface: self._target(interface, endpoints.get(interface)) for interface in affected}
        return self.tree.update(targets, (*self._before_any, Rule((), self._to(ANY_INTERFACE))) if speaks else ())

    def _target(self, interface: str, endpoint: ResolvedEndpoint | None) -> Target | None:
        if endpoint is not None and self._speaks(endpoint):
            return self._to(interface)
        return RETURN if self._any and (endpoint is not None or interface == _LOOPBACK) else None

    def _to(self, interface: str) -> Target:
        return Jump(names.endpoint_chain(interface, self._direction, self._traffic), goto=True)


class OpenForward:
    """What is forwarded between host interfaces on an open connection is accepted if either is governed (H-46.1).

    Every endpoint accepts it on its side, one that isn't understood too; so there is one look instead of two. What none governs
    goes on without the accept mark, also where somebody else has set that bit (D15).
    """

    def __init__(self, options: Options) -> None:
        self._marked = Rule((), put(options.marks.accept))
        self._unmarked = Rule((), clear(options.marks.accept))
        self._allow = Jump(names.ALLOW, goto=True)
        self.trees = (Dispatch(names.OPEN_FORWARD, "in"), Dispatch(names.OPEN_FORWARD_OUT, "out", (self._unmarked,)))
        self._any = False

    def update(self, endpoints: Mapping[str, ResolvedEndpoint], changed: Iterable[str]) -> set[str]:
        """As of `HostDispatch`. Where `*` governs, all packets are: but for those that only loop (D7)."""
        governs_all = ANY_INTERFACE in endpoints
        affected = set(changed) if governs_all is self._any else {*endpoints, *changed}
        self._any = governs_all
        affected.discard(ANY_INTERFACE)
        allow = None if governs_all else self._allow
        targets = {interface: allow if interface in endpoints else None for interface in affected}
        end: Chain = (Rule((), Jump(names.OPEN_FORWARD_OUT, goto=True)),)
        if governs_all:
            loops = replace(self._unmarked, matches=(Interface("in", _LOOPBACK), Interface("out", _LOOPBACK)))
            end = (self._marked,) if _LOOPBACK in endpoints else (self._marked, loops)
        incoming, outgoing = self.trees
        return incoming.update(targets, end) | outgoing.update(targets)


def host_dispatches(table: TableName, options: Options) -> tuple[HostDispatch, ...]:
    """The dispatches of a table. All policies of an endpoint that raw or mangle doesn't know of are filter's."""
    if table == "raw":
        return (
            HostDispatch(names.FROM_ENDPOINT, "ingress", "", has_untracked),
            HostDispatch(names.TO_ENDPOINT, "egress", "", has_untracked),
        )
    if table == "mangle":
        way: Way = "out"
        workloads = tuple(by_interface(way, prefix, RETURN, prefix=True) for prefix in options.workload_prefixes)
        return (
            HostDispatch(names.FROM_ENDPOINT, "ingress", "", has_pre_dnat),
            HostDispatch(names.TO_ENDPOINT, "egress", "", _always, before_any=workloads),
        )
    return (
        HostDispatch(names.FROM_ENDPOINT, "ingress", "", _always),
        HostDispatch(names.TO_ENDPOINT, "egress", "", _always),
        HostDispatch(names.FROM_FORWARD, "ingress", "fw", _always),
        HostDispatch(names.TO_FORWARD, "egress", "fw", _always),
        HostDispatch(names.FROM_WORKLOAD_FORWARD, "ingress", "wl", speaks_of_workloads),
        HostDispatch(names.TO_WORKLOAD_FORWARD, "egress", "wl", speaks_of_workloads),
    )
