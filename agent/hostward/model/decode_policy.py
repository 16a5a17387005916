"""Policies and profiles from JSON (`statements.md` enforcement 1.1-1.3, M-51; decision D4).

What is read when something isn't understood, and why it opens nothing:
- A selector, order or type: no policy at all, for nobody can say where it would stand (D4).
- Any other field: Allows and Passes never match, Denies stand where the fields that are understood put them. An unreadable
  tier is the default tier. Both doNotTrack and preDNAT: untracked, where a Deny also covers what preDNAT would. A flag that is
  neither true nor false counts as its word suggests, an unreadable applyOnForward as true: Denies reach further, not less.
- A preDNAT policy has no egress (M-33), whether it says so or not.
Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from hostward.model.decode_entity import Place, read_selector
from hostward.model.decode_rules import read_rules
from hostward.model.document import DocumentError
from hostward.model.fields import (
    Found,
    Problem,
    member,
    read_flag,
    read_labels,
    read_list,
    read_number,
    read_object,
    read_text,
    show,
    to_text,
)
from hostward.model.keys import ResourceKey
from hostward.model.names import DEFAULT_TIER, NAME_ANNOTATION, display_name, stored_name
from hostward.model.resources import Policy, Profile
from hostward.model.rules import Action, Rule
from hostward.model.selector_scope import plain, policy_selector
from hostward.model.selectors import SelectorError
from hostward.model.value_errors import BadValueError

_NAMESPACED_FIELDS: Final = frozenset(
    ("tier", "order", "selector", "serviceAccountSelector", "types", "ingress", "egress", "performanceHints")
)
_GLOBAL_FIELDS: Final = _NAMESPACED_FIELDS | {"namespaceSelector", "doNotTrack", "preDNAT", "applyOnForward"}
_PROFILE_FIELDS: Final = frozenset(("ingress", "egress", "labelsToApply"))
_NEVER: Final = {action: Rule(action, never=True) for action in (Action.ALLOW, Action.PASS)}


def decode_policy(key: ResourceKey, document: dict[str, Any], found: Found) -> Policy | None:
    """A GlobalNetworkPolicy or NetworkPolicy, or None when its place isn't understood.

    `found` holds the document's problems, and gets more.
    """
    place: Found = []
    fields = _spec(document, place)
    mine = _NAMESPACED_FIELDS if key.namespace else _GLOBAL_FIELDS
    known = {name: value for name, value in read_object(fields, "spec", mine, found).items() if name in mine}
    selector = _selector(known, key.namespace, place)
    order = read_number(known.get("order"), "spec.order", place)
    types = read_list(known.get("types"), _to_type, "spec.types", place)
    if place:
        found.extend(place)
        return None
    untracked, pre_dnat, forward = _flags(known, found)
    _check_flags(known, found, untracked, pre_dnat, types)
    pre_dnat = pre_dnat and not untracked
    egress = (not types or "egress" in types) and not pre_dnat
    ingress = not types or "ingress" in types
    _check_hints(known, found)
    tier = read_text(known.get("tier"), "spec.tier", found) or DEFAULT_TIER
    name = _name(key, document, found)
    in_rules: Found = []
    ingress_rules, egress_rules = _rules(known, key.namespace, in_rules, found)
    found.extend(in_rules)
    return Policy(
        key,
        name,
        tier,
        order,
        selector,
        ingress,
        egress,
        ingress_rules if ingress else (),
        egress_rules if egress else (),
        do_not_track=untracked,
        pre_dnat=pre_dnat,
        apply_on_forward=forward,
    )


def decode_profile(key: ResourceKey, document: dict[str, Any], found: Found) -> Profile | None:
    """A Profile; None without a spec, as a missing profile denies (D5)."""
    place: Found = []
    fields = _spec(document, place)
    if place:
        found.extend(place)
        return None
    known = read_object(fields, "spec", _PROFILE_FIELDS, found)
    labels = read_labels(known.get("labelsToApply"), "spec.labelsToApply", found)
    in_rules: Found = []
    ingress_rules, egress_rules = _rules(known, key.namespace, in_rules, found)
    found.extend(in_rules)
    return Profile(key.name, ingress_rules, egress_rules, labels)


def _rules(known: dict[str, Any], namespace: str, in_rules: Found, found: Found) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """The rules of both directions; where another field isn't understood (`found`), they allow nothing."""
    ingress = read_rules(known.get("ingress"), "spec.ingress", Place(namespace, "ingress"), in_rules, found)
    egress = read_rules(known.get("egress"), "spec.egress", Place(namespace, "egress"), in_rules, found)
    return (_closed(ingress), _closed(egress)) if found else (ingress, egress)


