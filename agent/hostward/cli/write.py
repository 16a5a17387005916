"""Writes one manifest: creates the resource, or brings the stored one to it with compare-and-swap (`datamodel-and-cli.md` A.7).

Knows no files and prints nothing. The commands' own thread.
"""

from __future__ import annotations

import datetime
import time
import uuid
from collections.abc import Callable
from typing import Final

from hostward.cli.lookup import missing, stored
from hostward.cli.manifests import Manifest
from hostward.convert.defaults import filled, merged
from hostward.datastore.store import AlreadyExistsError, ConflictError, Found, NotFoundError, Store, StoreError
from hostward.model.keys import ResourceKey
from hostward.model.names import POLICY_KINDS
from hostward.model.resources import BUILT_IN_TIERS, DEFAULT_ALLOW_PROFILE

TRIES: Final = 5
_PAUSE: Final = 0.2
_KUBERNETES: Final = "knp.default."

Say = Callable[[str], None]


class NotSupportedError(StoreError):
    """An operation that is never allowed on this resource."""


def check_writable(operation: str, key: ResourceKey) -> None:
    """Raises NotSupportedError for what nobody may write: what always exists, and what Kubernetes owns (A.2, A.3)."""
    reason = ""
    if key.kind == "Profile" and key.name == DEFAULT_ALLOW_PROFILE:
        reason = "this profile is built in"
    elif key.kind == "ClusterInformation":
        reason = "it is read-only"
    elif key.kind == "NetworkPolicy" and key.name.startswith(_KUBERNETES):
        reason = "it is the copy of a Kubernetes NetworkPolicy; change that one with kubectl"
    if reason:
        raise NotSupportedError(f"operation {operation} is not supported on {key}: {reason}")


def apply(store: Store, manifest: Manifest, say: Say) -> None:
    """Creates the resource of a manifest, or updates the stored one, under whatever name an older release stored it.

    Without a resourceVersion in the manifest a lost race is repeated, up to 5 times, and `say` is told; with one it is an error
    (C.3). Raises StoreError.
    """
    check_writable("apply", manifest.key)
    wanted = filled(manifest.document)
    given = manifest.document["metadata"].get("resourceVersion")
    for attempt in range(1, TRIES + 1):
        found = stored(store, manifest.key)
        try:
            if found is None:
                _require_tier(store, wanted)
                store.create(manifest.key, wanted)
            else:
                if given and int(given) != found.revision:
                    raise _stale(found, given)
                store.update(found.key, merged(wanted, found.document, str(uuid.uuid4()), _now()), found.revision)
        except (AlreadyExistsError, ConflictError, NotFoundError) as error:
            if given or _is_final(error) or attempt == TRIES:
                raise
            say(f"{manifest.key} was changed by somebody else at the same time; trying again ({attempt + 1} of {TRIES})")
            time.sleep(_PAUSE)
        else:
            return


class _MissingTierError(NotFoundError):
    """The tier of a policy is not there; no race that was lost."""


def _is_final(error: StoreError) -> bool:
    return isinstance(error, _MissingTierError)


def _require_tier(store: Store, document: dict[str, object]) -> None:
    """A policy is created only in a tier that is there (A.10); an update is not held up by it."""
    spec = document["spec"]
    if document["kind"] not in POLICY_KINDS or not isinstance(spec, dict) or spec["tier"] in BUILT_IN_TIERS:
        return
    key = ResourceKey("Tier", "", spec["tier"])
    if stored(store, key) is None:
        raise _MissingTierError(str(missing(key)))


def _stale(found: Found, given: str) -> ConflictError:
    return ConflictError(
        f"update conflict: {found.key}: the manifest was made from revision {given}, and the stored one is {found.revision}; "
        "get it again, or leave resourceVersion out"
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def delete(store: Store, found: Found, given: str = "") -> None:
    """Removes a stored resource; with the resourceVersion of a manifest only if it is still that one. Raises StoreError."""
    check_writable("delete", found.key)
    if found.key.kind == "Tier":
        _check_tier_unused(store, found.key)
    if given and int(given) != found.revision:
        raise _stale(found, given)
    store.delete(found.key, int(given) if given else None)


def _check_tier_unused(store: Store, key: ResourceKey) -> None:
    if key.name in BUILT_IN_TIERS:
        raise NotSupportedError(f"operation delete is not supported on {key}: this tier is built in")
    for kind in sorted(POLICY_KINDS):
        for one in store.list(kind)[1]:
            spec = one.document.get("spec")
            if isinstance(spec, dict) and spec.get("tier") == key.name:
                raise NotSupportedError(
                    f"operation delete is not supported on {key}: the tier is not empty: {one.key} is in it"
                )
