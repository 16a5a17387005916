"""What is legal in manifests and probably not meant: the warnings of `validate`.

Sees only the documents it is given, which are valid; what stands in the datastore may make up for it, and the texts say so.
Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from hostward.convert import satisfiable
from hostward.convert.defaults import types_of
from hostward.model import nets, selector_scope, selectors
from hostward.model.keys import ResourceKey
from hostward.model.names import POLICY_KINDS

Document = Mapping[str, Any]

_NODE_PORTS: Final = (30000, 32767)  # Kubernetes' default range
_CLIENTS_PORT: Final = (
    f"before DNAT packets still have the port that the client used, such as a node port ({_NODE_PORTS[0]}-{_NODE_PORTS[1]}), "
    "not the one of the pod; a load balancer's port goes with its address in nets"
)
_SIDES: Final = ("source", "destination")
_SELECTORS: Final = ("selector", "notSelector", "namespaceSelector")


class Warned(NamedTuple):
    """The number of a document (from 0), a path in it, and what is odd there."""

    number: int
    path: str
    reason: str


def warnings(documents: Sequence[tuple[ResourceKey, Document]]) -> list[Warned]:
    """Everything odd, by document and in the order of its fields."""
    found: list[Warned] = [*_given_twice(documents), *_endpoints(documents)]
    pod_nets = _pod_networks(documents)
    reversed_ = _untracked_allows(documents)
    for index, (key, document) in enumerate(documents):
        spec = document.get("spec") or {}
        if key.kind in POLICY_KINDS:
            found += [Warned(index, f"spec.{path}", reason) for path, reason in _policy(spec, pod_nets, reversed_)]
        elif key.kind == "Profile":
            found += [Warned(index, f"spec.{path}", reason) for path, reason in _rules(spec)]
    return sorted(found, key=lambda one: one.number)


def _given_twice(documents: Sequence[tuple[ResourceKey, Document]]) -> Iterator[Warned]:
    first: dict[ResourceKey, int] = {}
    for index, (key, _) in enumerate(documents):
        if key in first:
            yield Warned(index, "metadata.name", f"{key} is also document {first[key] + 1} of these; the later one wins")
        first.setdefault(key, index)


def _policy(spec: Document, pod_nets: Sequence[str], reversed_: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    if _never(spec.get("selector")):
        yield "selector", f"no labels can match {spec['selector']!r}, so this policy never applies"
    for direction in ("ingress", "egress"):
        actions = {rule["action"] for rule in spec.get(direction) or ()}
        if actions == {"Log"}:
            yield direction, "every rule only logs, and what a policy's rules don't allow is denied at the end of its tier"
    if spec.get("doNotTrack"):
        yield from _untracked(spec, reversed_)
    if spec.get("preDNAT"):
        yield from _before_dnat(spec, pod_nets)
    yield from _rules(spec)


def _rules(spec: Document) -> Iterator[tuple[str, str]]:
    for direction in ("ingress", "egress"):
        decided = None
        for number, rule in enumerate(spec.get(direction) or ()):
            path = f"{direction}[{number}]"
            if decided is not None:
                yield path, f"this rule is never reached: {direction}[{decided}] before it decides about everything"
                break
            if rule["action"] != "Log" and not any(_restricts(item) for name, item in rule.items() if name != "action"):
                decided = number
            for side in _SIDES:
                entity = rule.get(side) or {}
                for name in _SELECTORS:
                    if name != "notSelector" and _never(entity.get(name)):
                        yield f"{path}.{side}.{name}", f"no labels can match {entity[name]!r}, so this rule matches nothing"


def _restricts(value: Any) -> bool:
    return any(map(_restricts, value.values())) if isinstance(value, Mapping) else value not in (None, [], "")


def _never(text: str | None) -> bool:
    return bool(text) and "global(" not in str(text) and satisfiable.never_matches(str(text))


def _untracked_allows(documents: Sequence[tuple[ResourceKey, Document]]) -> set[tuple[str, str]]:
    """The selector and direction of every untracked Allow."""
    return {
        (selectors.canonical(spec.get("selector") or ""), direction)
        for key, document in documents
        if key.kind in POLICY_KINDS and (spec := document.get("spec") or {}).get("doNotTrack")
        for direction in ("ingress", "egress")
        if any(rule["action"] == "Allow" for rule in spec.get(direction) or ())
    }


def _untracked(spec: Document, allows: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    selector = selectors.canonical(spec.get("selector") or "")
    for direction, other in (("ingress", "egress"), ("egress", "ingress")):
        allowed = [index for index, rule in enumerate(spec.get(direction) or ()) if rule["action"] == "Allow"]
        if allowed and (selector, other) not in allows:
            yield (
                f"{direction}[{allowed[0]}]",
                f"untracked packets have no replies that are let through of themselves: nothing here allows their {other}",
            )


def _before_dnat(spec: Document, pod_nets: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, rule in enumerate(spec.get("ingress") or ()):
        entity = rule.get("destination") or {}
        path = f"ingress[{number}].destination"
        for index, net in enumerate(entity.get("nets") or ()):
            if any(_inside(net, pool) for pool in pod_nets):
                reason = f"{net} is of pods: before DNAT packets still have the address of the node or service"
                yield f"{path}.nets[{index}]", reason
        if entity.get("nets"):
            continue
        for index, port in enumerate(entity.get("ports") or ()):
            if not _node_port(port):
                yield f"{path}.ports[{index}]", f"{port}: {_CLIENTS_PORT}"


def _node_port(port: object) -> bool:
    ends = str(port).split(":")
    return all(end.isdigit() and _NODE_PORTS[0] <= int(end) <= _NODE_PORTS[1] for end in ends)


def _inside(net: str, pool: str) -> bool:
    base, _, length = (nets.parse_net(net) or "").partition("/")
    return bool(base) and int(length) >= int(pool.partition("/")[2]) and nets.contains(pool, base)


def _pod_networks(documents: Sequence[tuple[ResourceKey, Document]]) -> list[str]:
    pools = [document["spec"]["cidr"] for key, document in documents if key.kind == "IPPool"]
    return [canonical for pool in pools if (canonical := nets.parse_net(pool))]


def _effective(spec: Document) -> str:
    parts = (spec.get(name) or "" for name in ("selector", "namespaceSelector", "serviceAccountSelector"))
    try:
        return selector_scope.policy_selector(*parts)
    except selectors.SelectorError:
        return selectors.ALL  # too deep to be put together: the agent says so, and no warning is made of it


def _endpoints(documents: Sequence[tuple[ResourceKey, Document]]) -> Iterator[Warned]:
    applying = [
        _effective(spec)
        for key, document in documents
        if key.kind == "GlobalNetworkPolicy" and (spec := document.get("spec") or {}) and (spec.get("types") or types_of(spec))
    ]
    for index, (key, document) in enumerate(documents):
        if key.kind != "HostEndpoint" or document["spec"].get("profiles"):
            continue  # profiles judge what no policy does
        labels = document["metadata"].get("labels") or {}
        if not any(selectors.parse(text).matches(labels) for text in applying):
            yield Warned(
                index,
                "metadata.labels",
                "no policy in these files selects this endpoint: only failsafe ports are open there unless others do",
            )
