"""Namespaces and ServiceAccounts of Kubernetes to the profiles that pods inherit labels from (kubernetes 1.3, 1.4 E, F).

A namespace's profile also allows everything both ways: that is what a pod may do that no policy is for. Pure; any thread.
"""

from __future__ import annotations

from typing import Final

from hostward.convert import kubernetes_checks as checks
from hostward.convert import names
from hostward.convert.kubernetes_rules import Converted, Document, passes
from hostward.model.fields import Found, Problem
from hostward.model.keys import API_VERSION
from hostward.model.selector_scope import NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX

NAMESPACE: Final = "kns."
SERVICE_ACCOUNT: Final = "ksa."
"""What the names of these profiles begin with."""
_NAME_LABEL: Final = "projectcalico.org/name"


def of_namespace(name: str) -> str:
    """The name of a namespace's profile."""
    return f"{NAMESPACE}{name}"


def of_service_account(namespace: str, name: str) -> str:
    """The name of a service account's profile; `name` may have dots, `namespace` can't."""
    return f"{SERVICE_ACCOUNT}{namespace}.{name}"


def namespace_to_v3(document: Document) -> Converted:
    """The profile `kns.<name>`: allows everything, and lends the namespace's labels with the prefix `pcns.`."""
    found: Found = []
    meta = document.get("metadata")
    if not passes(checks.metadata, meta, "metadata", found) or not isinstance(meta, dict):
        return Converted((), tuple(found))
    allow = [{"action": "Allow"}]
    rules = {"ingress": allow, "egress": list(allow)}
    return _profile(of_namespace(meta["name"]), rules | _labels(meta, NAMESPACE_PREFIX))


def service_account_to_v3(document: Document, namespace: str) -> Converted:
    """The profile `ksa.<namespace>.<name>`: no rules, and the account's labels with the prefix `pcsa.`."""
    found: Found = []
    meta = document.get("metadata")
    if not passes(checks.namespaced_metadata, meta, "metadata", found) or not isinstance(meta, dict):
        return Converted((), tuple(found))
    name = of_service_account(meta.get("namespace") or namespace, meta["name"])
    return _profile(name, _labels(meta, SERVICE_ACCOUNT_PREFIX))


def _labels(meta: Document, prefix: str) -> Document:
    lent = {f"{prefix}{key}": value for key, value in (meta.get("labels") or {}).items()}
    return {"labelsToApply": lent | {f"{prefix}{_NAME_LABEL}": meta["name"]}}


def _profile(name: str, spec: Document) -> Converted:
    if reason := names.wrong_name(name):
        return Converted((), (Problem("metadata.name", f"{name!r} is no name for a profile: {reason}"),))
    return Converted(({"apiVersion": API_VERSION, "kind": "Profile", "metadata": {"name": name}, "spec": spec},), ())
