"""How the fields for namespaces and service accounts become part of a selector (`statements.md` M-12..M-16, R-20..R-24).

The replacement of `all()` and `global()` works on the parsed selector: unlike Felix's textual one it finds `all( )` and leaves
literals alone; on everything else both give the same. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from hostward.model import selector_syntax
from hostward.model.selector_forms import mentions_global, quote, rewrite, text_of
from hostward.model.selector_syntax import Everything, Has, Node, Not, SelectorError
from hostward.model.selectors import ALL, canonical

NAMESPACE: Final = "projectcalico.org/namespace"
SERVICE_ACCOUNT: Final = "projectcalico.org/serviceaccount"
ORCHESTRATOR: Final = "projectcalico.org/orchestrator"
NAMESPACE_PREFIX: Final = "pcns."
SERVICE_ACCOUNT_PREFIX: Final = "pcsa."


def _without_global(text: str) -> Node:
    node = selector_syntax.parse(text)
    if mentions_global(node):
        raise SelectorError(0, "global() is allowed only in a rule's namespaceSelector, and only alone")
    return node


def _and(first: str, second: str) -> str:
    return f"({first}) && {second}" if first and second else first or second


def within(namespace: str) -> str:
    """The endpoints of one namespace. Raises SelectorError for a name that no selector can express."""
    try:
        return f"{NAMESPACE} == {quote(namespace)}"
    except ValueError as error:
        raise SelectorError(0, str(error)) from error


@lru_cache(maxsize=16384)
def policy_selector(selector: str, namespaces: str = "", service_accounts: str = "", namespace: str = "") -> str:
    """The canonical effective selector of a policy; empty texts are absent fields (M-12..M-15).

    `namespace` is the one that a NetworkPolicy is in. Raises SelectorError, also for `global()` (M-16) and for a whole that is
    nested too deeply.
    """
    text = text_of(_without_global(selector)) if selector.strip(" \t") else ""
    if namespace:
        text = _and(text, within(namespace))
    for scope, prefix, label in (
        (namespaces, NAMESPACE_PREFIX, NAMESPACE),
        (service_accounts, SERVICE_ACCOUNT_PREFIX, SERVICE_ACCOUNT),
    ):
        if scope:
            text = _and(text, text_of(rewrite(_without_global(scope), prefix=prefix)))
            # The user's own selector too: an all() there would otherwise still mean hosts (M-13).
            text = text_of(rewrite(selector_syntax.parse(text), replace={ALL: Has(label)}))
    return canonical(text)


@lru_cache(maxsize=16384)
def rule_namespaces(text: str) -> str:
    """What a rule's `namespaceSelector` contributes, canonical (R-21). Raises SelectorError."""
    node = selector_syntax.parse(text)
    if node != Everything("global()"):
        _without_global(text)
    outside: dict[str, Node] = {ALL: Has(NAMESPACE), "global()": Not(Has(NAMESPACE))}
    return canonical(text_of(rewrite(node, prefix=NAMESPACE_PREFIX, replace=outside)))


def rule_service_accounts(names: Sequence[str], selector: str) -> str:
    """What a rule's `serviceAccounts` contribute, "" for nothing (R-22). Raises SelectorError."""
    parts = []
    if names:
        try:
            parts.append(f"{SERVICE_ACCOUNT} in {{{', '.join(map(quote, names))}}}")
        except ValueError as error:
            raise SelectorError(0, str(error)) from error
    if selector:
        # An all() stays: service account labels have no rewrite in a rule (R-22 names only the prefix).
        parts.append(text_of(rewrite(_without_global(selector), prefix=SERVICE_ACCOUNT_PREFIX)))
    return canonical(" && ".join(parts)) if parts else ""


@lru_cache(maxsize=16384)
def plain(text: str) -> str:
    """A rule's own `selector` or `notSelector`, canonical. Raises SelectorError, also for `global()`."""
    return canonical(text_of(_without_global(text)))


def side_selectors(parts: Sequence[str], excluded: str | None) -> tuple[str | None, str | None]:
    """The positive and the negated selector of a rule's side, canonical; None where there is none (R-20, R-24).

    `parts` are AND-ed canonical texts. Both kinds together become one positive selector. Raises SelectorError when the whole is
    nested too deeply.
    """
    if not parts:
        return None, excluded
    text = " && ".join(f"({part})" for part in parts)
    if excluded is not None:
        text = f"{text} && !({excluded})"
    return canonical(text), None
