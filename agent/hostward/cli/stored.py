"""What the datastore holds for this host, read once and understood as the agent understands it; used by `hostward doctor`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hostward.datastore.connection import from_environment
from hostward.datastore.opening import open_store
from hostward.datastore.store import Document, Store, StoreError
from hostward.model.decode import decode
from hostward.model.findings import Finding, fail, ok, warn
from hostward.model.keys import ResourceKey
from hostward.model.resources import Resource

KINDS = (
    "ClusterInformation", "FelixConfiguration", "GlobalNetworkPolicy", "GlobalNetworkSet", "HostEndpoint", "NetworkPolicy",
    "NetworkSet", "Profile", "Tier", "WorkloadEndpoint",
)  # fmt: skip


class Stored(NamedTuple):
    """Documents by key."""

    documents: Mapping[ResourceKey, Document]

    def configurations(self, node: str) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
        """The specs of FelixConfiguration `node.<name>` and `default`."""
        one, every = (self._spec("FelixConfiguration", name) for name in (f"node.{node}", "default"))
        return one, every

    def _spec(self, kind: str, name: str) -> Mapping[str, Any] | None:
        spec = self.documents.get(ResourceKey(kind, "", name), {}).get("spec")
        return spec if isinstance(spec, Mapping) else None

    def resources(self) -> dict[ResourceKey, Resource]:
        """All of them as the agent understands those that it sees for the first time."""
        found = {}
        for key, document in self.documents.items():
            value = decode(key, json.dumps(document).encode()).value
            if value is not None:
                found[key] = value
        return found

    def findings(self, node: str, *, always_ready: bool = False) -> Iterator[Finding]:
        """Whether an agent would follow it, and whether it says anything about this host."""
        ready = (self._spec("ClusterInformation", "default") or {}).get("datastoreReady")
        if ready is not True and not always_ready:
            if ready is None:
                what = "has no ClusterInformation"
                do = "new: apply the policies, which initialises it; has it been in use: restore it before anybody writes to it"
            else:
                what = "says datastoreReady: false"
                do = "somebody holds it, for an upgrade or a migration; docs/runbooks/HostwardFrozen.md says how that ends"
            yield fail("datastore", f"{what}: the agent keeps the kernel as it is", do)
        hosts = [document.get("spec", {}) for key, document in self.documents.items() if key.kind == "HostEndpoint"]
        here = [spec for spec in hosts if spec.get("node") == node]
        if here:
            yield ok("host endpoints", f"{len(here)} for node {node}")
        elif hosts:
            others = sorted({str(spec.get("node")) for spec in hosts})[:5]
            do = f"is nodeName right? there are some for {', '.join(others)}"
            yield warn("host endpoints", f"none for node {node}: no host interface here is guarded", do)
        else:
            yield ok("host endpoints", f"none at all: no host interface of {node} is guarded")


def read_stored(datastore: str, environ: Mapping[str, str]) -> Stored | str:
    """What is stored, or why it can't be read."""
    try:
        store = _store(datastore, environ)
    except StoreError as error:
        return str(error)
    try:
        return Stored({found.key: found.document for kind in KINDS for found in store.list(kind)[1]})
    except (StoreError, OSError) as error:
        return str(error)
    finally:
        store.close()


def _store(datastore: str, environ: Mapping[str, str]) -> Store:
    """As the agent finds it: a calicoctl.cfg is not for it."""
    if datastore != "etcd":
        return open_store(datastore, None, False, environ)
    from hostward.datastore.etcd.store import EtcdStore  # noqa: PLC0415 # heavy, and of no use to who has a directory

    return EtcdStore(from_environment(environ))
