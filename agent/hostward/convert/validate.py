"""Validates whole v3 documents: `problems(document)`, with one table of kinds (`statements.md` A.10, D13).

Documents are judged before writers' defaults are filled in (`defaults`), so that every message is about what the author wrote.
What passes is understood by the agent without reserve, or is of a kind that it doesn't enforce. Pure functions; any thread.
"""

from __future__ import annotations

from typing import Any, Final

from hostward.convert import names
from hostward.convert.checks import (
    Check,
    Report,
    anything,
    boolean,
    each_of,
    fields,
    listing,
    mapping,
    number,
    one_of,
    problems_of,
    suggestion,
    under,
)
from hostward.convert.validate_felix import felix_configuration
from hostward.convert.validate_infrastructure import address, ip_pool, node
from hostward.convert.validate_metadata import NAMESPACE_LABEL, label_value, labels, metadata, name, plain_name
from hostward.convert.validate_rules import (
    policy_rules,
    rules,
    selector,
)
from hostward.convert.validate_staged import ACTION, kubernetes_policy, only_tier_when_deleting
from hostward.convert.validate_workload import (
    host_ports,
    interface,
    kube_controllers,
    name_fits,
    only_default,
    workload_endpoint,
)
from hostward.model import nets
from hostward.model.fields import Problem, show
from hostward.model.keys import API_VERSION, KINDS
from hostward.model.resources import BUILT_IN_TIERS


def _each_once(value: Any, path: str, report: Report) -> None:
    seen: list[Any] = []
    for index, item in enumerate(value if isinstance(value, list) else ()):
        if item in seen:
            report(under(path, index), f"{show(item)} is given twice")
        seen.append(item)


_TYPES: Final = each_of(listing(one_of("Ingress", "Egress")), _each_once)
_NAMESPACED_POLICY: Final[dict[str, Check]] = {
    "tier": name(names.wrong_tier_name),
    "order": number,
    "selector": selector,
    "serviceAccountSelector": selector,
    "types": _TYPES,
    "performanceHints": each_of(listing(one_of("AssumeNeededOnEveryNode")), _each_once),
}


def _kinds_of_policy_agree(value: dict[str, Any], path: str, report: Report) -> None:
    """`statements.md` M-51."""
    untracked, pre_dnat = value.get("doNotTrack") is True, value.get("preDNAT") is True
    if untracked and pre_dnat:
        report(under(path, "preDNAT"), "a policy is either preDNAT or doNotTrack")
    if pre_dnat and value.get("egress"):
        report(under(path, "egress"), "a preDNAT policy has ingress rules only")
    if pre_dnat and isinstance(value.get("types"), list) and "Egress" in value["types"]:
        report(under(path, "types"), "a preDNAT policy has the type Ingress only")
    if (untracked or pre_dnat) and value.get("applyOnForward") is not True:
        report(under(path, "applyOnForward"), f"{'preDNAT' if pre_dnat else 'doNotTrack'} needs applyOnForward: true")


_ON_HOSTS: Final[dict[str, Check]] = {
    "namespaceSelector": selector,
    "doNotTrack": boolean,
    "preDNAT": boolean,
    "applyOnForward": boolean,
}
_GLOBAL_POLICY: Final = fields(_NAMESPACED_POLICY | _ON_HOSTS | policy_rules(namespaced=False), also=_kinds_of_policy_agree)
_STAGED: Final[dict[str, Check]] = {"stagedAction": ACTION}
_STAGED_GLOBAL_POLICY: Final = fields(
    _NAMESPACED_POLICY | _ON_HOSTS | _STAGED | policy_rules(namespaced=False, staged=True),
    also=each_of(_kinds_of_policy_agree, only_tier_when_deleting),
)


def _interface_or_addresses(value: dict[str, Any], path: str, report: Report) -> None:
    if not value.get("interfaceName") and not value.get("expectedIPs"):
        report(under(path, "interfaceName"), "missing: a host endpoint needs interfaceName, expectedIPs or both")


_HOST_ENDPOINT: Final = fields(
    {
        "node": plain_name,
        "interfaceName": interface,
        "expectedIPs": listing(address),
        "profiles": listing(plain_name),
        "ports": host_ports,
    },
    required=("node",),
    also=_interface_or_addresses,
)


def _set_member(value: Any, path: str, report: Report) -> None:
    if not isinstance(value, str) or nets.parse_net(value) is None:
        report(path, f"{show(value)} is no address or network")


_NETWORK_SET: Final = fields({"nets": listing(_set_member)})
_PROFILE: Final = fields({"ingress": rules, "egress": rules, "labelsToApply": mapping(names.wrong_lent_label_key, label_value)})
_TIER: Final = fields({"order": number, "defaultAction": one_of("Deny", "Pass")})


