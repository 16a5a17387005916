"""One table of one family: how each of its chains is made. Owned by the engine thread's renderer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hostward.render import roots
from hostward.render.bodies import Bodies
from hostward.render.dispatch import Dispatch
from hostward.render.endpoint import HostLists, filter_chains, mangle_chains, raw_chains
from hostward.render.group_traits import GroupTraits
from hostward.render.groups import Group, group_chain
from hostward.render.list_users import User
from hostward.render.options import Options
from hostward.render.references import Made, SetUses, TableChains
from hostward.render.ruleset import Chain, Hook, Jump, Table, TableId
from hostward.render.workload import WorkloadLists, to_host_chains, workload_chains

Lists = HostLists | WorkloadLists


class TableRenderer:
    """`value` is the table as of the last `settle`. `group` answers for the chains of groups that are in use."""

    def __init__(
        self,
        where: TableId,
        options: Options,
        bodies: Bodies,
        *,
        traits: GroupTraits,
        dispatches: Iterable[Dispatch],
        group: Callable[[str], Group | None],
        sets: SetUses,
    ) -> None:
        self.where = where
        self.traits = traits
        self._options = options
        self._bodies = bodies
        self._variant = bodies.variant(where)
        self._dispatches = tuple(dispatches)
        self._group = group
        self._of_user: dict[User, tuple[str, ...]] = {}
        self._needed: tuple[roots.Needs, Chain] | None = None
        self._chains = TableChains(self._make, sets)
        self._hooks: dict[str, Hook] = {}
        self._roots: dict[str, Chain] = {}
        self._all_hooks = roots.all_hooks(where.name, options)
        self.value = Table({}, self._hooks, self._all_hooks)
        common = roots.common_chains(where, options)
        self.put(common | to_host_chains(where.family, options) if where.name == "filter" else common)

    def put(self, chains: Mapping[str, Chain]) -> None:
        """Takes chains that have been computed."""
        for name, chain in chains.items():
            self._chains.put(name, chain)

    def put_lists(self, user: User, lists: Lists | None) -> None:
        """Makes the chains of an endpoint's lists anew; None: it is gone."""
        made = self._chains_of(lists) if lists is not None else {}
        for name in self._of_user.pop(user, ()):
            if name not in made:
                self._chains.withdraw(name)
        if made:
            self._of_user[user] = tuple(made)
            self.put(made)

    def put_roots(self, needs: roots.Needs, hosts: Chain) -> None:
        """Makes the root chains for what they are needed for, and lets packets in by those that are. `hosts`: see there."""
        if (needs, hosts) == self._needed:
            return
        made = roots.root_chains(self.where.name, self._options, needs, hosts)
        for name in self._roots.keys() - made.keys():
            self._chains.withdraw(name)
        self.put(made)
        self._hooks = roots.hooks(self.where.name, self._options, needs)
        rules = [rule for hook in self._hooks.values() for rule in (*hook.first, *hook.last)]
        self._chains.enter(frozenset(rule.target.chain for rule in rules if isinstance(rule.target, Jump)))
        self._roots, self._needed = made, (needs, hosts)

    def refresh(self, names: Iterable[str]) -> None:
        """Makes chains of policies, groups or dispatch anew, where they are in use."""
        for name in names:
            self._chains.refresh(name)

    def sweep(self) -> None:
        """Drops what nothing leads to any more."""
        self._chains.sweep()

    def settle(self) -> tuple[frozenset[str], int]:
        """Ends a change: the chains that may differ from those before it, and how many were computed."""
        changed, rendered = frozenset(self._chains.changed), self._chains.rendered
        self._chains.forget_changes()
        if changed:
            self.value = Table(dict(self._chains.chains), self._hooks, self._all_hooks)
        return changed, rendered

    def _chains_of(self, lists: Lists) -> dict[str, Chain]:
        name, family = self.where.name, self.where.family
        if isinstance(lists, WorkloadLists):
            return workload_chains(lists, family, self._options, self.traits) if name == "filter" else {}
        make = {"raw": raw_chains, "mangle": mangle_chains, "filter": filter_chains}[name]
        return make(lists, family, self._options, self.traits)

    def _make(self, name: str) -> Made:
        """A chain of dispatch, of a group, of a policy or of a profile."""
        for tree in self._dispatches:
            if name in tree:
                return tree.chain(name), {}
        group = self._group(name)
        if group is None or group.members == (name,):
            body = self._bodies.body(name, self._variant)
            return body.rules, body.nets
        bodies = [(member, self._bodies.body(member, self._variant)) for member in group.members]
        nets = {used: net for _, body in bodies for used, net in body.nets.items()}
        return group_chain(bodies, self._options.marks), nets
