"""Nodes of Kubernetes to Calico's, and their labels into stored ones (`statements.md` kubernetes 1.1).

Labels that come from Kubernetes are remembered in an annotation, so that those that vanish there can be told from a user's own.
Pure functions; any thread.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from hostward.convert import kubernetes_checks as checks
from hostward.convert.defaults import annotation
from hostward.convert.kubernetes_rules import Converted, Document, passes
from hostward.model import nets
from hostward.model.fields import Found, Problem, show
from hostward.model.keys import API_VERSION

LABELS_ANNOTATION: Final = "projectcalico.org/kube-labels"
ORCHESTRATOR: Final = "k8s"
_KEPT_TYPES: Final = ("InternalIP", "ExternalIP")


def to_v3(document: Document) -> Converted:
    """The Calico Node of a Kubernetes one: its labels, addresses, and whose node it is. Nothing of how it routes."""
    found: Found = []
    meta, status = document.get("metadata"), document.get("status")
    status = {} if status is None else status
    # Both are looked at, so that all problems are named at once.
    understood = all([passes(checks.metadata, meta, "metadata", found), passes(checks.node_status, status, "status", found)])
    if not understood or not isinstance(meta, dict) or not isinstance(status, dict):
        return Converted((), tuple(found))
    spec: Document = {"orchRefs": [{"nodeName": meta["name"], "orchestrator": ORCHESTRATOR}]}
    if addresses := _addresses(status, found):
        spec["addresses"] = addresses
    bare: Document = {"apiVersion": API_VERSION, "kind": "Node", "metadata": {"name": meta["name"]}, "spec": spec}
    return Converted((with_labels(bare, meta.get("labels") or {}),), tuple(found))


def with_labels(stored: Document, labels: Mapping[str, str]) -> Document:
    """A stored Node with the labels that its Kubernetes node has now; a user's own labels stay, the node's win over them."""
    meta = dict(stored.get("metadata") or {})
    gone = _remembered(stored) - set(labels)
    meta["labels"] = {key: value for key, value in (meta.get("labels") or {}).items() if key not in gone} | dict(labels)
    memory = json.dumps(dict(labels), sort_keys=True, separators=(",", ":"))
    meta["annotations"] = (meta.get("annotations") or {}) | {LABELS_ANNOTATION: memory}
    return stored | {"metadata": meta}


def is_of_kubernetes(stored: Document) -> bool:
    """Whether a stored Node stands for one of Kubernetes, and so goes when that one goes (kubernetes 1.1)."""
    references = (stored.get("spec") or {}).get("orchRefs") or ()
    return any(isinstance(one, dict) and one.get("orchestrator") == ORCHESTRATOR for one in references)


def _remembered(stored: Document) -> set[str]:
    """The keys of the labels that came from Kubernetes last time; none when the memory is damaged: then all labels stay."""
    try:
        memory = json.loads(annotation(stored, LABELS_ANNOTATION) or "{}")
    except ValueError:
        return set()
    return set(memory) if isinstance(memory, dict) else set()


def _addresses(status: Document, found: Found) -> list[Document]:
    """The node's addresses that packets carry; names are left out."""
    kept = []
    for index, one in enumerate(status.get("addresses") or ()):
        if one.get("type") not in _KEPT_TYPES:
            continue
        if (address := nets.parse_address(one.get("address") or "")) is None:
            found.append(Problem(f"status.addresses[{index}].address", f"{show(one.get('address'))} is no address"))
        else:
            kept.append({"address": address, "type": one["type"]})
    return kept
