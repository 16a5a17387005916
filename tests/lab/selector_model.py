"""Selectors evaluated straight from their text, by `statements.md` enforcement 2, for the models that the agent is held to.

Shares no code with the agent. A selector becomes a function of labels; `prefix` goes before every label's name, and
`everything` is what `all()` means, as both change where a selector is about namespaces (M-13, R-21).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

Labels = Mapping[str, str]
Matcher = Callable[[Labels], bool]

_TOKEN = re.compile(
    r"[ \t]*(?:(?P<call>(?:has|all)\()|(?P<text>'[^']*'|\"[^\"]*\")|(?P<sign>==|!=|&&|\|\||[!(){},])|(?P<name>[\w./-]+))",
    re.ASCII,
)
_WORDS = {"in": "in", "not": "in", "contains": "", "starts": "with", "ends": "with"}


@lru_cache(maxsize=4096)
def matcher(text: str, prefix: str = "", everything: Matcher | None = None) -> Matcher:
    """The function that a selector is. Raises ValueError for what is none."""
    if not text.strip(" \t"):
        return everything or (lambda _: True)
    parser = _Parser(text, prefix, everything or (lambda _: True))
    found = parser.either()
    if parser.tokens:
        raise ValueError(f"{text!r}: {parser.tokens} is left over")
    return found


class _Parser:
    def __init__(self, text: str, prefix: str, everything: Matcher) -> None:
        self.prefix, self.everything = prefix, everything
        self.tokens: list[tuple[str, str]] = []
        text, at = text.strip(" \t"), 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if not match or match.lastgroup is None:
                raise ValueError(f"{text!r}: nothing known at {at}")
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()

    def take(self, kind: str, *values: str) -> str:
        if not self.tokens or self.tokens[0][0] != kind or (values and self.tokens[0][1] not in values):
            raise ValueError(f"expected {values or kind} at {self.tokens}")
        return self.tokens.pop(0)[1]

    def next_is(self, *values: str) -> bool:
        return bool(self.tokens) and self.tokens[0][0] != "text" and self.tokens[0][1] in values

    def either(self) -> Matcher:
        parts = [self.both()]
        while self.next_is("||"):
            self.take("sign")
            parts.append(self.both())
        return lambda labels: any(part(labels) for part in parts)

    def both(self) -> Matcher:
        parts = [self.one()]
        while self.next_is("&&"):
            self.take("sign")
            parts.append(self.one())
        return lambda labels: all(part(labels) for part in parts)

    def one(self) -> Matcher:
        if self.next_is("!"):
            self.take("sign")
            inner = self.one()
            return lambda labels: not inner(labels)
        if self.next_is("("):
            self.take("sign")
            inner = self.either()
            self.take("sign", ")")
            return inner
        if self.next_is("has("):
            self.take("call")
            key = self.prefix + self.take("name")
            self.take("sign", ")")
            return lambda labels: key in labels
        if self.next_is("all("):
            self.take("call")
            self.take("sign", ")")
            return self.everything
        return self.comparison()

    def comparison(self) -> Matcher:
        key = self.prefix + self.take("name")
        if self.next_is("==", "!="):
            equal, value = self.take("sign") == "==", self.literal()
            return lambda labels: (labels.get(key) == value) == equal
        word = self.take("name", *_WORDS)
        if second := _WORDS[word]:
            self.take("name", second) if word != "in" else None
        if word in ("in", "not"):
            values = self.values()
            return lambda labels: (labels.get(key) in values) == (word == "in")
        value = self.literal()
        tests: dict[str, Callable[[str], bool]] = {
            "contains": lambda own: value in own,
            "starts": lambda own: own.startswith(value),
            "ends": lambda own: own.endswith(value),
        }
        return lambda labels: key in labels and tests[word](labels[key])

    def literal(self) -> str:
        return self.take("text")[1:-1]

    def values(self) -> set[str]:
        self.take("sign", "{")
        found: set[str] = set()
        while not self.next_is("}"):
            found.add(self.literal())
            if self.next_is(","):
                self.take("sign")
        self.take("sign", "}")
        return found