def _spec(document: dict[str, Any], place: Found) -> dict[str, Any]:
    """The spec; a missing one is a problem, for read as empty it would be a policy for every endpoint."""
    value = document.get("spec")
    if isinstance(value, dict):
        return value
    place.append(Problem("spec", "missing" if value is None else f"expected an object, not {show(value)}"))
    return {}


def _closed(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules of a policy with a field that isn't understood: nothing is allowed or passed by them."""
    return tuple(_NEVER.get(rule.action, rule) for rule in rules)


def _to_type(value: object) -> str:
    """Converter: a direction, in any case (M-22)."""
    if isinstance(value, str) and value.lower() in ("ingress", "egress"):
        return value.lower()
    raise BadValueError(f"expected Ingress or Egress, not {show(value)}")


def _selector(fields: dict[str, Any], namespace: str, place: Found) -> str:
    """The effective selector (M-12, M-14); "" with a problem when a part isn't understood."""
    names = ("selector", "namespaceSelector", "serviceAccountSelector")
    before = len(place)
    for name in names:
        read_selector(fields.get(name), plain, f"spec.{name}", place)
    if len(place) > before:
        return ""
    try:
        return policy_selector(*(fields.get(name, "") for name in names), namespace)
    except SelectorError as error:
        place.append(Problem("spec.selector", f"together with the other selectors: {error.reason}"))
        return ""


def _flags(fields: dict[str, Any], found: Found) -> tuple[bool, bool, bool]:
    """doNotTrack, preDNAT and applyOnForward."""
    untracked = read_flag(fields.get("doNotTrack"), "spec.doNotTrack", found)
    pre_dnat = read_flag(fields.get("preDNAT"), "spec.preDNAT", found)
    before = len(found)
    forward = read_flag(fields.get("applyOnForward"), "spec.applyOnForward", found)
    return untracked, pre_dnat, forward or len(found) > before


def _check_flags(fields: dict[str, Any], found: Found, untracked: bool, pre_dnat: bool, types: list[str]) -> None:
    """What contradicts the flags (M-51)."""
    if untracked and pre_dnat:
        found.append(Problem("spec.preDNAT", "contradicts doNotTrack"))
    if (untracked or pre_dnat) and fields.get("applyOnForward") in (None, False):
        found.append(Problem("spec.applyOnForward", f"must be true with {'doNotTrack' if untracked else 'preDNAT'}"))
    if pre_dnat and "egress" in types:
        found.append(Problem("spec.types", "a preDNAT policy has no Egress"))
    if pre_dnat and fields.get("egress"):
        found.append(Problem("spec.egress", "a preDNAT policy has no egress rules"))


def _check_hints(fields: dict[str, Any], found: Found) -> None:
    for hint in read_list(fields.get("performanceHints"), to_text, "spec.performanceHints", found):
        if hint != "AssumeNeededOnEveryNode":
            found.append(Problem("spec.performanceHints", f"unknown hint {show(hint)}"))


def _name(key: ResourceKey, document: dict[str, Any], found: Found) -> str:
    try:
        return display_name(key, document)
    except DocumentError as error:
        found.append(Problem(f"{member('metadata.annotations', NAME_ANNOTATION)}", str(error)))
        return stored_name(key, document["spec"].get("tier"))
