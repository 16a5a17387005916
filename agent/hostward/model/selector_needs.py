"""What labels something must have for a selector to match it: a necessary condition, by which selectors are found fast.

Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from hostward.model import selector_syntax
from hostward.model.selector_scope import NAMESPACE, ORCHESTRATOR, SERVICE_ACCOUNT
from hostward.model.selector_syntax import Compare, Group, Has, Member, Node

_COMMON: Final[Mapping[str, int]] = {ORCHESTRATOR: 2, NAMESPACE: 1, SERVICE_ACCOUNT: 1}


class Need(NamedTuple):
    """A label that is there; with `value` unless None; on something in the namespace `within` unless None."""

    label: str
    value: str | None
    within: str | None = None


@lru_cache(maxsize=16384)
def needs(text: str) -> frozenset[Need] | None:
    """Needs of which every match meets at least one; None when a match may have any labels. Raises SelectorError.

    Of several such sets one is chosen that few things meet: few needs, of values, of labels that not everything has.
    """
    return _needs(selector_syntax.parse(text))


def _needs(node: Node) -> frozenset[Need] | None:
    match node:
        case Has(label) | Compare(label, "contains" | "starts with" | "ends with"):
            return frozenset({Need(label, None)})
        case Compare(label, "==", value):
            return frozenset({Need(label, value)})
        case Member(label, "in", values):
            return frozenset(Need(label, value) for value in values)
        case Group("&&", operands):
            known = [found for operand in operands if (found := _needs(operand)) is not None]
            best = min(known, key=_commonness, default=None)
            within = next((op.value for op in operands if isinstance(op, Compare) and _is_namespace(op)), None)
            if best is None or within is None or any(need.label == NAMESPACE or need.within for need in best):
                return best
            return frozenset(need._replace(within=within) for need in best)
        case Group("||", operands):
            each = [_needs(operand) for operand in operands]
            return None if None in each else frozenset[Need]().union(*(found for found in each if found is not None))
        case _:
            return None


def _is_namespace(compared: Compare) -> bool:
    return compared.label == NAMESPACE and compared.word == "=="


def offers(labels: Mapping[str, str]) -> Iterator[Need]:
    """All needs that labels meet."""
    namespaces = {None, labels.get(NAMESPACE)}
    for label, value in labels.items():
        for within in namespaces:
            yield Need(label, value, within)
            yield Need(label, None, within)


def _commonness(found: frozenset[Need]) -> tuple[bool, int, int]:
    """How much is likely to meet one of these needs: smaller is rarer."""
    by_presence = any(need.value is None for need in found)
    return by_presence, max((_COMMON.get(need.label, 0) for need in found), default=0), len(found)
