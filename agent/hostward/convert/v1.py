"""v1 documents, as calicoctl 1.x wrote them, to v3 (`statements.md` B.3, B.4; decision D3).

Differs from Calico's own upgrade in two ways, both towards less being let through: every policy gets `applyOnForward`, because
in v1's time it judged forwarded traffic too (D3); and a rule's notTag beside a notSelector excludes either, not only both.
Knows nothing of stored data. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from hostward.convert import names, v1_validate, workload_names
from hostward.convert.defaults import V1_NAME_ANNOTATION, types_of
from hostward.model import keys, nets
from hostward.model.fields import Problem

Document = dict[str, Any]

_PROTOCOLS: Final = {"tcp": "TCP", "udp": "UDP", "icmp": "ICMP", "icmpv6": "ICMPv6", "sctp": "SCTP", "udplite": "UDPLite"}
_IPIP: Final = {"always": "Always", "cross-subnet": "CrossSubnet"}
_K8S_NS: Final = "calico/k8s_ns"
_K8S_NS_NOW: Final = "projectcalico.org/namespace"
_KEPT_IN_RULES: Final = ("ipVersion", "icmp", "notICMP")

_MISSPELT: Final = frozenset(kind[0].upper() + kind[1:] for kind in v1_validate.KINDS) - {"Node"}


class Converted(NamedTuple):
    """A v3 document, and the name that it had in v1."""

    document: Document
    v1_name: str

    @property
    def renamed(self) -> bool:
        """Whether v3 has it under another name."""
        return bool(self.document["metadata"]["name"] != self.v1_name)


class V1Error(ValueError):
    """A v1 document that can't be converted; `problems` says why, by the paths of its own fields."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def is_v1(document: Mapping[str, Any]) -> bool:
    """Whether a document is one of the v1 API, perhaps misspelt. Kubernetes' own v1 kinds begin with a capital letter."""
    kind = document.get("kind")
    kubernetes = isinstance(kind, str) and kind[:1].isupper() and kind not in _MISSPELT
    return document.get("apiVersion") == v1_validate.API_VERSION and not kubernetes


def to_v3(document: Document) -> Converted:
    """The v3 form of one v1 document, not yet validated as v3 nor filled in. Raises V1Error for what is no valid v1."""
    if problems := v1_validate.problems(document):
        raise V1Error(problems)
    document = _without_nulls(document)
    kind, (convert, name_of) = document["kind"], _CONVERTERS[document["kind"]]
    original = document["metadata"][name_of]
    v3_kind, meta, spec = convert(document["metadata"], document.get("spec", {}))
    if meta["name"] != original:
        meta["annotations"] = meta.get("annotations", {}) | {V1_NAME_ANNOTATION: original}
    if not meta["name"]:
        raise V1Error([Problem(f"metadata.{name_of}", f"nothing of {original!r} can be part of a v3 name; rename this {kind}")])
    v3 = {"apiVersion": keys.API_VERSION, "kind": v3_kind, "metadata": meta, "spec": spec}
    return Converted(v3, original)


def v3_names(kind: str, v1_name: str) -> tuple[str, ...]:
    """The v3 names that a v1 name alone leads to; a host endpoint's needs its node too, and has none here."""
    if kind in _BY_NAME:
        return (_BY_NAME[kind](v1_name),)
    return ()


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _selector(text: str) -> str:
    return text.replace(_K8S_NS, _K8S_NS_NOW)


def _protocol(value: Any) -> Any:
    return _PROTOCOLS.get(value, value) if isinstance(value, str) else value


def _all_nets(entity: Document, several: str, single: str) -> list[str]:
    """The list first, then the deprecated single one; all masked."""
    given = [*entity.get(several, ()), *([entity[single]] if single in entity else [])]
    return [canonical for net in given if (canonical := nets.parse_net(net))]


def _with_tag(entity: Document, selector: str, tag: str, both: str) -> str:
    """A tag is a label that is present with an empty value (A-8)."""
    text, tagged = _selector(entity.get(selector, "")), f"{entity[tag]} == ''" if tag in entity else ""
    return f"({text}) {both} {tagged}" if text and tagged else text or tagged


def _entity(entity: Document) -> Document:
    found: Document = {
        "nets": _all_nets(entity, "nets", "net"),
        "notNets": _all_nets(entity, "notNets", "notNet"),
        "selector": _with_tag(entity, "selector", "tag", "&&"),
        "notSelector": _with_tag(entity, "notSelector", "notTag", "||"),
        "ports": entity.get("ports"),
        "notPorts": entity.get("notPorts"),
    }
    return {name: value for name, value in found.items() if value}


def _rule(rule: Document) -> Document:
    converted: Document = {"action": rule["action"].capitalize()}
    converted |= {name: _protocol(rule[name]) for name in ("protocol", "notProtocol") if name in rule}
    converted |= {name: rule[name] for name in _KEPT_IN_RULES if name in rule}
    sides = {side: _entity(rule[side]) for side in ("source", "destination") if side in rule}
    return converted | {side: entity for side, entity in sides.items() if entity}


def _rules(spec: Document) -> Document:
    return {name: [_rule(rule) for rule in spec[name]] for name in ("ingress", "egress") if name in spec}


