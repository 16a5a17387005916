"""Network sets, tiers, nodes, configuration and cluster information from JSON (`statements.md` M-3, M-7; decision D4, D5, D12).

Pure; any thread.
"""

from __future__ import annotations

from typing import Any, Final

from hostward.model.fields import (
    Found,
    Problem,
    member,
    read_labels,
    read_members,
    read_number,
    read_object,
    read_text,
    show,
    to_net,
)
from hostward.model.keys import ResourceKey
from hostward.model.resources import BUILT_IN_TIERS, ClusterInformation, Configuration, NetworkSet, Tier
from hostward.model.rules import Action
from hostward.model.selector_scope import NAMESPACE

_ORDER_OF_TIER_WITHOUT: Final = 1_000_000.0  # what Calico's reader puts in (statements.md A.5)
_MAX_CONFIG_DEPTH: Final = 8


def decode_network_set(key: ResourceKey, document: dict[str, Any], found: Found) -> NetworkSet:
    """A GlobalNetworkSet or NetworkSet: the members and labels that are understood.

    One in a namespace is labelled with it, and inherits the namespace's own labels (M-7).
    """
    metadata = read_object(document.get("metadata"), "metadata", None, found)
    labels = read_labels(metadata.get("labels"), "metadata.labels", found)
    profiles: tuple[str, ...] = ()
    if key.namespace:
        labels[NAMESPACE] = key.namespace
        profiles = (f"kns.{key.namespace}",)
    elif labels.pop(NAMESPACE, None) is not None:
        found.append(Problem(member("metadata.labels", NAMESPACE), "not allowed on a set that is in no namespace"))  # M-53
    spec = _spec(document, ("nets",), found)
    nets = tuple(dict.fromkeys(read_members(spec.get("nets"), to_net, "spec.nets", found)))
    return NetworkSet(key.name, nets, labels, profiles)


def decode_tier(key: ResourceKey, document: dict[str, Any], found: Found) -> Tier:
    """A Tier: not understood, it still exists, denies at its end, and without a readable order comes last.

    The built-in tiers are what they are, whatever is stored (M-3).
    """
    before = len(found)
    spec = _spec(document, ("order", "defaultAction"), found)
    order = read_number(spec.get("order"), "spec.order", found)
    action = Action.PASS if spec.get("defaultAction") == "Pass" else Action.DENY
    if spec.get("defaultAction", "Deny") not in ("Pass", "Deny", ""):
        found.append(Problem("spec.defaultAction", f"expected Deny or Pass, not {show(spec['defaultAction'])}"))
    if order is None and spec.get("order") is None and len(found) == before:
        order = _ORDER_OF_TIER_WITHOUT
    built_in = BUILT_IN_TIERS.get(key.name)
    if built_in is None:
        return Tier(key.name, order, action)
    if spec.get("order") is not None and order is not None and order != built_in.order:
        found.append(Problem("spec.order", f"is {built_in.order:.0f} in this built-in tier"))
    if spec.get("defaultAction") and action != built_in.default_action:
        found.append(Problem("spec.defaultAction", f"is {built_in.default_action} in this built-in tier"))
    return built_in


def decode_configuration(key: ResourceKey, document: dict[str, Any], found: Found) -> Configuration:
    """A FelixConfiguration: the settings that it has; their values are judged where settings are."""
    spec = read_object(document.get("spec"), "spec", None, found)
    deep = [name for name, value in spec.items() if _is_deep(value)]
    found.extend(Problem(member("spec", name), "nested too deeply") for name in deep)
    return Configuration(key.name, {name: value for name, value in spec.items() if name not in deep})


def _is_deep(value: object) -> bool:
    """Whether a value nests so deeply that comparing it could exhaust the stack; walked without recursion."""
    level = [value]
    for _ in range(_MAX_CONFIG_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def decode_cluster_information(document: dict[str, Any], found: Found) -> ClusterInformation:
    """ClusterInformation: ready only for an explicit true in a document that is understood (D12)."""
    # Any field is known: the versions and types that others keep there say nothing about readiness.
    spec = read_object(document.get("spec"), "spec", None, found)
    guid = read_text(spec.get("clusterGUID"), "spec.clusterGUID", found)
    ready = spec.get("datastoreReady")
    if ready is not None and not isinstance(ready, bool):
        found.append(Problem("spec.datastoreReady", f"expected true or false, not {show(ready)}"))
    return ClusterInformation(guid, ready is True and not found)


def _spec(document: dict[str, Any], known: tuple[str, ...], found: Found) -> dict[str, Any]:
    if document.get("spec") is None:
        found.append(Problem("spec", "missing"))
    return read_object(document.get("spec"), "spec", known, found)
