"""Label selectors of Kubernetes to Calico's selector texts (`statements.md` kubernetes 1.3).

Selectors given here have passed `kubernetes_checks.label_selector`: only then is it safe to put keys and values into a text
without escaping, which Calico's grammar doesn't have. Knows no policy. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

PODS: Final = "projectcalico.org/orchestrator == 'k8s'"
"""Every pod, and no host endpoint: the first term of each selector of pods."""
EVERYWHERE: Final = "all()"

_Selector = Mapping[str, Any]


def pods(selector: _Selector | None) -> str:
    """The text that selects pods by their own labels; none, or an empty selector, selects all of them."""
    return " && ".join([PODS, *_terms(selector or {})])


def namespaces(selector: _Selector) -> str:
    """The text for a `namespaceSelector`; an empty selector selects every namespace."""
    return " && ".join(_terms(selector)) or EVERYWHERE


def _terms(selector: _Selector) -> Iterator[str]:
    """matchLabels by sorted key, then matchExpressions in the order given."""
    for key, value in sorted((selector.get("matchLabels") or {}).items()):
        yield f"{key} == '{value}'"
    for expression in selector.get("matchExpressions") or ():
        key, values = expression["key"], "', '".join(expression.get("values") or ())
        match expression["operator"]:
            case "In":
                yield f"{key} in {{ '{values}' }}"
            case "NotIn":
                yield f"{key} not in {{ '{values}' }}"
            case "Exists":
                yield f"has({key})"
            case "DoesNotExist":
                yield f"! has({key})"
            case operator:  # checked before; a term left out would let more match
                raise AssertionError(f"unchecked operator {operator!r}")
