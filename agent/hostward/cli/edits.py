"""Changes of one stored document: a merge patch, a label. Pure but for uid and time; any thread.

Fields that were stored by others and aren't understood here stay, and are no reason to refuse a change elsewhere.
"""

from __future__ import annotations

import uuid
from copy import deepcopy
from typing import Any, Final

from hostward.cli.lookup import real_name
from hostward.cli.write import NotSupportedError, now
from hostward.convert import validate
from hostward.convert.defaults import NAMESPACE_LABEL, ORCHESTRATOR_LABEL, TIER_LABEL, filled, merged, shown
from hostward.datastore.store import Document, Found, StoreError
from hostward.model.names import POLICY_KINDS

_IDENTITY: Final = (("kind",), ("apiVersion",), ("metadata", "name"), ("metadata", "namespace"))
_WORKLOADS: Final = frozenset(("WorkloadEndpoint",))
_OWN_LABELS: Final = {TIER_LABEL: POLICY_KINDS, NAMESPACE_LABEL: _WORKLOADS, ORCHESTRATOR_LABEL: _WORKLOADS}


class RefusedError(NotSupportedError):
    """The change makes no valid resource; the text says why."""


def merge(target: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386): objects are merged, null removes, everything else replaces.

    Calico's kinds have no merge keys, so a strategic merge of them is the same.
    """
    if not isinstance(patch, dict):
        return patch
    merged_ = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged_.pop(name, None)
        else:
            merged_[name] = merge(merged_.get(name), value)
    return merged_


def patched(found: Found, patch: Document) -> Document:
    """What to store in place of a resource. RefusedError when the patch changes the identity or breaks the resource."""
    before = shown(found.key, real_name(found), found.document, "")
    after = merge(before, patch)
    for path in _IDENTITY:
        if _at(after, *path) != _at(before, *path) and _at(patch, *path) is not None:
            raise RefusedError(f"{found.key}: a patch can't change {'.'.join(path)}")
    already = set(validate.problems(before))
    if wrong := [str(one) for one in validate.problems(after) if one not in already]:
        raise RefusedError(f"{found.key}: {'; '.join(wrong)}")
    try:
        wanted = filled(after)
    except (AttributeError, KeyError, TypeError) as error:
        # Only what was stored by hand, past every check, has shapes that can't be filled in.
        raise RefusedError(f"{found.key}: what is stored is not valid ({'; '.join(map(str, already))})") from error
    return merged(wanted, found.document, str(uuid.uuid4()), now())


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def labelled(found: Found, name: str, value: str | None, *, overwrite: bool) -> tuple[Document, str]:
    """The document with a label, or without it (None); and which of set, updated, removed was done. StoreError."""
    if found.key.kind in _OWN_LABELS.get(name, ()):
        raise NotSupportedError(f"{found.key}: the label {name} follows the resource itself and can't be changed")
    if name == NAMESPACE_LABEL and found.key.kind in ("NetworkSet", "GlobalNetworkSet"):
        raise NotSupportedError(f"{found.key}: network sets can't carry the label {name}")
    document = deepcopy(found.document)
    meta = document.get("metadata")
    stored = (meta.get("labels") if isinstance(meta, dict) else None) or {}
    if not isinstance(stored, dict):
        raise StoreError(f"{found.key}: what is stored as metadata.labels is no mapping; apply the resource anew")
    labels = dict(stored)
    if value is None:
        if name not in labels:
            raise StoreError(f"{found.key} has no label {name}, so it can't be removed")
        del labels[name]
        done = "removed"
    else:
        if name in labels and labels[name] != value and not overwrite:
            raise StoreError(f"{found.key} has the label {name}={labels[name]} already; --overwrite changes it")
        done = "updated" if name in labels else "set"
        labels[name] = value
    document["metadata"] = {**(meta if isinstance(meta, dict) else {}), "labels": labels}
    if not labels:
        del document["metadata"]["labels"]
    return document, done
