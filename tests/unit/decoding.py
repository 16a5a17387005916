"""Shorthands for tests of decoding: documents as Calico's writers store them, decoded."""

from __future__ import annotations

import json
from typing import Any

from hostward.model.decode import Decoded, decode
from hostward.model.keys import API_VERSION, ResourceKey
from hostward.model.resources import HostEndpoint, Policy
from hostward.model.rules import Rule


def stored(kind: str, spec: object, name: str = "x", namespace: str = "", **metadata: Any) -> Decoded:
    """What decoding gives for a resource with this spec."""
    meta = {"name": name, "uid": "u", **({"namespace": namespace} if namespace else {}), **metadata}
    document = {"kind": kind, "apiVersion": API_VERSION, "metadata": meta, "spec": spec}
    return decode(ResourceKey(kind, namespace, name), json.dumps(document).encode())


def paths(decoded: Decoded) -> list[str]:
    """Where the problems are."""
    return [problem.path for problem in decoded.problems]


def policy(spec: object, namespace: str = "", **metadata: Any) -> tuple[Policy | None, list[str]]:
    """A decoded GlobalNetworkPolicy, or a NetworkPolicy in a namespace, and where its problems are."""
    kind = "NetworkPolicy" if namespace else "GlobalNetworkPolicy"
    decoded = stored(kind, spec, namespace=namespace, **metadata)
    assert decoded.value is None or isinstance(decoded.value, Policy)
    return decoded.value, paths(decoded)


def understood_policy(spec: object, **metadata: Any) -> Policy:
    """A policy that must be wholly understood."""
    value, problems = policy(spec, **metadata)
    assert problems == []
    assert value is not None
    return value


def rule_in(namespace: str, direction: str, fields: dict[str, Any]) -> tuple[Rule, list[str]]:
    """A decoded rule of a policy without other problems, and where the rule's problems are, below the rule."""
    value, problems = policy({"selector": "all()", direction: [fields]}, namespace)
    assert value is not None
    (found,) = value.ingress_rules + value.egress_rules
    return found, [path.removeprefix(f"spec.{direction}[0]").removeprefix(".") for path in problems]


def rule(**fields: Any) -> tuple[Rule, list[str]]:
    """A decoded ingress rule of a global policy, and where its problems are."""
    return rule_in("", "ingress", fields)


def understood_rule(**fields: Any) -> Rule:
    """A rule that must be wholly understood."""
    value, problems = rule(**fields)
    assert problems == []
    return value


def endpoint(spec: object, **metadata: Any) -> tuple[HostEndpoint | None, list[str]]:
    """A decoded HostEndpoint, and where its problems are."""
    decoded = stored("HostEndpoint", spec, **metadata)
    assert decoded.value is None or isinstance(decoded.value, HostEndpoint)
    return decoded.value, paths(decoded)
