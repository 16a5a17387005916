"""Stored bytes to a resource, for any bytes: what is understood, and what isn't, with its path (decision D4).

It never raises. Without problems the value is wholly understood. With problems the value is what to enforce when no older
version is known; choosing the older one is the caller's business. Knows one object at a time. Pure; any thread.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from hostward.model import document as json_document
from hostward.model.decode_cluster import decode_cluster_information, decode_configuration, decode_network_set, decode_tier
from hostward.model.decode_endpoint import decode_host_endpoint
from hostward.model.decode_policy import decode_policy, decode_profile
from hostward.model.decode_workload import decode_endpoint_slice, decode_workload_endpoint
from hostward.model.document import DocumentError
from hostward.model.fields import Found, Problem, member, show
from hostward.model.keys import API_VERSION, ResourceKey
from hostward.model.resources import BUILT_IN_PROFILES, ClusterInformation, Node, Resource, StagedPolicy

__all__ = ["MAX_PROBLEMS", "Decoded", "Problem", "decode"]

MAX_PROBLEMS: Final = 20  # of one object; enough for people, and an object can't fill the memory with its problems

_ENVELOPE: Final = frozenset(("kind", "apiVersion", "metadata", "spec", "status"))
_OF_A_SLICE: Final = _ENVELOPE | {"addressType", "endpoints", "ports"}
_STAGED: Final = frozenset(("StagedGlobalNetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy"))
_ENFORCED: Final = frozenset(
    (
        "GlobalNetworkPolicy",
        "NetworkPolicy",
        "WorkloadEndpoint",
        "NetworkSet",
        "KubernetesEndpointSlice",
        "Profile",
        "HostEndpoint",
        "GlobalNetworkSet",
        "Tier",
        "Node",
        "FelixConfiguration",
        "ClusterInformation",
    )
)


class Decoded(Struct, frozen=True):
    """A resource, None when there is nothing to enforce; and what wasn't understood (see `decode`)."""

    value: Resource | None
    problems: tuple[Problem, ...] = ()


def decode(key: ResourceKey, raw: bytes) -> Decoded:
    """What the JSON stored at `key` means. Kinds that enforcement doesn't use give no value and no problems.

    Staged policies are known by their keys alone: whatever they say, it isn't enforced (M-32).
    """
    if key.kind in _STAGED:
        return Decoded(StagedPolicy(key))
    if key.kind not in _ENFORCED or (key.kind == "ClusterInformation" and key.name != "default"):
        return Decoded(None)
    if key.kind == "Profile" and key.name in BUILT_IN_PROFILES:
        return Decoded(BUILT_IN_PROFILES[key.name])  # defined here, and by every Calico client, never by what is stored (A.2)
    found: Found = []
    try:
        document = json_document.read(raw)
    except DocumentError as error:
        found.append(Problem("", str(error)))
        return Decoded(_unreadable(key), tuple(found))
    _check_envelope(key, document, found)
    value = _value(key, document, found)
    if len(found) > MAX_PROBLEMS:
        found[MAX_PROBLEMS:] = [Problem("", f"and {len(found) - MAX_PROBLEMS} more problems")]
    return Decoded(value, tuple(found))


def _unreadable(key: ResourceKey) -> Resource | None:
    """What stands for an object that can't be read at all: a tier's name and that the cluster isn't ready are still known."""
    if key.kind == "Tier":
        return decode_tier(key, {}, [])
    return ClusterInformation("", ready=False) if key.kind == "ClusterInformation" else None


def _check_envelope(key: ResourceKey, document: dict[str, Any], found: Found) -> None:
    known = _OF_A_SLICE if key.kind == "KubernetesEndpointSlice" else _ENVELOPE
    found.extend(Problem(member("", name), "unknown field") for name in document if name not in known)
    for name, expected in (("kind", key.kind), ("apiVersion", API_VERSION)):
        actual = document.get(name)
        if actual is not None and actual != expected:
            found.append(Problem(name, f"expected {expected}, not {show(actual)}"))


def _value(key: ResourceKey, document: dict[str, Any], found: Found) -> Resource | None:
    match key.kind:
        case "GlobalNetworkPolicy" | "NetworkPolicy":
            return decode_policy(key, document, found)
        case "WorkloadEndpoint":
            return decode_workload_endpoint(key, document, found)
        case "KubernetesEndpointSlice":
            return decode_endpoint_slice(key, document, found)
        case "Profile":
            return decode_profile(key, document, found)
        case "HostEndpoint":
            return decode_host_endpoint(key, document, found)
        case "GlobalNetworkSet" | "NetworkSet":
            return decode_network_set(key, document, found)
        case "Tier":
            return decode_tier(key, document, found)
        case "FelixConfiguration":
            return decode_configuration(key, document, found)
        case "ClusterInformation":
            return decode_cluster_information(document, found)
        case _:
            return Node(key.name)
