"""v3 rules made of peers and ports, and how what can't be converted is reported (`statements.md` kubernetes 1.3, 1.7).

What v3's writers allow in one rule or policy is respected here: at most 50 ports in a rule, 1024 rules in a direction. Knows no
kind of policy. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from hostward.convert import kubernetes_selectors as selectors
from hostward.convert.checks import Check
from hostward.convert.kubernetes_ports import Group, Port
from hostward.convert.validate_rules import MAX_NETS, MAX_PORTS, MAX_RULES
from hostward.convert.validate_rules import selector as selector_check
from hostward.model import nets
from hostward.model.fields import Found, Problem

Document = dict[str, Any]
Direction = Literal["ingress", "egress"]

DIRECTIONS: Final[Mapping[Direction, str]] = {"ingress": "from", "egress": "to"}
"""The directions, each with the field that holds the peers of its rules."""
TYPES: Final[Mapping[Direction, str]] = {"ingress": "Ingress", "egress": "Egress"}


class Converted(NamedTuple):
    """The v3 documents that one object becomes, in the order to write them in, and what of it couldn't be converted.

    No document beside a problem means that the object as a whole isn't understood: what was stored for it before should stay
    (decision D4). Problems beside documents are about parts that were left out; the documents never allow more for it.
    """

    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]


def passes(check: Check, value: object, path: str, found: Found, left_out: str = "") -> bool:
    """Whether a part passes its check; else its problems are added, with what becomes of the part."""
    before = len(found)
    suffix = f"; {left_out}" if left_out else ""
    check(value, path, lambda where, reason: found.append(Problem(where, f"{reason}{suffix}")))
    return len(found) == before


def pods_entity(pod_selector: Mapping[str, Any] | None, namespace_selector: Mapping[str, Any] | None) -> Document:
    """The side of a rule that is pods; without a namespace selector those of the policy's own namespace."""
    entity: Document = {"selector": selectors.pods(pod_selector)}
    if namespace_selector is not None:
        entity["namespaceSelector"] = selectors.namespaces(namespace_selector)
    return entity


def selectors_fit(entity: Document, path: str, found: Found, left_out: str) -> bool:
    """Whether the selectors of a side are short enough for v3."""
    before = len(found)
    for name in ("selector", "namespaceSelector"):
        passes(selector_check, entity.get(name, ""), path, found, left_out)
    return len(found) == before


def networks_entities(networks: Sequence[str]) -> list[Document]:
    """The sides of rules that are these networks: one for each IP version, as v3 has rules of one version only."""
    canonical = [net for one in networks if (net := nets.parse_net(one))]
    families = [[net for net in canonical if nets.family(net) == family] for family in (4, 6)]
    return [{"nets": part} for family in families for part in _parts(family, MAX_NETS)]


def rules(direction: Direction, action: str, groups: Sequence[Group], entities: Sequence[Document]) -> Iterator[Document]:
    """One rule for each protocol and peer, the protocols outside (kubernetes 1.3); ports beyond 50 go to further rules."""
    for protocol, ports in groups:
        for some in _parts(ports, MAX_PORTS) or [[]]:
            for entity in entities:
                yield _rule(direction, action, protocol, some, entity)


def _rule(direction: Direction, action: str, protocol: str | None, ports: Sequence[Port], entity: Document) -> Document:
    rule: Document = {"action": action}
    if protocol is not None:
        rule["protocol"] = protocol
    source = entity if direction == "ingress" else {}
    destination = ({} if direction == "ingress" else entity) | ({"ports": list(ports)} if ports else {})
    if source:
        rule["source"] = dict(source)
    if destination:
        rule["destination"] = destination
    return rule


def at_most(rules_: list[Document], path: str, found: Found, last: Sequence[Document]) -> list[Document]:
    """The rules that v3 holds; where there are more, `last` ends them."""
    if len(rules_) <= MAX_RULES:
        return rules_
    kept = rules_[: MAX_RULES - len(last)]
    then = "; the rest is denied" if last else "; the rest allows nothing"
    found.append(Problem(path, f"makes {len(rules_)} rules, of which a policy holds {len(kept)}{then}"))
    return [*kept, *last]


def _parts(items: Sequence[Any], most: int) -> list[list[Any]]:
    return [list(items[start : start + most]) for start in range(0, len(items), most)]
