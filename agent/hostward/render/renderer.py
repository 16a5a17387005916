"""The whole ruleset of a resolved state; what didn't change since the last time is taken from there.

Owned by the engine thread; pure but for its memory, which never changes an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import partial
from typing import Literal, TypeVar

from hostward.model.nets import family as family_of
from hostward.model.nets import set_members
from hostward.model.resolved import Resolved, ResolvedEndpoint
from hostward.model.resources import Policy, Profile
from hostward.model.rules import Rule
from hostward.model.sets import NamedPortSet, NetSet, SetRef
from hostward.render import names, roots
from hostward.render.endpoint import filter_chains, has_pre_dnat, has_untracked, mangle_chains, raw_chains
from hostward.render.names import Direction
from hostward.render.options import Options
from hostward.render.policy import Owner, net_sets, rules_chain
from hostward.render.ruleset import Chain, Family, IPSet, Jump, Ruleset, Table, TableId, TableName

Chains = dict[str, Chain]
Value = TypeVar("Value")
DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")


def _rules(holder: Policy | Profile, direction: Direction) -> tuple[Rule, ...]:
    return holder.ingress_rules if direction == "ingress" else holder.egress_rules


def _owner(holder: Policy | Profile, direction: Direction) -> Owner:
    if isinstance(holder, Profile):
        return Owner(direction, f"pro/{holder.name}", "", "pro", holder.name)
    full = f"{holder.key.namespace}/{holder.name}" if holder.key.namespace else holder.name
    title = names.policy_title(holder.key)
    return Owner(direction, title, holder.tier, title.partition("/")[0], full)


def holders(resolved: Resolved) -> Iterator[tuple[Hashable, Policy | Profile]]:
    """Policies and profiles in use, each with a key of its own."""
    yield from resolved.policies.items()
    for name, profile in resolved.profiles.items():
        yield ("profile", name), profile


def reachable(chains: Mapping[str, Chain], start: list[str]) -> Chains:
    """The chains that packets can get to from these; no others are programmed (H-91)."""
    found: Chains = {}
    todo = list(start)
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = chains[name]
            todo += [rule.target.chain for rule in chains[name] if isinstance(rule.target, Jump)]
    return found


def used_sets(table: Table) -> set[str]:
    """The names of the sets that a table's rules match on."""
    return {name for chain in table.chains.values() for rule in chain for name in rule.uses_sets()}


def filled(ref: SetRef, source: frozenset[str] | NetSet, family: Family, room: int) -> IPSet:
    """A set with its members of one family; those of a NetSet are of one family already, once in each.

    It outgrows `maxIpsetSize` rather than lose members: a missing one would open a Deny.
    """
    if isinstance(source, NetSet):
        members = frozenset(member for net in source.nets for member in set_members(net))
    else:
        members = frozenset(m for m in source if family_of(m.partition(",")[0]) == family)
    while room < len(members):
        room *= 2
    return IPSet("hash:ip,port" if isinstance(ref, NamedPortSet) else "hash:net", family, members, room)


