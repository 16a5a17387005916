"""AdminNetworkPolicies and ClusterNetworkPolicies to GlobalNetworkPolicies in their tiers (`statements.md` kubernetes 1.7).

As Calico converts them when it reads them from Kubernetes. What isn't understood of an Allow matches nothing; of a Deny or a
Pass it denies on the criteria that are understood (decision D4), where Calico denies everything. A ClusterNetworkPolicy gets a
prefix to its name, which Calico, with a kind of its own for them, doesn't need: here it must not replace a user's policy of
that name. Knows no store. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from hostward.convert import kubernetes_checks as checks
from hostward.convert import kubernetes_ports as ports
from hostward.convert import kubernetes_selectors as selectors
from hostward.convert import names
from hostward.convert.checks import Check, integer, listing, suggestion
from hostward.convert.kubernetes_rules import (
    DIRECTIONS,
    TYPES,
    Converted,
    Direction,
    Document,
    at_most,
    networks_entities,
    passes,
    pods_entity,
    rules,
    selectors_fit,
)
from hostward.model.fields import Found, Problem, show
from hostward.model.keys import API_VERSION

ADMIN_PREFIX: Final = "kanp.adminnetworkpolicy."
BASELINE_PREFIX: Final = "kbanp.baselineadminnetworkpolicy."
CLUSTER_PREFIX: Final = "kcnp."
"""What the names of these copies begin with, by kind."""
ADMIN_TIER: Final = "adminnetworkpolicy"
BASELINE_TIER: Final = "baselineadminnetworkpolicy"
_OLD_TIERS: Final = {ADMIN_TIER: 1_000, BASELINE_TIER: 10_000_000}
_CLUSTER_TIERS: Final = {"Admin": "kube-admin", "Baseline": "kube-baseline"}
_BASELINE_ORDER: Final = 1000
_DENY: Final = "Deny"


class _Dialect(NamedTuple):
    """What differs between the two API versions: words of actions, and how a rule names its ports."""

    actions: Mapping[str, str]
    ports: str
    port: Check
    grouped: Callable[[Sequence[Document]], Sequence[ports.Group]]


_V1ALPHA1: Final = _Dialect({"Allow": "Allow", _DENY: _DENY, "Pass": "Pass"}, "ports", checks.admin_port, ports.of_admin_policy)
_V1ALPHA2: Final = _Dialect(
    {"Accept": "Allow", _DENY: _DENY, "Pass": "Pass"}, "protocols", checks.cluster_protocol, ports.of_cluster_policy
)
_priority: Final = integer(0, 1000)


def admin_to_v3(document: Document) -> Converted:
    """The tier and the GlobalNetworkPolicy of an AdminNetworkPolicy (v1alpha1)."""
    return _converted(document, ADMIN_PREFIX, lambda _spec, _found: ADMIN_TIER, _order, _V1ALPHA1)


def baseline_to_v3(document: Document) -> Converted:
    """The tier and the GlobalNetworkPolicy of a BaselineAdminNetworkPolicy (v1alpha1), whose order is fixed."""
    return _converted(
        document, BASELINE_PREFIX, lambda _spec, _found: BASELINE_TIER, lambda _spec, _found: _BASELINE_ORDER, _V1ALPHA1
    )


def cluster_to_v3(document: Document) -> Converted:
    """The GlobalNetworkPolicy of a ClusterNetworkPolicy (v1alpha2), in one of the built-in tiers."""
    return _converted(document, CLUSTER_PREFIX, _cluster_tier, _order, _V1ALPHA2)


_Reader = Callable[[Document, Found], Any]


def _converted(document: Document, prefix: str, tier_of: _Reader, order_of: _Reader, dialect: _Dialect) -> Converted:
    """None when it can't be told whom the policy is for or what it comes before."""
    found: Found = []
    meta, spec = document.get("metadata"), document.get("spec")
    understood = passes(checks.metadata, meta, "metadata", found)
    if not isinstance(spec, dict) or not isinstance(meta, dict):
        return Converted((), (*found, Problem("spec", f"expected a mapping, not {show(spec)}")))
    tier, order = tier_of(spec, found), order_of(spec, found)
    subject = _subject(spec.get("subject"), found)
    if not understood or tier is None or order is None or subject is None:
        return Converted((), tuple(found))
    name = f"{prefix}{meta['name']}"
    if reason := names.wrong_name(name):
        return Converted((), (*found, Problem("metadata.name", f"{name!r} is no name for the copy of this policy: {reason}")))
    known = _only_known(spec, found)
    converted: Document = {"tier": tier, "order": order, **subject}
    directed = {
        direction: at_most(
            [rule for rule in _rules(spec, direction, dialect, found) if known or rule["action"] == _DENY],
            f"spec.{direction}",
            found,
            [{"action": _DENY}],
        )
        for direction in DIRECTIONS
    }
    # These tiers pass by default, so only a direction with rules is of any interest (kubernetes 1.7).
    if types := [TYPES[direction] for direction, some in directed.items() if some]:
        converted["types"] = types
    converted |= {direction: some for direction, some in directed.items() if some}
    policy = {"apiVersion": API_VERSION, "kind": "GlobalNetworkPolicy", "metadata": {"name": name}, "spec": converted}
    return Converted((*_tier(tier), policy), tuple(found))


def _tier(name: str) -> tuple[Document, ...]:
    """The document of a tier that isn't built in."""
    if name not in _OLD_TIERS:
        return ()
    spec = {"order": _OLD_TIERS[name], "defaultAction": "Pass"}
    return ({"apiVersion": API_VERSION, "kind": "Tier", "metadata": {"name": name}, "spec": spec},)


