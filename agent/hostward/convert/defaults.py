"""What Calico's writers fill in before they store a document (`statements.md` A.2, A.3, A.10 Defaulting).

Also how a stored document is shown: under the name that the user typed, with its revision. Documents given here are valid
(`validate`) or stored; they are never changed, copies are returned. Pure functions; any thread.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from hostward.model.keys import ResourceKey
from hostward.model.names import NAME_ANNOTATION, POLICY_KINDS
from hostward.model.resources import BUILT_IN_TIERS

Document = dict[str, Any]

V1_NAME_ANNOTATION: Final = "hostward/v1-name"
TIER_LABEL: Final = "projectcalico.org/tier"
NAMESPACE_LABEL: Final = "projectcalico.org/namespace"
ORCHESTRATOR_LABEL: Final = "projectcalico.org/orchestrator"
STAGED_KINDS: Final = frozenset(("StagedGlobalNetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy"))
_KEPT_METADATA: Final = ("name", "namespace", "labels", "annotations")
_EXPONENT_FROM: Final = 1e21  # Go writes numbers from here on with an exponent
_RULE_LISTS: Final = ("ingress", "egress")


def types_of(spec: Mapping[str, Any]) -> list[str]:
    """The types of a policy that names none: by the rules it has, Ingress if it has none at all (A.10)."""
    ingress, egress = bool(spec.get("ingress")), bool(spec.get("egress"))
    return ["Ingress"] * (ingress or not egress) + ["Egress"] * egress


def filled(document: Mapping[str, Any]) -> Document:
    """A valid document as a writer stores it, but for uid and time of creation, which the store adds.

    Absent (`null`) fields are dropped, and numbers and digits have their stored form.
    """
    kind = document["kind"]
    given = document["metadata"]
    spec = _tidy(document.get("spec") or {})
    meta: Document = {name: _tidy(given[name]) for name in _KEPT_METADATA if given.get(name)}
    if kind != "StagedKubernetesNetworkPolicy":  # its rules are those of Kubernetes
        for rule in (rule for name in _RULE_LISTS for rule in spec.get(name) or ()):
            _spell_rule(rule)
    for port in spec.get("ports") or ():
        port["protocol"] = _digits(port["protocol"])
    if kind in STAGED_KINDS:
        spec.setdefault("stagedAction", "Set")
    if kind in POLICY_KINDS:
        _fill_policy(spec)
        meta["labels"] = meta.get("labels", {}) | {TIER_LABEL: spec["tier"]}
        named = {NAME_ANNOTATION: json.dumps({"name": meta["name"]}, separators=(",", ":"))}
        meta["annotations"] = meta.get("annotations", {}) | named
    elif kind == "Tier":
        built_in = BUILT_IN_TIERS.get(meta["name"])
        spec.setdefault("order", int(built_in.order if built_in and built_in.order is not None else 1_000_000))
        spec.setdefault("defaultAction", "Deny")
    elif kind == "WorkloadEndpoint":
        # Whatever the author wrote there, as Calico does: selectors trust these two (A.2).
        labels = {NAMESPACE_LABEL: meta.get("namespace", ""), ORCHESTRATOR_LABEL: spec.get("orchestrator", "")}
        meta["labels"] = meta.get("labels", {}) | labels
    elif kind == "IPPool":
        spec.setdefault("nodeSelector", "all()")
        spec.setdefault("assignmentMode", "Automatic")
    return {"kind": kind, "apiVersion": document["apiVersion"], "metadata": meta, "spec": spec}


def _fill_policy(spec: Document) -> None:
    # A staged deletion holds nothing but its tier (A.10).
    if not spec.get("types") and spec.get("stagedAction") != "Delete":
        spec["types"] = types_of(spec)
    if not spec.get("tier"):
        spec["tier"] = "default"


def _spell_rule(rule: Document) -> None:
    for name in ("protocol", "notProtocol"):
        if name in rule:
            rule[name] = _digits(rule[name])
    for side in ("source", "destination"):
        entity = rule.get(side)
        if entity == {}:
            del rule[side]
        for name in ("ports", "notPorts"):
            if entity and name in entity:
                entity[name] = [_digits(port) for port in entity[name]]


def _digits(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def _tidy(value: Any) -> Any:
    """A copy without nulls in mappings, and with whole numbers written as such, as Go writes them (A.2)."""
    if isinstance(value, dict):
        return {name: _tidy(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _EXPONENT_FROM else value


def merged(document: Mapping[str, Any], stored: Mapping[str, Any], uid: str, at: str) -> Document:
    """A filled document in place of a stored one: the stored metadata, with the user's labels and annotations (A.2).

    `uid` and `at` serve a stored one that another writer left without. The stored `status` stays.
    """
    meta = {name: item for name, item in _metadata(stored).items() if name not in ("labels", "annotations")}
    meta.setdefault("uid", uid)
    meta.setdefault("creationTimestamp", at)
    meta.setdefault("name", document["metadata"]["name"])
    meta |= {name: document["metadata"][name] for name in ("labels", "annotations") if name in document["metadata"]}
    status = {"status": stored["status"]} if "status" in stored else {}
    return {**document, "metadata": meta, **status}


def _metadata(document: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = document.get("metadata")
    return meta if isinstance(meta, dict) else {}


def annotation(document: Mapping[str, Any], name: str) -> str:
    """An annotation of a stored document, "" if it has none."""
    notes = _metadata(document).get("annotations")
    value = notes.get(name) if isinstance(notes, dict) else None
    return value if isinstance(value, str) else ""


def shown(key: ResourceKey, name: str, document: Mapping[str, Any], revision: str) -> Document:
    """A stored document as `get` shows it: under its real name (A.3), without the annotation that holds it, with its revision.

    A policy without a tier label has that of the default tier (A.2). Odd shapes are shown as they are.
    """
    copy: Document = deepcopy(dict(document))
    meta = dict(_metadata(copy))
    meta["name"] = name
    notes = meta.get("annotations")
    if key.kind in POLICY_KINDS:
        if isinstance(notes, dict) and NAME_ANNOTATION in notes:
            del notes[NAME_ANNOTATION]
            if not notes:
                del meta["annotations"]
        if isinstance(meta.get("labels") or {}, dict):
            meta["labels"] = {TIER_LABEL: "default"} | (meta.get("labels") or {})
    if revision:
        meta["resourceVersion"] = revision
    return copy | {"metadata": meta}


_OF_ONE_CLUSTER: Final = (
    *("uid", "resourceVersion", "creationTimestamp", "generation", "selfLink"),
    *("deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "ownerReferences"),
)


def exported(document: Mapping[str, Any]) -> Document:
    """A shown document without what only its own cluster knows, so that it can be written to another one."""
    meta = {name: value for name, value in _metadata(document).items() if name not in _OF_ONE_CLUSTER}
    return {**document, "metadata": meta}