class Renderer:
    """Renders with one set of options; other options, another renderer."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._memory: dict[Hashable, tuple[object, object]] = {}
        self._fresh: dict[Hashable, tuple[object, object]] = {}

    def render(self, resolved: Resolved) -> Ruleset:
        """The desired state of the kernel."""
        self._fresh = {}
        tables = {
            TableId(family, table): self._table(resolved, family, table)
            for family in self._options.families
            for table in roots.HOOKED
        }
        sets: dict[str, IPSet] = {}
        for family in self._options.families:
            mine = (table for key, table in tables.items() if key.family == family)
            sets.update(self._sets(resolved, family, {name for table in mine for name in used_sets(table)}))
        self._memory = self._fresh
        return Ruleset(tables, sets)

    def _once(self, key: Hashable, source: object, make: Callable[[], Value]) -> Value:
        """What was made for this key from this very source, or a new one. Sources are values: the same object is the same."""
        known = self._memory.get(key)
        value = known[1] if known is not None and known[0] is source else make()
        self._fresh[key] = (source, value)
        return value  # type: ignore[return-value] # a key is only ever used with one type of value

    def _table(self, resolved: Resolved, family: Family, table: TableName) -> Table:
        options, endpoints = self._options, resolved.endpoints
        chains: Chains = {**roots.common_chains(family, options), **roots.failsafe_chains(table, family, options)}
        for interface, endpoint in endpoints.items():
            chains.update(self._once((interface, family, table), endpoint, partial(self._endpoint, endpoint, family, table)))
        for key, holder in holders(resolved):
            chains.update(self._once((key, family, table), holder, partial(self._holder, holder, family, table)))
        chains.update(self._dispatch(endpoints, table))
        if table == "raw":
            chains.update(roots.raw_roots(options, untracked=any(map(has_untracked, endpoints.values()))))
        elif table == "mangle":
            pre_dnat = any(map(has_pre_dnat, endpoints.values()))
            chains.update(roots.mangle_roots(options, endpoints=bool(endpoints), pre_dnat=pre_dnat))
        else:
            chains.update(roots.filter_roots(options, endpoints=bool(endpoints)))
        start = [f"hw-{chain}" for chain in roots.HOOKED[table]]
        return Table(reachable(chains, start), roots.hooks(table, options))

    def _endpoint(self, endpoint: ResolvedEndpoint, family: Family, table: TableName) -> Chains:
        make = {"raw": raw_chains, "mangle": mangle_chains, "filter": filter_chains}[table]
        return make(endpoint, family, self._options)

    def _holder(self, holder: Policy | Profile, family: Family, table: TableName) -> Chains:
        chains: Chains = {}
        for direction in DIRECTIONS:
            if isinstance(holder, Policy):
                name = names.policy_chain(holder.key, direction)
            else:
                name = names.profile_chain(holder.name, direction)
            chains[name] = rules_chain(_rules(holder, direction), table, family, _owner(holder, direction), self._options)
        return chains

    def _dispatch(self, endpoints: Mapping[str, ResolvedEndpoint], table: TableName) -> Chains:
        options = self._options
        if table == "filter":
            traffics: tuple[tuple[str, str, Literal["", "fw", "wl"]], ...] = (
                (names.FROM_ENDPOINT, names.TO_ENDPOINT, ""),
                (names.FROM_FORWARD, names.TO_FORWARD, "fw"),
                (names.FROM_WORKLOAD_FORWARD, names.TO_WORKLOAD_FORWARD, "wl"),
            )
            return {
                chain: roots.dispatch(endpoints, direction, traffic, options)
                for ingress, egress, traffic in traffics
                for chain, direction in ((ingress, DIRECTIONS[0]), (egress, DIRECTIONS[1]))
            }
        if table == "mangle":
            return {
                names.FROM_ENDPOINT: roots.dispatch(
                    {name for name, e in endpoints.items() if has_pre_dnat(e)}, "ingress", "", options
                ),
                names.TO_ENDPOINT: roots.dispatch(endpoints, "egress", "", options, except_workloads=True),
            }
        untracked = {name for name, e in endpoints.items() if has_untracked(e)}
        return {
            names.FROM_ENDPOINT: roots.dispatch(untracked, "ingress", "", options),
            names.TO_ENDPOINT: roots.dispatch(untracked, "egress", "", options),
        }

    def _sets(self, resolved: Resolved, family: Family, wanted: Iterable[str]) -> dict[str, IPSet]:
        """The sets that the rules of one family name, filled."""
        sources: dict[str, tuple[SetRef, frozenset[str] | NetSet]] = {
            names.set_name(ref, family): (ref, members) for ref, members in resolved.sets.items()
        }
        for key, holder in holders(resolved):
            rules = (*holder.ingress_rules, *holder.egress_rules)
            listed = self._once((key, family, "nets"), holder, partial(net_sets, rules, family))
            sources.update((name, (ref, ref)) for name, ref in listed.items())
        return {
            name: self._once(
                (name, "set"), sources[name][1], partial(filled, *sources[name], family, self._options.max_set_size)
            )
            for name in wanted
        }
