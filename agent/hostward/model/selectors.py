"""Selectors: parsed, canonical, matchable, and the identities that sets get from them (`statements.md` enforcement 2, I-3).

The grammar is in `selector_syntax`, the forms in `selector_forms`; what namespace fields add to one is in `selector_scope`.
Pure; any thread.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import sha224
from typing import Final

from hostward.model import selector_syntax
from hostward.model.identity import Identified
from hostward.model.selector_forms import Matcher, labels_of, matcher_of, quote, rewrite, text_of
from hostward.model.selector_syntax import Everything, SelectorError

__all__ = ["ALL", "Selector", "SelectorError", "canonical", "named_port_id", "parse", "prefixed", "quote", "selector_id"]

ALL: Final = "all()"


class Selector(Identified, frozen=True):
    """A parsed selector; two are equal when their canonical texts are.

    `matches(labels) -> bool` evaluates it against a mapping of label names to values. `labels_used` are all labels that can
    matter. `is_all` says that it matches any labels; in a rule even such a selector matches only known endpoints and network
    sets, not every address (R-23), so it may not be left out there.
    """

    text: str
    matches: Matcher
    labels_used: frozenset[str]
    is_all: bool

    def _identity(self) -> object:
        return self.text


@lru_cache(maxsize=16384)
def parse(text: str) -> Selector:
    """The selector that a text means; the empty text is `all()`. Raises SelectorError with position and reason."""
    node = selector_syntax.parse(text)
    return Selector(text_of(node), matcher_of(node), labels_of(node), isinstance(node, Everything))


def canonical(text: str) -> str:
    """The canonical form of a selector text (S-23); applying it twice changes nothing. Raises SelectorError."""
    return parse(text).text


def prefixed(text: str, prefix: str) -> str:
    """The canonical form with `prefix` before every label name (V-8). Raises SelectorError."""
    return text_of(rewrite(selector_syntax.parse(text), prefix=prefix))


def _identity(kind: str, text: str) -> str:
    digest = sha224(f"{kind}:{text}".encode("utf-8", "surrogatepass")).digest()
    return f"{kind}:{urlsafe_b64encode(digest).rstrip(b'=').decode()}"


@lru_cache(maxsize=16384)
def selector_id(canonical_text: str) -> str:
    """The identity of a selector's address set, from its canonical text (S-24)."""
    return _identity("s", canonical_text)


def named_port_id(selector: str, protocol: str, name: str) -> str:
    """The identity of a named port's set (I-3): `selector` is a selector_id, `protocol` one of tcp, udp, sctp, any."""
    return _identity("n", f"{selector},{protocol},{name}")
