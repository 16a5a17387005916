"""The whole ruleset of a resolved state; what didn't change since the last time is taken from there, as the same objects.

A chain is rendered when a jump first leads to it: no others are programmed (H-91). A change costs the chains that it changes,
and one look at every chain in use. Owned by the engine thread; pure but for its memory, which never changes an answer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Literal

from hostward.model.nets import family as family_of
from hostward.model.nets import set_members
from hostward.model.resolved import Resolved, ResolvedEndpoint, ResolvedWorkload
from hostward.model.resources import Policy, Profile
from hostward.model.rules import Rule
from hostward.model.sets import NetSet, SetRef, holds_ports
from hostward.render import names, roots, workload
from hostward.render.endpoint import filter_chains, has_pre_dnat, has_untracked, mangle_chains, raw_chains
from hostward.render.names import Direction
from hostward.render.options import Options
from hostward.render.policy import Owner, net_sets, rules_chain
from hostward.render.ruleset import Chain, Family, IPSet, Jump, Ruleset, Table, TableId, TableName

Chains = dict[str, Chain]
Holder = Policy | Profile
SetSource = tuple[SetRef, Set[str] | NetSet]
DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")


@dataclass(frozen=True, slots=True)
class _Part:
    """One chain of a table, what it was made from, and what it leads to. `nets`: the sets of CIDRs that its rules name."""

    source: object
    chain: Chain
    jumps: tuple[str, ...]
    sets: frozenset[str]
    nets: Mapping[str, NetSet]


@dataclass(slots=True)
class _Memory:
    """One table as it was rendered last."""

    parts: dict[str, _Part] = field(default_factory=dict)
    endpoints: dict[str, tuple[ResolvedEndpoint | ResolvedWorkload, Chains]] = field(default_factory=dict)
    table: Table | None = None


def _kept(old: _Part | None, new: _Part) -> bool:
    return old is new or (old is not None and old.chain is new.chain)


def _rules(holder: Holder, direction: Direction) -> tuple[Rule, ...]:
    return holder.ingress_rules if direction == "ingress" else holder.egress_rules


def _owner(holder: Holder, direction: Direction) -> Owner:
    if isinstance(holder, Profile):
        return Owner(direction, f"pro/{holder.name}", "", "pro", holder.name)
    full = f"{holder.key.namespace}/{holder.name}" if holder.key.namespace else holder.name
    title = names.policy_title(holder.key)
    return Owner(direction, title, holder.tier, title.partition("/")[0], full)


def _holder_chain(holder: Holder, direction: Direction) -> str:
    if isinstance(holder, Policy):
        return names.policy_chain(holder.key, direction)
    return names.profile_chain(holder.name, direction)


def _same(a: Chain, b: Chain) -> bool:
    """Whether two chains are equal, what their counters mean to a report included."""
    return a is b or (a == b and all(rule.counter == other.counter for rule, other in zip(a, b, strict=True)))


def holders(resolved: Resolved) -> Iterator[tuple[Hashable, Holder]]:
    """Policies and profiles in use, each with a key of its own."""
    yield from resolved.policies.items()
    for name, profile in resolved.profiles.items():
        yield ("profile", name), profile


def filled(ref: SetRef, source: Set[str] | NetSet, family: Family, room: int) -> IPSet:
    """A set with its members of one family; those of a NetSet are of one family already, once in each.

    It outgrows `maxIpsetSize` rather than lose members: a missing one would open a Deny.
    """
    if isinstance(source, NetSet):
        members = frozenset(member for net in source.nets for member in set_members(net))
    else:
        members = frozenset(m for m in source if family_of(m.partition(",")[0]) == family)
    while room < len(members):
        room *= 2
    return IPSet("hash:ip,port" if holds_ports(ref) else "hash:net", family, members, room)


def _endpoints(resolved: Resolved, table: TableName) -> Iterator[tuple[str, ResolvedEndpoint | ResolvedWorkload]]:
    """The endpoints with chains of their own in a table, by interface."""
    yield from resolved.endpoints.items()
    if table == "filter":
        yield from resolved.workloads.items()


class Renderer:
    """Renders with one set of options; other options, another renderer."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._holders: dict[Hashable, Holder] = {}
        self._by_chain: dict[str, tuple[Holder, Direction]] = {}
        self._sets: dict[str, tuple[object, IPSet]] = {}
        self._memory = {TableId(family, table): _Memory() for family in options.families for table in roots.HOOKED}
        self._hooks = {table: roots.hooks(table, options) for table in roots.HOOKED}
        self._common = {
            where: {**roots.common_chains(where.family, options), **roots.failsafe_chains(where.name, where.family, options)}
            for where in self._memory
        }

    def render(self, resolved: Resolved) -> Ruleset:
        """The desired state of the kernel."""
        self._follow(resolved)
        shared = {table: self._roots(resolved.endpoints, table) for table in roots.HOOKED}
        tables = {
            where: self._table(resolved, where, shared[where.name] | self._workloads(resolved, where)) for where in self._memory
        }
        kept, self._sets = self._sets, {}
        for family in self._options.families:
            self._fill(resolved, family, kept)
        return Ruleset(tables, {name: filled_set for name, (_, filled_set) in self._sets.items()})

    def _follow(self, resolved: Resolved) -> None:
        """Brings up to date whose rules a chain's name stands for."""
        present = 0
        for key, holder in holders(resolved):
            present += 1
            if self._holders.get(key) is not holder:
                self._holders[key] = holder
                self._by_chain.update((_holder_chain(holder, direction), (holder, direction)) for direction in DIRECTIONS)
        if present < len(self._holders):
            for key in self._holders.keys() - {key for key, _ in holders(resolved)}:
                holder = self._holders.pop(key)
                for direction in DIRECTIONS:
                    del self._by_chain[_holder_chain(holder, direction)]

    # --- tables --------------------------------------------------------------------------------------------------------
    def _table(self, resolved: Resolved, where: TableId, shared: Chains) -> Table:
        memory = self._memory[where]
        chains: Chains = {**self._common[where]}
        endpoints = {}
        for interface, endpoint in _endpoints(resolved, where.name):
            known = memory.endpoints.get(interface)
            if known is None or known[0] is not endpoint:
                known = (endpoint, self._endpoint(endpoint, where.family, where.name))
            endpoints[interface] = known
            chains.update(known[1])
        chains.update(shared)
        parts: dict[str, _Part] = {}
        todo = [f"hw-{chain}" for chain in roots.HOOKED[where.name]]
        while todo:
            name = todo.pop()
            if name not in parts:
                parts[name] = part = self._part(where, name, chains.get(name), memory.parts.get(name))
                todo += part.jumps
        old, memory.parts, memory.endpoints = memory.parts, parts, endpoints
        if (
            memory.table is None
            or len(old) != len(parts)
            or not all(_kept(old.get(name), part) for name, part in parts.items())
        ):
            memory.table = Table({name: part.chain for name, part in parts.items()}, self._hooks[where.name])
        return memory.table

    def _part(self, where: TableId, name: str, chain: Chain | None, known: _Part | None) -> _Part:
        """A chain with what it leads to; `chain` is None for those of policies and profiles."""
        source: object = chain
        nets: Mapping[str, NetSet] = {}
        if chain is None:
            source, direction = self._by_chain[name]
            if known is not None and known.source is source:
                return known
            rules = _rules(source, direction)
            chain = rules_chain(rules, where.name, where.family, _owner(source, direction), self._options)
            nets = net_sets(rules, where.family)
        if known is not None and _same(known.chain, chain):
            if known.source is source or known.source is known.chain:
                return known
            return _Part(source, known.chain, known.jumps, known.sets, known.nets)
        jumps = dict.fromkeys(rule.target.chain for rule in chain if isinstance(rule.target, Jump))
        sets = frozenset(used for rule in chain for used in rule.uses_sets())
        return _Part(source, chain, tuple(jumps), sets, {used: nets[used] for used in sets & nets.keys()})

    def _endpoint(self, endpoint: ResolvedEndpoint | ResolvedWorkload, family: Family, table: TableName) -> Chains:
        if isinstance(endpoint, ResolvedWorkload):
            return workload.filter_chains(endpoint, family, self._options)
        make = {"raw": raw_chains, "mangle": mangle_chains, "filter": filter_chains}[table]
        return make(endpoint, family, self._options)

    def _roots(self, endpoints: Mapping[str, ResolvedEndpoint], table: TableName) -> Chains:
        """Dispatch and root chains."""
        options, chains = self._options, self._dispatch(endpoints, table)
        if table == "raw":
            return chains | roots.raw_roots(options, untracked=any(map(has_untracked, endpoints.values())))
        if table == "mangle":
            pre_dnat = any(map(has_pre_dnat, endpoints.values()))
            return chains | roots.mangle_roots(options, endpoints=bool(endpoints), pre_dnat=pre_dnat)
        return chains | roots.filter_roots(options, hosts=bool(endpoints))

    def _workloads(self, resolved: Resolved, where: TableId) -> Chains:
        """What surrounds the workloads' own chains."""
        match where.name:
            case "filter":
                return workload.shared_chains(resolved.workloads, where.family, self._options)
            case "raw":
                return {names.WORKLOAD_RAW: workload.raw_chain(resolved.workloads, where.family, self._options)}
            case _:
                return {}

    def _dispatch(self, endpoints: Mapping[str, ResolvedEndpoint], table: TableName) -> Chains:
        options = self._options
        if table == "filter":
            traffics: tuple[tuple[str, str, Literal["", "fw", "wl"]], ...] = (
                (names.FROM_ENDPOINT, names.TO_ENDPOINT, ""),
                (names.FROM_FORWARD, names.TO_FORWARD, "fw"),
                (names.FROM_WORKLOAD_FORWARD, names.TO_WORKLOAD_FORWARD, "wl"),
            )
            return {
                chain: roots.host_dispatch(endpoints, direction, traffic, options)
                for ingress, egress, traffic in traffics
                for chain, direction in ((ingress, DIRECTIONS[0]), (egress, DIRECTIONS[1]))
            }
        if table == "mangle":
            return {
                names.FROM_ENDPOINT: roots.host_dispatch(
                    {name for name, e in endpoints.items() if has_pre_dnat(e)}, "ingress", "", options, governed=endpoints
                ),
                names.TO_ENDPOINT: roots.host_dispatch(endpoints, "egress", "", options, except_workloads=True),
            }
        untracked = {name for name, e in endpoints.items() if has_untracked(e)}
        return {
            names.FROM_ENDPOINT: roots.host_dispatch(untracked, "ingress", "", options),
            names.TO_ENDPOINT: roots.host_dispatch(untracked, "egress", "", options),
        }

    # --- sets ----------------------------------------------------------------------------------------------------------
    def _fill(self, resolved: Resolved, family: Family, kept: Mapping[str, tuple[object, IPSet]]) -> None:
        """The sets that the rules of one family name, filled; those whose members are the same are kept."""
        mine = [part for where, memory in self._memory.items() if where.family == family for part in memory.parts.values()]
        wanted = frozenset().union(*(part.sets for part in mine if part.sets))
        sources = _sources(resolved, family, (part.nets for part in mine if part.nets)) if wanted else {}
        for name in wanted:
            ref, members = sources[name]
            known = kept.get(name)
            if known is None or (known[0] is not members and known[0] != members):
                known = (members, filled(ref, members, family, self._options.max_set_size))
            self._sets[name] = known


def _sources(resolved: Resolved, family: Family, listed: Iterable[Mapping[str, NetSet]]) -> dict[str, SetSource]:
    """What each set of a family holds: the members that were calculated, or the CIDRs that rules list."""
    sources: dict[str, SetSource] = {names.set_name(ref, family): (ref, members) for ref, members in resolved.sets.items()}
    for nets in listed:
        sources.update((name, (ref, ref)) for name, ref in nets.items())
    return sources
