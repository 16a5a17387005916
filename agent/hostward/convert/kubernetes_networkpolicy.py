"""Kubernetes NetworkPolicies to Calico's (`statements.md` kubernetes 1.3; names and order of today, kubernetes 1.2).

As Calico's controller does, without two traps (kubernetes 1.1, 1.3): a peer that isn't understood is left out and reported,
where Calico lets the rule match anybody; and whatever is wrong with one rule, the others are converted. All rules allow, so
leaving something out never allows more. Knows no store. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from hostward.convert import kubernetes_checks as checks
from hostward.convert import kubernetes_ports as ports
from hostward.convert import kubernetes_selectors as selectors
from hostward.convert import names
from hostward.convert.checks import anything, fields, listing, suggestion
from hostward.convert.kubernetes_rules import (
    DIRECTIONS,
    TYPES,
    Converted,
    Direction,
    at_most,
    passes,
    pods_entity,
    rules,
    selectors_fit,
)
from hostward.convert.validate_rules import selector as selector_check
from hostward.model.fields import Found, Problem, show
from hostward.model.keys import API_VERSION
from hostward.model.names import DEFAULT_TIER
from hostward.model.nets import parse_net

Document = dict[str, Any]

PREFIX: Final = "knp.default."
"""What the names of these copies begin with; no other NetworkPolicy has such a name."""
ORDER: Final = 1000

_SPEC: Final = ("podSelector", "policyTypes", *DIRECTIONS)
_PORTS: Final = listing(checks.policy_port)
_RULE_LEFT_OUT: Final = "this rule is left out"
_PEER_LEFT_OUT: Final = "this peer is left out"
_POLICY_LEFT_OUT: Final = "it can't be known which pods this policy is for"


def to_v3(document: Document) -> Converted:
    """The v3 NetworkPolicy of a Kubernetes one, in the same namespace. None when its pods or its name aren't understood."""
    found: Found = []
    meta, spec = document.get("metadata"), document.get("spec")
    spec = {} if spec is None else spec
    understood = passes(checks.namespaced_metadata, meta, "metadata", found)
    if not isinstance(spec, dict):
        found.append(Problem("spec", f"expected a mapping, not {show(spec)}"))
        return Converted((), tuple(found))
    pod_selector = {} if spec.get("podSelector") is None else spec["podSelector"]
    selector = ""
    if passes(checks.label_selector, pod_selector, "spec.podSelector", found, _POLICY_LEFT_OUT):
        selector = selectors.pods(pod_selector)
        understood &= passes(selector_check, selector, "spec.podSelector", found, _POLICY_LEFT_OUT)
    if not understood or not selector or not isinstance(meta, dict):
        return Converted((), tuple(found))
    name = f"{PREFIX}{meta['name']}"
    if reason := names.wrong_name(name):
        return Converted((), (*found, Problem("metadata.name", f"{name!r} is no name for the copy of this policy: {reason}")))
    known = _only_known(spec, found)
    converted: Document = {
        "tier": DEFAULT_TIER,
        "order": ORDER,
        "selector": selector,
        "types": _types(spec, found),
    }
    for direction in DIRECTIONS:
        if known and (directed := list(_rules(spec, direction, found))):
            converted[direction] = at_most(directed, f"spec.{direction}", found, [])
    namespace = {"namespace": meta["namespace"]} if meta.get("namespace") else {}
    v3 = {
        "apiVersion": API_VERSION,
        "kind": "NetworkPolicy",
        "metadata": {"name": name} | namespace,
        "spec": converted,
    }
    return Converted((v3,), tuple(found))


def _only_known(spec: Document, found: Found) -> bool:
    """Whether the policy has no unknown field, which may restrict what its rules allow (decision D4)."""
    unknown = [name for name, value in spec.items() if name not in _SPEC and value is not None]
    for name in unknown:
        reason = f"unknown field{suggestion(name, _SPEC)}; while it isn't understood, this policy allows nothing"
        found.append(Problem(f"spec.{name}", reason))
    return not unknown


def _types(spec: Document, found: Found) -> list[str]:
    """Ingress before Egress. Without any that is known Ingress alone, also when there are egress rules (kubernetes 1.3)."""
    given = spec.get("policyTypes")
    if given is not None and not isinstance(given, list):
        found.append(Problem("spec.policyTypes", f"expected a list, not {show(given)}"))
        given = None
    for index, value in enumerate(given or ()):
        if value not in TYPES.values():
            found.append(Problem(f"spec.policyTypes[{index}]", f"{show(value)} is neither Ingress nor Egress; it is ignored"))
    return [name for name in TYPES.values() if name in (given or ())] or ["Ingress"]


def _rules(spec: Document, direction: Direction, found: Found) -> Iterator[Document]:
    given, path = spec.get(direction), f"spec.{direction}"
    if given is not None and not isinstance(given, list):
        found.append(Problem(path, f"expected a list, not {show(given)}; this policy allows nothing in that direction"))
        return
    for index, rule in enumerate(given or ()):
        yield from _rule(rule, f"{path}[{index}]", direction, found)


def _rule(rule: Any, path: str, direction: Direction, found: Found) -> Iterator[Document]:
    side = DIRECTIONS[direction]
    if not passes(fields({"ports": _PORTS, side: listing(anything)}), rule, path, found, _RULE_LEFT_OUT):
        return
    entities: list[Document] = [{}]
    if peers := rule.get(side):
        entities = [
            entity
            for index, peer in enumerate(peers)
            if (entity := _entity(peer, f"{path}.{side}[{index}]", found)) is not None
        ]
    yield from rules(direction, "Allow", ports.of_policy(rule.get("ports") or ()) or ports.EVERYTHING, entities)


def _entity(peer: Any, path: str, found: Found) -> Document | None:
    """The side of a rule that a peer is; None, and reported, when it isn't understood: nobody is that peer."""
    if not passes(checks.peer, peer, path, found, _PEER_LEFT_OUT):
        return None
    if (block := peer.get("ipBlock")) is not None:
        excluded = [parse_net(net) for net in block.get("except") or ()]
        return {"nets": [parse_net(block["cidr"])]} | ({"notNets": excluded} if excluded else {})
    entity = pods_entity(peer.get("podSelector"), peer.get("namespaceSelector"))
    return entity if selectors_fit(entity, path, found, _PEER_LEFT_OUT) else None