def _built_in_tier_is_kept(document: dict[str, Any], _: str, report: Report) -> None:
    meta, spec = document.get("metadata"), document.get("spec")
    tier = BUILT_IN_TIERS.get(meta["name"]) if isinstance(meta, dict) and isinstance(meta.get("name"), str) else None
    if tier is None or not isinstance(spec, dict):
        return
    if spec.get("order") not in (None, tier.order):
        report("spec.order", f"the tier {tier.name} always has order {tier.order:.0f}")
    # An omitted action means Deny, which only the default tier may have.
    if spec.get("defaultAction", "Deny") != tier.default_action:
        report("spec.defaultAction", f"the tier {tier.name} always has {tier.default_action}")


def _set_labels(value: Any, path: str, report: Report) -> None:
    labels(value, path, report)
    if isinstance(value, dict) and NAMESPACE_LABEL in value:
        report(under(path, NAMESPACE_LABEL), "network sets can't carry this label")


def _felix_name(value: str) -> str | None:
    wrong = names.wrong_name(value)
    if wrong is None and value != "default" and not value.startswith("node."):
        return "only 'default' and 'node.<name of a node>' are ever read"
    return wrong


def _policy_name(*, namespaced: bool) -> Check:
    return name(lambda value: names.wrong_policy_name(value, namespaced=namespaced))


_METADATA: Final[dict[str, Check]] = {
    "GlobalNetworkPolicy": _policy_name(namespaced=False),
    "NetworkPolicy": _policy_name(namespaced=True),
    "Tier": name(names.wrong_tier_name),
    "FelixConfiguration": name(_felix_name),
    "StagedGlobalNetworkPolicy": _policy_name(namespaced=False),
    "StagedNetworkPolicy": _policy_name(namespaced=True),
}
_WHOLE: Final[dict[str, Check]] = {
    "Tier": _built_in_tier_is_kept,
    "WorkloadEndpoint": name_fits,
    "KubeControllersConfiguration": only_default,
}
_SPECS: Final[dict[str, Check]] = {
    "GlobalNetworkPolicy": _GLOBAL_POLICY,
    "NetworkPolicy": fields(_NAMESPACED_POLICY | policy_rules(namespaced=True)),
    "Tier": _TIER,
    "HostEndpoint": _HOST_ENDPOINT,
    "Profile": _PROFILE,
    "NetworkSet": _NETWORK_SET,
    "GlobalNetworkSet": _NETWORK_SET,
    "Node": node,
    "IPPool": ip_pool,
    "FelixConfiguration": felix_configuration,
    "WorkloadEndpoint": workload_endpoint,
    "StagedGlobalNetworkPolicy": _STAGED_GLOBAL_POLICY,
    "StagedNetworkPolicy": fields(
        _NAMESPACED_POLICY | _STAGED | policy_rules(namespaced=True, staged=True), also=only_tier_when_deleting
    ),
    "StagedKubernetesNetworkPolicy": kubernetes_policy,
    "KubeControllersConfiguration": kube_controllers,
}
WRITABLE: Final = frozenset(_SPECS)
"""The kinds that can be written. The others in `keys.KINDS` can be read only."""
_NEEDS_SPEC: Final = frozenset(("GlobalNetworkPolicy", "NetworkPolicy", "HostEndpoint", "IPPool", "WorkloadEndpoint"))


def _whole(kind: str) -> Check:
    on_labels = _set_labels if kind in ("NetworkSet", "GlobalNetworkSet") else labels
    return fields(
        {
            "apiVersion": one_of(API_VERSION),
            "kind": one_of(kind),
            "metadata": metadata(_METADATA.get(kind, plain_name), namespaced=KINDS[kind].namespaced, labels_check=on_labels),
            "spec": _SPECS[kind],
            "status": anything,
        },
        required=("apiVersion", "kind", "metadata", *(("spec",) if kind in _NEEDS_SPEC else ())),
        also=_WHOLE.get(kind),
    )


_CHECKS: Final = {kind: _whole(kind) for kind in _SPECS}


def problems(document: object) -> list[Problem]:
    """All that is wrong with a v3 document; none means that it can be written and will be understood. Never raises."""
    if not isinstance(document, dict):
        return [Problem("", f"expected a mapping, not {show(document)}")]
    kind, version = document.get("kind"), document.get("apiVersion")
    if kind is None or version is None:
        return [Problem(field, "missing") for field in ("apiVersion", "kind") if document.get(field) is None]
    if isinstance(kind, str) and version == API_VERSION:
        if kind in _CHECKS:
            return problems_of(_CHECKS[kind], document)
        if kind in KINDS:
            return [Problem("kind", f"{kind} can be read but not written with this command")]
    if version != API_VERSION:
        known = f"; expected apiVersion {API_VERSION}"
        if kind == "NetworkPolicy":  # Kubernetes had it in other groups before
            known += ", or networking.k8s.io/v1 for one of Kubernetes"
    elif isinstance(kind, str) and kind.lower() == "policy":
        known = "; a policy of v1 has apiVersion v1, one of v3 is a GlobalNetworkPolicy or a NetworkPolicy"
    else:
        known = suggestion(kind, _SPECS)
    return [Problem("kind", f"unknown resource type ({_word(kind)}) and/or version ({_word(version)}){known}")]


def _word(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() and len(value) <= 64 else show(value)
