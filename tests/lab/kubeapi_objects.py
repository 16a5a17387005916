"""What the fake Kubernetes API server holds: objects by collection, one revision counter, the history that feeds watches.

Refuses what the real one refuses, in its words (kubernetes 3.5), but validates no specs. Called under the server's lock.
"""

from __future__ import annotations

import base64
import copy
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]
Key = tuple[str, str]  # namespace or "", name


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource: `path` is group and version, as `/apis/networking.k8s.io/v1`."""

    path: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return self.path.removeprefix("/apis/").removeprefix("/api/")


NAMESPACES = Kind("/api/v1", "namespaces", "Namespace", namespaced=False)
BUILT_IN = (
    NAMESPACES,
    Kind("/api/v1", "nodes", "Node", namespaced=False),
    *(Kind("/api/v1", f"{kind.lower()}s", kind) for kind in ("Pod", "Service", "ServiceAccount", "ConfigMap")),
    Kind("/apis/networking.k8s.io/v1", "networkpolicies", "NetworkPolicy"),
)
ADMIN_POLICIES = Kind("/apis/policy.networking.k8s.io/v1alpha1", "adminnetworkpolicies", "AdminNetworkPolicy", namespaced=False)
SLICES = {
    version: Kind(f"/apis/discovery.k8s.io/{version}", "endpointslices", "EndpointSlice") for version in ("v1", "v1beta1")
}


class Refused(Exception):  # noqa: N818 # as in "refused": an answer more than a fault
    """An answer other than success; `status` is the Status object."""

    def __init__(self, code: int, reason: str | None, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status(code, reason, message, **more)


def status(code: int, reason: str | None, message: str, **more: Any) -> Document:
    """A Status object for a failure; some have no reason."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "code": code,
        **({"reason": reason} if reason else {}),
        **more,
    }


@dataclass(frozen=True, slots=True)
class Event:
    """One change, as a watch tells it."""

    revision: int
    type: str
    kind: Kind
    object: Document


@dataclass
class Objects:
    """The whole content. Copied by `saved` and brought back by `restore`, as etcd's backup is."""

    revision: int = 100
    compacted: int = 100
    """Watches can't begin before this revision, continued lists not from before it."""
    kept: dict[Kind, dict[Key, Document]] = field(default_factory=dict)
    history: list[Event] = field(default_factory=list)
    snapshots: dict[int, list[Document]] = field(default_factory=dict)

    def saved(self) -> Objects:
        return copy.deepcopy(self)

    def get(self, kind: Kind, key: Key) -> Document:
        found = self.kept.get(kind, {}).get(key)
        if found is None:
            raise Refused(404, "NotFound", f'{kind.plural} "{key[1]}" not found')
        return found

    def create(self, kind: Kind, namespace: str, document: Mapping[str, Any]) -> Document:
        made = copy.deepcopy(dict(document))
        metadata = made.setdefault("metadata", {})
        key = (namespace, metadata["name"])
        if kind.namespaced:
            self.get(NAMESPACES, ("", namespace))
            metadata["namespace"] = namespace
        if key in self.kept.get(kind, {}):
            raise Refused(409, "AlreadyExists", f'{kind.plural} "{key[1]}" already exists')
        if metadata.get("resourceVersion"):
            raise Refused(422, "Invalid", "resourceVersion should not be set on objects to be created")
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": "2024-01-01T00:00:00Z"}
        if kind is NAMESPACES:
            made["spec"], made["status"] = {"finalizers": ["kubernetes"]}, {"phase": "Active"}
        return self._record("ADDED", kind, key, made)

    def update(self, kind: Kind, key: Key, document: Mapping[str, Any]) -> Document:
        before = self.get(kind, key)
        made = copy.deepcopy(dict(document))
        metadata = made.setdefault("metadata", {})
        asked = metadata.get("resourceVersion")
        if asked and asked != before["metadata"]["resourceVersion"]:
            message = f'Operation cannot be fulfilled on {kind.plural} "{key[1]}": the object has been modified'
            raise Refused(409, "Conflict", message)
        fixed = ("namespace", "name", "uid", "creationTimestamp")
        metadata |= {name: before["metadata"][name] for name in fixed if name in before["metadata"]}
        metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
        about = {"apiVersion": kind.api_version, "kind": kind.kind}
        if about | made == about | before:
            return before  # a write that changes nothing is no event
        return self._record("MODIFIED", kind, key, made)

    def delete(self, kind: Kind, key: Key, *, wholly: bool = False) -> Document:
        """A namespace only becomes Terminating, unless `wholly`: removing it is a controller's job."""
        made = copy.deepcopy(self.get(kind, key))
        if kind is NAMESPACES and not wholly:
            made["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:01Z"
            made["status"] = {"phase": "Terminating"}
            return self._record("MODIFIED", kind, key, made)
        return self._record("DELETED", kind, key, made)

    def _record(self, type_: str, kind: Kind, key: Key, made: Document) -> Document:
        self.revision += 1
        made = {"kind": kind.kind, "apiVersion": kind.api_version, **made}
        made["metadata"]["resourceVersion"] = str(self.revision)
        if type_ == "DELETED":
            del self.kept[kind][key]
        else:
            self.kept.setdefault(kind, {})[key] = made
        self.history.append(Event(self.revision, type_, kind, copy.deepcopy(made)))
        return made

    def compact(self) -> None:
        """Forgets all history."""
        self.compacted = self.revision
        self.history.clear()
        self.snapshots.clear()

    # --- lists
    def list(self, kind: Kind, namespace: str | None, limit: int, token: str) -> Document:
        """One page; all pages show the revision of the first."""
        metadata: Document = {}
        if token:
            try:
                asked = json.loads(base64.b64decode(token, validate=True))
                revision, start = int(asked["rv"]), int(asked["start"])
            except (ValueError, KeyError, TypeError) as error:
                raise Refused(400, "BadRequest", "continue key is not valid") from error
            if revision not in self.snapshots:
                message = (
                    "The provided continue parameter is too old to display a consistent list result. You must start a new list "
                    "without the continue parameter."
                )
                raise Refused(410, "Expired", message)
            items = self.snapshots[revision]
        else:
            chosen = sorted(self.kept.get(kind, {}).items())
            items = [one for key, one in chosen if namespace is None or key[0] == namespace]
            revision, start = self.revision, 0
        end = start + limit if limit else len(items)
        if end < len(items):
            self.snapshots[revision] = items
            metadata["continue"] = base64.b64encode(json.dumps({"rv": revision, "start": end}).encode()).decode()
            metadata["remainingItemCount"] = len(items) - end
        bare = [{name: value for name, value in one.items() if name not in {"kind", "apiVersion"}} for one in items[start:end]]
        metadata["resourceVersion"] = str(revision)
        return {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata, "items": bare}
