"""Kubernetes objects to v3 documents, as Calico's controllers write them to etcd: which kinds, and one way in.

Nothing is ever raised for what an object says: what isn't understood is reported, and what is made of the rest allows no more
for it (kubernetes 1; decision D4). Documents that come out are valid (`validate`) and hold what writers default, but for the
labels and annotations that only repeat tier and name (`defaults.filled`). Knows no API server and no store. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from hostward.convert import (
    kubernetes_admin,
    kubernetes_networkpolicy,
    kubernetes_nodes,
    kubernetes_pods,
    kubernetes_profiles,
)
from hostward.convert.kubernetes_rules import Converted, Document
from hostward.model.fields import Problem, show

__all__ = ["KINDS", "Converted", "is_kubernetes", "to_v3"]

DEFAULT_NAMESPACE: Final = "default"
INTERFACE_PREFIX: Final = "cali"
_POLICY_API: Final = "policy.networking.k8s.io"

_Converter = Callable[[Document, str, str], Converted]
_CONVERTERS: Final[Mapping[tuple[str, str], _Converter]] = {
    ("networking.k8s.io/v1", "NetworkPolicy"): lambda document, _, __: kubernetes_networkpolicy.to_v3(document),
    ("v1", "Namespace"): lambda document, _, __: kubernetes_profiles.namespace_to_v3(document),
    ("v1", "ServiceAccount"): lambda document, namespace, _: kubernetes_profiles.service_account_to_v3(document, namespace),
    ("v1", "Pod"): kubernetes_pods.to_v3,
    ("v1", "Node"): lambda document, _, __: kubernetes_nodes.to_v3(document),
    (f"{_POLICY_API}/v1alpha1", "AdminNetworkPolicy"): lambda document, _, __: kubernetes_admin.admin_to_v3(document),
    (f"{_POLICY_API}/v1alpha1", "BaselineAdminNetworkPolicy"): lambda document, _, __: kubernetes_admin.baseline_to_v3(
        document
    ),
    (f"{_POLICY_API}/v1alpha2", "ClusterNetworkPolicy"): lambda document, _, __: kubernetes_admin.cluster_to_v3(document),
}
KINDS: Final = frozenset(_CONVERTERS)
"""The kinds that are converted, each with its apiVersion."""


def is_kubernetes(document: Mapping[str, Any]) -> bool:
    """Whether a document is of a kind that is converted."""
    return _identity(document) in _CONVERTERS


def to_v3(document: Document, *, namespace: str = DEFAULT_NAMESPACE, interface_prefix: str = INTERFACE_PREFIX) -> Converted:
    """The v3 documents of one Kubernetes object, none changed in place.

    `namespace` is that of a Pod or ServiceAccount that names none; a NetworkPolicy that names none stays without. The names of
    pods' interfaces begin with `interface_prefix`. Never raises.
    """
    converter = _CONVERTERS.get(_identity(document))
    if converter is None:
        kind, version = document.get("kind"), document.get("apiVersion")
        return Converted((), (Problem("kind", f"{show(kind)} of {show(version)} is no kind of Kubernetes that is converted"),))
    return converter(document, namespace, interface_prefix)


def _identity(document: Mapping[str, Any]) -> tuple[str, str]:
    version, kind = document.get("apiVersion"), document.get("kind")
    return (version, kind) if isinstance(version, str) and isinstance(kind, str) else ("", "")
