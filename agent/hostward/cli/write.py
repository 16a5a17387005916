"""Writes one resource: creates it, or brings the stored one to what is wanted, comparing (`statements.md` A.7).

Knows no files and prints nothing. The commands' own thread.
"""

from __future__ import annotations

import datetime
import random
import time
import uuid
from collections.abc import Callable
from typing import Final

from hostward.cli.lookup import SYNTHETIC, missing, stored
from hostward.cli.manifests import Manifest
from hostward.convert.defaults import filled, merged
from hostward.datastore.store import (
    AlreadyExistsError,
    BrokenError,
    ConflictError,
    Document,
    Found,
    NotFoundError,
    Store,
    StoreError,
)
from hostward.model.keys import ResourceKey
from hostward.model.names import POLICY_KINDS
from hostward.model.resources import BUILT_IN_TIERS, DEFAULT_ALLOW_PROFILE

TRIES: Final = 5
_PAUSE: Final = 0.2
_KUBERNETES: Final = "knp.default."
_KEPT_BY_OTHERS: Final = ("Node", "WorkloadEndpoint")

Say = Callable[[str], None]


class NotSupportedError(StoreError):
    """An operation that is never allowed on this resource."""


def check_writable(operation: str, key: ResourceKey, *, of_kubernetes: bool = False) -> None:
    """Raises NotSupportedError for what nobody may write: what always exists, and what Kubernetes owns (A.2, A.3).

    `of_kubernetes` says that an object of Kubernetes was given, not the copy of one. What others add to one's copy they keep.
    """
    reason = ""
    if key.kind == "Profile" and key.name == DEFAULT_ALLOW_PROFILE:
        reason = "this profile is built in"
    elif key.kind == "ClusterInformation":
        reason = "it is read-only"
    elif of_kubernetes and key.kind in _KEPT_BY_OTHERS:
        reason = "it is kept by what manages the node's network, and has more in it than an object of Kubernetes says"
    elif key.kind == "NetworkPolicy" and key.name.startswith(_KUBERNETES) and not of_kubernetes:
        reason = "it is the copy of a Kubernetes NetworkPolicy; change that one with kubectl, or by its own document and -f"
    if reason:
        raise NotSupportedError(f"operation {operation} is not supported on {key}: {reason}")


def apply(store: Store, manifest: Manifest, say: Say) -> None:
    """Creates the resource of a manifest, or updates the stored one, under whatever name an older release stored it.

    A value that can't be read is replaced. Without a resourceVersion in the manifest a lost race is repeated, up to 5 times,
    and `say` is told; with one it is an error (C.3). Raises StoreError.
    """
    check_writable("apply", manifest.key, of_kubernetes=manifest.of_kubernetes)
    wanted = filled(manifest.document)
    given = _given(manifest)

    def attempt() -> None:
        found = _current(store, manifest.key, say)
        if found is None:
            _require_tier(store, wanted)
            store.create(manifest.key, wanted)
        else:
            _update(store, found, wanted, given)

    _repeated(manifest.key, attempt, say, once=bool(given))


def create(store: Store, manifest: Manifest, say: Say) -> None:  # noqa: ARG001 # the same shape as apply and replace
    """Creates the resource of a manifest. Raises AlreadyExistsError, also for one that an older release stored; StoreError."""
    check_writable("create", manifest.key, of_kubernetes=manifest.of_kubernetes)
    if given := _given(manifest):
        raise NotSupportedError(
            f"{manifest.key}: error with field Metadata.ResourceVersion = '{given}' "
            "(field must not be set for a Create request)"
        )
    wanted = filled(manifest.document)
    try:
        there = stored(store, manifest.key) is not None
        if not there:
            _require_tier(store, wanted)
            store.create(manifest.key, wanted)
    except (AlreadyExistsError, BrokenError):
        there = True
    if there:
        raise AlreadyExistsError(f"resource already exists: {manifest.key} with error: <nil>")


def replace(store: Store, manifest: Manifest, say: Say) -> None:
    """Updates the stored resource of a manifest; as `apply`, but raises NotFoundError where there is none."""
    check_writable("replace", manifest.key, of_kubernetes=manifest.of_kubernetes)
    wanted = filled(manifest.document)
    given = _given(manifest)

    def attempt() -> None:
        found = _current(store, manifest.key, say)
        if found is None:
            raise _AbsentError(str(missing(manifest.key)))
        _update(store, found, wanted, given)

    _repeated(manifest.key, attempt, say, once=bool(given))


def edit(store: Store, find: Callable[[], Found], change: Callable[[Found], Document], verb: str, say: Say) -> ResourceKey:
    """Reads a resource and writes what `change` makes of it, again after a lost race; its key. Raises StoreError."""
    key: list[ResourceKey] = []

    def attempt() -> None:
        found = find()
        key[:] = [found.key]
        check_writable(verb, found.key)
        if found.revision == SYNTHETIC:
            raise NotSupportedError(f"{found.key} is built in and not stored; apply it first to change it")
        changed = change(found)
        if changed != found.document:
            store.update(found.key, changed, found.revision)

    _repeated(None, attempt, say, once=False)
    return key[0]


def _given(manifest: Manifest) -> str:
    given = manifest.document["metadata"].get("resourceVersion")
    return str(given) if given else ""


def _current(store: Store, key: ResourceKey, say: Say) -> Found | None:
    try:
        return stored(store, key)
    except BrokenError as broken:
        say(f"{broken.key}: what was stored there could not be read and is replaced")
        return Found(broken.key, {}, broken.revision)


def _update(store: Store, found: Found, wanted: Document, given: str) -> None:
    if given and int(given) != found.revision:
        raise _stale(found, given)
    store.update(found.key, merged(wanted, found.document, str(uuid.uuid4()), now()), found.revision)


def _repeated(key: ResourceKey | None, attempt: Callable[[], None], say: Say, *, once: bool) -> None:
    """Tries up to 5 times, if allowed: what somebody else changed meanwhile is read again."""
    for number in range(1, TRIES + 1):
        try:
            attempt()
        except (AlreadyExistsError, ConflictError, NotFoundError) as error:
            lost = isinstance(error, AlreadyExistsError | ConflictError) or key is not None
            if once or not lost or isinstance(error, _AbsentError) or number == TRIES:
                raise
            what = key or "the resource"
            say(f"{what} was changed by somebody else at the same time; trying again ({number + 1} of {TRIES})")
            time.sleep(random.uniform(0.5, 1.5) * _PAUSE)  # noqa: S311 # spreads writers that collide; no secret
        else:
            return


class _AbsentError(NotFoundError):
    """What is needed is not there; no race that was lost."""


def _require_tier(store: Store, document: Document) -> None:
    """A policy is created only in a tier that is there (A.10); an update is not held up by it."""
    spec = document["spec"]
    if document["kind"] not in POLICY_KINDS or spec["tier"] in BUILT_IN_TIERS:
        return
    key = ResourceKey("Tier", "", spec["tier"])
    if stored(store, key) is None:
        raise _AbsentError(str(missing(key)))


def _stale(found: Found, given: str) -> ConflictError:
    return ConflictError(
        f"update conflict: {found.key}: the manifest was made from revision {given}, and the stored one is {found.revision}; "
        "get it again, or leave resourceVersion out"
    )


def now() -> str:
    """This second as creationTimestamp has it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def delete(store: Store, found: Found, given: str = "", *, of_kubernetes: bool = False) -> None:
    """Removes a stored resource; with the resourceVersion of a manifest only if it is still that one. Raises StoreError."""
    check_writable("delete", found.key, of_kubernetes=of_kubernetes)
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
