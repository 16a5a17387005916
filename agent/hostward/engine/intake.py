"""From stored bytes to resources in force: what is understood, what older version stays instead, when to freeze (D4, D12).

Knows no kernel. Engine thread only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

from hostward.datastore.feed import Stored
from hostward.engine.mailbox import Batch
from hostward.engine.memory import Memory
from hostward.model import keys
from hostward.model.decode import Problem, decode
from hostward.model.keys import ResourceKey
from hostward.model.resources import ClusterInformation, Configuration, Resource

CLUSTER = ResourceKey("ClusterInformation", "", "default")
GUID_FACT = "clusterGUID"


class SetAside(Struct, frozen=True):
    """An object that isn't wholly understood, why, and whether its last understood version is in force instead."""

    key: ResourceKey
    problems: tuple[Problem, ...]
    older_in_force: bool


class Intake:
    """Follows the datastore. `objects` is all that it holds now; `in_force` what the agent goes by.

    While `frozen` names a reason, `in_force` stands still, whatever the datastore says. `always_ready`: the store has no
    cluster to be confused about (`dir:`). `accepted_guid`: the setting that names another cluster to accept.
    """

    def __init__(self, memory: Memory, *, accepted_guid: str = "", always_ready: bool = False) -> None:
        self._memory = memory
        self._accepted_guid = accepted_guid
        self._always_ready = always_ready
        self.objects: dict[str, Stored] = {}
        self.in_force: dict[ResourceKey, Resource] = {}
        self.kinds: Counter[str] = Counter()
        """How many objects of each kind are in force."""
        self.aside: dict[ResourceKey, SetAside] = {}
        self.asides = 0
        """Grows whenever something is set aside, or no longer is."""
        self.frozen: str | None = "no complete snapshot of the datastore yet"
        self.frozen_kind = "waiting"
        self._cluster: tuple[Stored, Resource | None] | None = None
        self._complete = False
        self._pending: set[str] = set()

    def take(self, batch: Batch) -> dict[ResourceKey, Resource | None]:
        """Follows a batch; the changes to what is in force."""
        if batch.snapshot:
            new = {key: stored for key, stored in batch.objects.items() if stored is not None}
            self._pending |= {key for key in self.objects.keys() | new.keys() if self.objects.get(key) != new.get(key)}
            if not self._complete:
                self._pending |= self._memory.understood.keys()
            self.objects, self._complete = new, True
        else:
            for key, stored in batch.objects.items():
                if stored is None:
                    self.objects.pop(key, None)
                else:
                    self.objects[key] = stored
            self._pending |= batch.objects.keys()
        doubt = self._reason_to_freeze()
        self.frozen_kind, self.frozen = doubt or ("", None)
        if doubt is not None:
            return {}
        pending, self._pending = self._pending, set()
        return self._adopt(pending)

    def _reason_to_freeze(self) -> tuple[str, str] | None:
        """A word for machines and a sentence for people, or None."""
        if not self._complete:
            return "waiting", "no complete snapshot of the datastore yet"
        if self._always_ready:
            return None
        stored = self.objects.get(keys.path(CLUSTER))
        if stored is None:
            return "uninitialised", "ClusterInformation is missing: the datastore is empty, wrong or half restored"
        if self._cluster is None or self._cluster[0] is not stored:
            self._cluster = stored, decode(CLUSTER, stored.value).value
        cluster = self._cluster[1]
        if not isinstance(cluster, ClusterInformation) or not cluster.ready:
            return "not-ready", "ClusterInformation does not say datastoreReady: true"
        trusted = self._memory.facts.get(GUID_FACT, "")
        accepted = cluster.guid == trusted or (self._accepted_guid and cluster.guid == self._accepted_guid)
        if trusted and not accepted:
            return "other-cluster", (
                f"clusterGUID is {cluster.guid or 'empty'}, but this host trusts {trusted}: "
                "another cluster's datastore? The setting clusterGUID accepts it"
            )
        if cluster.guid and cluster.guid != trusted:
            self._memory.note(GUID_FACT, cluster.guid)
        return None

    def _adopt(self, pending: set[str]) -> dict[ResourceKey, Resource | None]:
        changes: dict[ResourceKey, Resource | None] = {}
        remember: dict[str, bytes | None] = {}
        for path in pending:
            key = keys.parse(path)
            if key is None:
                if path in self._memory.understood:
                    remember[path] = None
                continue
            value = self._understand(key, path, self.objects.get(path), remember)
            if value != self.in_force.get(key):
                changes[key] = value
                if self.in_force.pop(key, None) is not None:
                    self.kinds[key.kind] -= 1
                if value is not None:
                    self.in_force[key] = value
                    self.kinds[key.kind] += 1
        if remember:
            self._memory.remember(remember)
        return changes

    def _understand(
        self, key: ResourceKey, path: str, stored: Stored | None, remember: dict[str, bytes | None]
    ) -> Resource | None:
        """The value to go by for one object (D4)."""
        self.asides += self.aside.pop(key, None) is not None
        if stored is None:
            if path in self._memory.understood:
                remember[path] = None
            return None
        decoded = decode(key, stored.value)
        if not decoded.problems:
            if decoded.value is not None and self._memory.understood.get(path) != stored.value:
                remember[path] = stored.value
            return decoded.value
        older = self._older(key, path)
        self.aside[key] = SetAside(key, decoded.problems, older is not None)
        self.asides += 1
        return older if older is not None else decoded.value

    def remember(self) -> None:
        """Keeps over a restart what was taken in. No packet waits for this: it is time once the batch is in force."""
        self._memory.write()

    def _older(self, key: ResourceKey, path: str) -> Resource | None:
        remembered = self._memory.understood.get(path)
        return decode(key, remembered).value if remembered is not None else None

    def configuration(self, name: str) -> Mapping[str, object] | None:
        """The spec of a FelixConfiguration in force, None if there is none."""
        return _spec(self.in_force.get(_configuration(name)))

    def remembered_configuration(self, name: str) -> Mapping[str, object] | None:
        """The same as an earlier agent left it."""
        key = _configuration(name)
        return _spec(self._older(key, keys.path(key)))


def _configuration(name: str) -> ResourceKey:
    return ResourceKey("FelixConfiguration", "", name)


def _spec(resource: Resource | None) -> Mapping[str, object] | None:
    return resource.spec if isinstance(resource, Configuration) else None
