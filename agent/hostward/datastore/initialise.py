"""What a fresh etcd needs before the first policy: ClusterInformation and the built-in tiers (`statements.md` A.6).

Called by the verbs that write; runs in their thread.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from hostward.datastore.store import AlreadyExistsError, ConflictError, NotFoundError, Store
from hostward.model.keys import ResourceKey

CLUSTER: Final = ResourceKey("ClusterInformation", "", "default")
TIERS: Final[dict[str, dict[str, Any]]] = {
    "kube-admin": {"order": 1000, "defaultAction": "Pass"},
    "default": {"order": 1000000, "defaultAction": "Deny"},
    "kube-baseline": {"order": 10000000, "defaultAction": "Pass"},
}
_TRIES: Final = 5


def initialise(store: Store, guid: str = "") -> bool:
    """Creates what is missing and leaves alone what is there; several writers may do it at once. StoreError.

    Whether a store that was in use got a new GUID: agents that trust the one that is lost will refuse it. `guid` is for a
    cluster that has none; a random one by default. `datastoreReady` is set only where it's unset: an explicit false is
    somebody's decision.
    """
    renamed = False
    for attempt in range(_TRIES):
        try:
            renamed = _cluster_information(store, guid or secrets.token_hex(16))
        except (AlreadyExistsError, ConflictError, NotFoundError):
            if attempt == _TRIES - 1:
                raise
        else:
            break
    for name, spec in TIERS.items():
        key = ResourceKey("Tier", "", name)
        try:
            store.get(key)
        except NotFoundError:
            try:
                store.create(key, {"spec": spec})
            except AlreadyExistsError:
                continue  # another writer was faster
    return renamed


def _cluster_information(store: Store, guid: str) -> bool:
    try:
        found = store.get(CLUSTER)
    except NotFoundError:
        used = bool(store.list("Tier")[1])  # whoever makes the one makes the others after it
        store.create(CLUSTER, {"spec": {"clusterGUID": guid, "clusterType": "hostward", "datastoreReady": True}})
        return used
    spec = found.document.get("spec") or {}
    # calicoVersion and clusterType stay as they are: a real Calico compares them with its own.
    filled = spec | ({} if spec.get("clusterGUID") else {"clusterGUID": guid})
    if spec.get("datastoreReady") is None:
        filled["datastoreReady"] = True
    if filled != spec:
        store.update(CLUSTER, found.document | {"spec": filled}, found.revision)
    return False
