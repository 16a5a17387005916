"""Finds stored resources by the names that people use: the real name, an older release's stored name, or the name in v1.

Policies are stored under three historical forms of their names (`statements.md` A.3); v1 documents may have been renamed
when they were converted (B.4). What always exists (D5) is found whether stored or not. The commands' own thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hostward.convert import v1
from hostward.convert.defaults import V1_NAME_ANNOTATION, annotation
from hostward.datastore.store import Found, NotFoundError, Store, StoreError
from hostward.model.document import DocumentError
from hostward.model.keys import API_VERSION, ResourceKey
from hostward.model.names import POLICY_KINDS, display_name
from hostward.model.resources import BUILT_IN_TIERS, DEFAULT_ALLOW_PROFILE

_PER_NODE: Final = {"HostEndpoint": "host endpoints", "WorkloadEndpoint": "workload endpoints"}
SYNTHETIC: Final = 0
"""The revision of a tier that exists though it isn't stored."""


class AmbiguousError(StoreError):
    """A name that more than one resource answers to."""


def missing(*keys: ResourceKey) -> NotFoundError:
    """The error for a resource that is not there, in calicoctl's words (C.2)."""
    return NotFoundError(f"resource does not exist: {' or '.join(map(str, keys))} with error: <nil>")


def real_name(found: Found) -> str:
    """The name that the user typed (A.3); the stored one where that can't be told."""
    try:
        return display_name(found.key, found.document)
    except DocumentError:
        return found.key.name


def find(store: Store, kind: str, namespace: str, name: str) -> Found:
    """The resource of a kind that a name means. Raises NotFoundError, AmbiguousError."""
    key = ResourceKey(kind, namespace, name)
    if found := stored(store, key) or _built_in(key) or _renamed(store, key):
        return found
    raise missing(key)


def stored(store: Store, key: ResourceKey) -> Found | None:
    """The stored resource with this real name: under the name itself, or as older releases stored it."""
    if "/" in key.name:
        return None
    for name in (key.name, f"default.{key.name}") if key.kind in POLICY_KINDS else (key.name,):
        try:
            found = store.get(key._replace(name=name))
        except NotFoundError:
            continue
        # A policy that was typed as `default.x` is not the policy `x`.
        if name == key.name or real_name(found) == key.name:
            return found
    return None


def find_anywhere(store: Store, kinds: tuple[str, ...], name: str) -> Found:
    """The one resource of several kinds, in any namespace, that a name means (D14). Raises NotFoundError, AmbiguousError."""
    found: list[Found] = []
    for kind in kinds:
        if kind == "NetworkPolicy":
            found += [one for one in store.list(kind)[1] if name in (real_name(one), one.key.name)]
            continue
        try:
            found.append(find(store, kind, "", name))
        except NotFoundError:
            continue
    if len(found) > 1:
        both = ", ".join(str(one.key) for one in found)
        raise AmbiguousError(f"{name!r} means more than one policy: {both}; say gnp for the global one, or np with -n")
    if not found:
        raise missing(*(ResourceKey(kind, "", name) for kind in kinds))
    return found[0]


def everything(store: Store, kind: str, namespace: str = "") -> tuple[int, list[Found]]:
    """The revision of the list and all resources of a kind, those that always exist among them, sorted by key."""
    revision, found = store.list(kind, namespace)
    there = {one.key for one in found}
    return revision, sorted([*found, *(one for one in _always(kind) if one.key not in there)], key=lambda one: one.key)


def _renamed(store: Store, key: ResourceKey) -> Found | None:
    """The resource that was converted from a v1 document of this name."""
    for name in v1.v3_names(key.kind, key.name):
        found = stored(store, key._replace(name=name)) if name and name != key.name else None
        if found and annotation(found.document, V1_NAME_ANNOTATION) == key.name:
            return found
    if key.kind not in _PER_NODE:
        return None
    # A v1 endpoint's name was unique on its node or workload only, so its v3 name can't be computed from it.
    there = store.list(key.kind, key.namespace)[1]
    named = [one for one in there if annotation(one.document, V1_NAME_ANNOTATION) == key.name]
    if len(named) > 1:
        raise AmbiguousError(
            f"{key.name!r} was the v1 name of {len(named)} {_PER_NODE[key.kind]}: {', '.join(one.key.name for one in named)}"
        )
    return named[0] if named else None


def _document(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "apiVersion": API_VERSION, "metadata": {"name": name}, "spec": dict(spec)}


def _always(kind: str) -> Iterator[Found]:
    """What exists whether stored or not (D5). The profile has revision 1, as calicoctl shows it (A.2)."""
    if kind == "Profile":
        allow = {"ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}]}
        yield Found(ResourceKey(kind, "", DEFAULT_ALLOW_PROFILE), _document(kind, DEFAULT_ALLOW_PROFILE, allow), 1)
    if kind == "Tier":
        for tier in BUILT_IN_TIERS.values():
            spec = {"order": int(tier.order or 0), "defaultAction": tier.default_action.value}
            yield Found(ResourceKey(kind, "", tier.name), _document(kind, tier.name, spec), SYNTHETIC)


def _built_in(key: ResourceKey) -> Found | None:
    return next((one for one in _always(key.kind) if one.key == key), None)