def _policy(meta: Document, spec: Document) -> tuple[str, Document, Document]:
    converted: Document = {name: spec[name] for name in ("order", "doNotTrack", "preDNAT") if name in spec}
    if "selector" in spec:
        converted["selector"] = _selector(spec["selector"])
    types = [word.capitalize() for word in spec.get("types", ())] or types_of(spec)
    converted |= {"types": types, "applyOnForward": True} | _rules(spec)
    notes = {"annotations": meta["annotations"]} if meta.get("annotations") else {}
    return "GlobalNetworkPolicy", {"name": names.policy(meta["name"])} | notes, converted


def _profile(meta: Document, spec: Document) -> tuple[str, Document, Document]:
    labels, tags = meta.get("labels", {}), meta.get("tags", [])
    if clash := sorted(set(labels) & set(tags)):
        raise V1Error([Problem("metadata.tags", f"{clash[0]!r} is a tag and a label; v3 has labels only")])
    inherited = {"labelsToApply": labels | dict.fromkeys(tags, "")} if labels or tags else {}
    return "Profile", {"name": names.profile(meta["name"])}, _rules(spec) | inherited


def _host_endpoint(meta: Document, spec: Document) -> tuple[str, Document, Document]:
    converted: Document = {"node": names.normalise(meta["node"])}
    if "interfaceName" in spec:
        converted["interfaceName"] = spec["interfaceName"]
    if spec.get("expectedIPs"):
        converted["expectedIPs"] = sorted(spec["expectedIPs"], key=lambda address: ":" in address)
    if spec.get("profiles"):
        converted["profiles"] = [names.profile(name) for name in spec["profiles"]]
    labels = {"labels": meta["labels"]} if meta.get("labels") else {}
    return "HostEndpoint", {"name": names.host_endpoint(meta["node"], meta["name"])} | labels, converted


def _workload_endpoint(meta: Document, spec: Document) -> tuple[str, Document, Document]:
    """In v1 a workload of Kubernetes was `namespace.pod`; all others live in v3's namespace `default` (B.3)."""
    orchestrator, workload = names.normalise(meta["orchestrator"]), meta["workload"]
    namespace, where = "default", {"workload": names.normalise(workload)}
    if orchestrator == "k8s":
        namespace, _, pod = workload.partition(".")
        if not pod:
            raise V1Error([Problem("metadata.workload", f"{workload!r} is no workload of Kubernetes: expected namespace.pod")])
        where = {"pod": names.normalise(pod)}
    elif orchestrator in ("cni", "libnetwork"):
        where = {"containerID": names.normalise(workload)}
    if "activeInstanceID" in meta:
        where.setdefault("containerID", meta["activeInstanceID"])
    converted: Document = {
        "orchestrator": orchestrator,
        "node": names.normalise(meta["node"]),
        "endpoint": names.normalise(meta["name"]),
    } | where
    if "ipNetworks" in spec:
        converted["ipNetworks"] = [nets.parse_net(net) for net in spec["ipNetworks"]]
    if spec.get("profiles"):
        converted["profiles"] = [names.profile(name) for name in spec["profiles"]]
    kept = ("ipNATs", "ipv4Gateway", "ipv6Gateway", "interfaceName", "mac")
    converted |= {name: spec[name] for name in kept if name in spec}
    labels = {_K8S_NS_NOW if key == _K8S_NS else key: value for key, value in meta.get("labels", {}).items()}
    named = {"name": workload_names.name_of(converted) or "", "namespace": namespace}
    return "WorkloadEndpoint", named | ({"labels": labels} if labels else {}), converted


def _node(meta: Document, spec: Document) -> tuple[str, Document, Document]:
    converted = dict(spec)
    if "bgp" in spec:
        addresses = {name: _with_length(spec["bgp"][name]) for name in ("ipv4Address", "ipv6Address") if name in spec["bgp"]}
        converted["bgp"] = spec["bgp"] | addresses
    return "Node", {"name": names.normalise(meta["name"])}, converted


def _with_length(address: str) -> str:
    return address if "/" in address else f"{address}/{128 if ':' in address else 32}"


def _pool(meta: Document, spec: Document) -> tuple[str, Document, Document]:
    cidr = nets.parse_net(meta["cidr"]) or meta["cidr"]
    ipip = spec.get("ipip", {})
    converted: Document = {
        "cidr": cidr,
        "ipipMode": _IPIP[ipip.get("mode", "always")] if ipip.get("enabled") else "Never",
        "vxlanMode": "Never",
        "blockSize": 122 if ":" in cidr else 26,
        "nodeSelector": "all()",
    }
    for v1_name, v3_name in (("nat-outgoing", "natOutgoing"), ("disabled", "disabled")):
        if v1_name in spec:
            converted[v3_name] = spec[v1_name]
    return "IPPool", {"name": names.ip_pool(cidr)}, converted


_Converter = Callable[[Document, Document], tuple[str, Document, Document]]
_CONVERTERS: Final[Mapping[str, tuple[_Converter, str]]] = {
    "policy": (_policy, "name"),
    "profile": (_profile, "name"),
    "hostEndpoint": (_host_endpoint, "name"),
    "workloadEndpoint": (_workload_endpoint, "name"),
    "node": (_node, "name"),
    "ipPool": (_pool, "cidr"),
}
_BY_NAME: Final[Mapping[str, Callable[[str], str]]] = {
    "GlobalNetworkPolicy": names.policy,
    "Profile": names.profile,
    "Node": names.normalise,
    "IPPool": names.ip_pool,
}