def _order(spec: Document, found: Found) -> int | None:
    priority = spec.get("priority")
    return priority if passes(_priority, priority, "spec.priority", found) else None


def _cluster_tier(spec: Document, found: Found) -> str | None:
    given = spec.get("tier")
    tier = _CLUSTER_TIERS.get(given) if isinstance(given, str) else None
    if tier is None:
        found.append(Problem("spec.tier", f"{show(given)} is neither Admin nor Baseline; the policy is left out"))
    return tier


def _subject(value: Any, found: Found) -> Document | None:
    """The selectors of the policy: pods only, never hosts (kubernetes 1.7)."""
    path, left_out = "spec.subject", "it can't be known which pods this policy is for"
    if not passes(checks.subject, value, path, found, left_out):
        return None
    pods = value["pods"] if value.get("pods") is not None else {"namespaceSelector": value["namespaces"]}
    entity = _pods(pods)
    return entity if selectors_fit(entity, path, found, left_out) else None


def _pods(pods: Document) -> Document:
    return pods_entity(pods.get("podSelector"), pods.get("namespaceSelector") or {})


def _only_known(spec: Document, found: Found) -> bool:
    """Whether the policy has no unknown field, which may restrict its rules: then only its Denies stand (D4)."""
    fields = ("tier", "priority", "subject", *DIRECTIONS)
    unknown = [name for name, value in spec.items() if name not in fields and value is not None]
    for name in unknown:
        reason = f"unknown field{suggestion(name, fields)}; while it isn't understood, this policy only denies"
        found.append(Problem(f"spec.{name}", reason))
    return not unknown


def _rules(spec: Document, direction: Direction, dialect: _Dialect, found: Found) -> Iterator[Document]:
    given, path = spec.get(direction), f"spec.{direction}"
    if given is not None and not isinstance(given, list):
        found.append(Problem(path, f"expected a list, not {show(given)}; this policy denies everything in that direction"))
        yield {"action": _DENY}
        return
    for index, rule in enumerate(given or ()):
        here = f"{path}[{index}]"
        if isinstance(rule, dict):
            yield from _named(rule.get("name"), here, found, _rule(rule, here, direction, dialect, found))
        else:
            found.append(Problem(here, f"expected a mapping, not {show(rule)}; it denies everything"))
            yield {"action": _DENY}


def _named(name: Any, path: str, found: Found, made: Iterator[Document]) -> Iterator[Document]:
    """The rules with their common name as an annotation, which the packet filter shows."""
    if name is not None and not isinstance(name, str):
        found.append(Problem(f"{path}.name", f"expected a text, not {show(name)}; the rule stays without a name"))
    for rule in made:
        yield rule | ({"metadata": {"annotations": {"name": name}}} if isinstance(name, str) and name else {})


def _rule(rule: Document, path: str, direction: Direction, dialect: _Dialect, found: Found) -> Iterator[Document]:
    side, given = DIRECTIONS[direction], rule.get("action")
    before = len(found)
    action = dialect.actions.get(given) if isinstance(given, str) else None
    effect = "this part allows nothing" if action == "Allow" else "in doubt it denies"
    if action is None:
        found.append(Problem(f"{path}.action", f"{show(given)} is none of {', '.join(dialect.actions)}; {effect}"))
    for name, value in rule.items():
        if name not in ("name", "action", side, dialect.ports) and value is not None:
            found.append(Problem(f"{path}.{name}", f"unknown field; {effect}"))
    whole = len(found) == before
    peers = _items(rule.get(side), f"{path}.{side}", _peer_check(direction), effect, found)
    entries = _items(rule.get(dialect.ports), f"{path}.{dialect.ports}", dialect.port, effect, found)
    if not rule.get(side) and peers.whole:
        found.append(Problem(f"{path}.{side}", "names no peer, so this rule matches nothing"))
        return
    entities: list[Document] = []
    for index, peer in peers.good:
        sides = _entities(peer)
        if all(selectors_fit(entity, f"{path}.{side}[{index}]", found, effect) for entity in sides):
            entities += sides
        else:
            peers = peers._replace(whole=False)
    groups = dialect.grouped([entry for _, entry in entries.good]) if entries.good or entries.whole else ()
    if action == "Allow":
        if whole and entries.whole:
            yield from rules(direction, action, groups, entities)
        return
    if whole:
        yield from rules(direction, action or _DENY, groups, entities)
    if not (whole and entries.whole and peers.whole):
        # After the rules that are understood: what they pass on is never what is in doubt.
        denied = groups if entries.whole else ports.EVERYTHING
        yield from rules(direction, _DENY, denied, entities if peers.whole else [{}])


class _Items(NamedTuple):
    """The items of a list that pass their check, with their places, and whether all of them do."""

    good: list[tuple[int, Document]]
    whole: bool


def _items(value: Any, path: str, check: Check, effect: str, found: Found) -> _Items:
    if value is None:
        return _Items([], whole=True)
    if not passes(listing(lambda *_: None), value, path, found, effect):
        return _Items([], whole=False)
    good = [(index, item) for index, item in enumerate(value) if passes(check, item, f"{path}[{index}]", found, effect)]
    return _Items(good, whole=len(good) == len(value))


def _peer_check(direction: Direction) -> Check:
    return checks.subject if direction == "ingress" else checks.egress_peer


def _entities(peer: Document) -> list[Document]:
    if peer.get("networks") is not None:
        return networks_entities(peer["networks"])
    if peer.get("pods") is not None:
        return [_pods(peer["pods"])]
    return [{"namespaceSelector": selectors.namespaces(peer["namespaces"])}]
