"""The whole ruleset of a resolved state. A change costs what it affects; whatever it doesn't is the same objects as before.

Four kinds of chains: those of policies, profiles and groups of them, made when a jump first leads to them (H-91); those of
endpoints; dispatch to these; and the roots. Owned by the engine thread; pure but for its memory, which never changes an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from hostward.model.resolved import ANY_INTERFACE, Changed, Resolved, ResolvedEndpoint, between
from hostward.model.resources import Policy, Profile
from hostward.render import names, workload
from hostward.render.bodies import DIRECTIONS, Bodies, Variant, holder_chain
from hostward.render.endpoint import HostLists, has_pre_dnat, has_untracked, speaks_of_workloads
from hostward.render.group_traits import GroupTraits
from hostward.render.host_dispatch import OpenForward, host_dispatches
from hostward.render.list_users import ListUsers, User
from hostward.render.options import Options
from hostward.render.roots import HOOKED, Needs
from hostward.render.ruleset import Chain, Family, Focus, Jump, Ruleset, TableId
from hostward.render.set_contents import SetContents
from hostward.render.table import Lists, TableRenderer
from hostward.render.workload import WorkloadLists, workload_dispatches

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Renderer:
    """Renders with one set of options; other options, another renderer. `rendered`: chains computed in the last call."""

    def __init__(self, options: Options) -> None:
        self.rendered = 0
        self._options = options
        self._resolved = Resolved()
        self._bodies = Bodies(options)
        self._holders: dict[Hashable, Policy | Profile] = {}
        self._lists: dict[User, Lists] = {}
        self._users = ListUsers()
        self._sets = SetContents(options.families, options.max_set_size)
        self._speaking: dict[Callable[[ResolvedEndpoint], bool], set[str]] = {
            has_untracked: set(),
            has_pre_dnat: set(),
            speaks_of_workloads: set(),
        }
        self._lent: dict[Family, dict[str, Chain]] = {family: {} for family in options.families}
        self._hosts = {table: host_dispatches(table, options) for table in HOOKED}
        self._open = OpenForward(options)
        self._workloads = workload_dispatches(options)
        self._traits: dict[Variant, GroupTraits] = {}
        self._tables = [self._table(TableId(family, table)) for family in options.families for table in HOOKED]
        for table in self._tables:
            if table.where.name == "raw":
                table.put({names.WORKLOAD_RAW: workload.raw_chain({})})
        self._ruleset = Ruleset()

    def _table(self, where: TableId) -> TableRenderer:
        variant = self._bodies.variant(where)
        traits = self._traits.setdefault(variant, GroupTraits(self._bodies, variant))
        trees = [dispatch.tree for dispatch in self._hosts[where.name]]
        if where.name == "filter":
            trees += [*self._open.trees, *(tree for _, tree in self._workloads)]
        return TableRenderer(
            where, self._options, self._bodies, traits=traits, dispatches=trees, group=self._users.group, sets=self._sets
        )

    def render(self, resolved: Resolved) -> Ruleset:
        """The desired state of the kernel. Costs one look at everything."""
        return self.advance(resolved, between(self._resolved, resolved))[0]

    def advance(self, resolved: Resolved, changed: Changed) -> tuple[Ruleset, Focus]:
        """The desired state of the kernel, and what in it may differ from the last one; `changed`: since the last call."""
        self._resolved = resolved
        rules, gone = self._take_holders(resolved, changed)
        users = self._take_lists(resolved, changed)
        groups = [group for chain in rules for name in self._users.with_member(chain) if (group := self._users.group(name))]
        affected = {
            variant: users.union(*(self._users.users(group.chain) for group in groups if traits.refresh(group)))
            for variant, traits in self._traits.items()
        }
        self._lend(resolved, changed)
        dispatch = self._dispatch(resolved, changed)
        untracked, pre_dnat, of_workloads = self._speaking.values()
        needs = Needs(
            bool(resolved.endpoints), bool(untracked), bool(pre_dnat), bool(of_workloads), ANY_INTERFACE in of_workloads
        )
        hosts = self._hosts["filter"][0].tree.chain(names.FROM_ENDPOINT)
        for table in self._tables:
            for user in affected[self._bodies.variant(table.where)]:
                table.put_lists(user, self._lists.get(user))
            table.refresh(dispatch[table.where.name])
            table.put_roots(needs, hosts)
            table.sweep()
            table.refresh(rules)
            table.refresh(group.chain for group in groups)
            table.sweep()
        for chain in gone:
            self._bodies.drop(chain)
        return self._settle(resolved, changed)

    def _take_holders(self, resolved: Resolved, changed: Changed) -> tuple[set[str], list[str]]:
        """The own chains whose rules may differ, and those of policies and profiles that are gone."""
        now: dict[Hashable, Policy | Profile | None] = {key: resolved.policies.get(key) for key in changed.policies}
        now |= {("profile", name): resolved.profiles.get(name) for name in changed.profiles}
        rules, gone = set(), []
        for key, holder in now.items():
            if holder is not None:
                self._holders[key] = holder
                rules |= {holder_chain(holder, direction) for direction in DIRECTIONS if self._bodies.put(holder, direction)}
            elif (old := self._holders.pop(key, None)) is not None:
                gone += [holder_chain(old, direction) for direction in DIRECTIONS]
        return rules, gone

    def _take_lists(self, resolved: Resolved, changed: Changed) -> set[User]:
        """Cuts the lists of endpoints that have changed into groups; whose they are."""
        users: set[User] = set()
        for direction in DIRECTIONS:
            for interface in changed.endpoints:
                endpoint = resolved.endpoints.get(interface)
                lists = HostLists.of(endpoint, direction) if endpoint is not None else None
                users.add(self._replace(("host", interface, direction), lists))
            for interface in changed.workloads:
                found = resolved.workloads.get(interface)
                of_workload = WorkloadLists.of(found, direction) if found is not None else None
                users.add(self._replace(("workload", interface, direction), of_workload))
        return users

    def _replace(self, user: User, lists: Lists | None) -> User:
        if lists is None:
            self._lists.pop(user, None)
        else:
            self._lists[user] = lists
        for chain in self._users.replace(user, lists.groups() if lists is not None else frozenset()):
            for traits in self._traits.values():
                traits.forget(chain)
        return user

    def _lend(self, resolved: Resolved, changed: Changed) -> None:
        """Brings up to date what addresses workloads may send from."""
        for family, lent in self._lent.items():
            before = dict(lent) if changed.workloads else lent
            for interface in changed.workloads:
                found = resolved.workloads.get(interface)
                rules = workload.lent(found, family, self._options) if found is not None else ()
                if rules:
                    lent[interface] = rules
                else:
                    lent.pop(interface, None)
            if lent != before:
                for table in self._tables:
                    if table.where == (family, "raw"):
                        table.put({names.WORKLOAD_RAW: workload.raw_chain(lent)})

    def _dispatch(self, resolved: Resolved, changed: Changed) -> dict[str, set[str]]:
        """The known chains of dispatch that may differ, by table."""
        endpoints = resolved.endpoints
        for interface in changed.endpoints:
            endpoint = endpoints.get(interface)
            for speaks, those in self._speaking.items():
                (those.add if endpoint is not None and speaks(endpoint) else those.discard)(interface)
        dirty: dict[str, set[str]] = {table: set() for table in HOOKED}
        if changed.endpoints:
            for table, dispatches in self._hosts.items():
                dirty[table] = set().union(*(dispatch.update(endpoints, changed.endpoints) for dispatch in dispatches))
            dirty["filter"] |= self._open.update(endpoints, changed.endpoints)
        for direction, tree in self._workloads:
            targets = {
                interface: Jump(names.workload_chain(interface, direction), goto=True)
                if interface in resolved.workloads
                else None
                for interface in changed.workloads
            }
            dirty["filter"] |= tree.update(targets)
        return dirty

    def _settle(self, resolved: Resolved, changed: Changed) -> tuple[Ruleset, Focus]:
        chains, self.rendered = {}, 0
        for table in self._tables:
            differing, rendered = table.settle()
            self.rendered += rendered
            if differing:
                chains[table.where] = differing
        sets = self._sets.settle(resolved.sets, changed.sets)
        if chains or sets or not self._ruleset.tables:
            tables = {table.where: table.value for table in self._tables}
            self._ruleset = Ruleset(tables, dict(self._sets.sets) if sets else self._ruleset.sets)
        return self._ruleset, Focus(chains, sets)
