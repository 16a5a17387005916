"""The grammar of selectors: text to a tree of nodes (`statements.md` S-1..S-12).

Knows nothing of labels' values nor of what a selector is used for; `selector_forms` prints, evaluates and rewrites the tree.
The parser keeps its own stack, reads each character once, and limits nesting, so that no text can exhaust Python's stack.
Pure; any thread.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NoReturn

from msgspec import Struct

MAX_LABEL: Final = 512  # characters of a label's name (S-3)
MAX_DEPTH: Final = 100  # nested parentheses as written, and nested groups and negations as understood


class SelectorError(ValueError):
    """A text is no selector. `position` counts characters from 0; `reason` says what was expected there."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"at character {position + 1}: {reason}")
        self.position = position
        self.reason = reason


class Everything(Struct, frozen=True):
    """`all()`, or `global()`, which differs only where a rule's namespace selector is rewritten (S-22)."""

    word: Literal["all()", "global()"] = "all()"


class Has(Struct, frozen=True):
    """The label is present."""

    label: str


CompareWord = Literal["==", "!=", "contains", "starts with", "ends with"]


class Compare(Struct, frozen=True):
    """The label's value against one literal."""

    label: str
    word: CompareWord
    value: str


class Member(Struct, frozen=True):
    """The label's value in a set of literals, or not in it; `values` are sorted, each once."""

    label: str
    word: Literal["in", "not in"]
    values: tuple[str, ...]


class Not(Struct, frozen=True):
    """The opposite; the operand is never a Not itself, two of them cancel out."""

    operand: Node


class Group(Struct, frozen=True):
    """Two or more operands, joined by one operator."""

    word: Literal["&&", "||"]
    operands: tuple[Node, ...]


Node = Everything | Has | Compare | Member | Not | Group

_SPACE: Final = re.compile(r"[ \t]*")
_LABEL: Final = re.compile(r"[A-Za-z0-9_./-]+")
_CALL: Final = re.compile(r"(has|all|global)\(")
# In this order, and each a whole word (S-5); the words of one operator may stand apart or together.
_OPERATOR: Final = re.compile(
    r"(?P<compare>==|!=)|(?:(?P<contains>contains)|(?P<starts>starts[ \t]*with)|(?P<ends>ends[ \t]*with)"
    r"|(?P<not_in>not[ \t]*in)|(?P<in>in))(?![A-Za-z0-9_./-])"
)
_WORDS: Final[dict[str, CompareWord]] = {"contains": "contains", "starts": "starts with", "ends": "ends with"}


class _Open(Struct):
    """One open parenthesis (or the whole text): finished alternatives, factors of the current one, and a pending "!"."""

    position: int
    negated: bool  # whether the parenthesis as a whole is negated
    alternatives: list[tuple[Node, int]]
    factors: list[tuple[Node, int]]


def parse(text: str) -> Node:
    """The tree of a selector; the empty text is `all()`. Raises SelectorError."""
    return _Parser(text).run()


class _Parser:
    """One pass over one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def run(self) -> Node:
        self.space()
        if self.at == len(self.text):
            return Everything()
        stack = [_Open(0, False, [], [])]
        while True:
            negated = self.negations()
            if self.take("("):
                if len(stack) > MAX_DEPTH:
                    self.fail(f"parentheses nested more than {MAX_DEPTH} deep", self.at - 1)
                stack.append(_Open(self.at - 1, negated, [], []))
                continue
            self.operand(stack[-1], self.primary(), 1, negated=negated)
            while self.take(")"):
                closed = stack.pop()
                if not stack:
                    self.fail('a ")" without a "("', self.at - 1)
                node, depth = self.close(closed)
                self.operand(stack[-1], node, depth, negated=closed.negated)
            if self.take("&&"):
                continue
            if self.take("||"):
                stack[-1].alternatives.append(self.join("&&", stack[-1].factors))
                stack[-1].factors = []
                continue
            if self.at < len(self.text):
                self.fail('expected "&&", "||" or the end')
            if len(stack) > 1:
                self.fail('this "(" is never closed', stack[-1].position)
            return self.close(stack[0])[0]

    def operand(self, group: _Open, node: Node, depth: int, *, negated: bool) -> None:
        if negated:
            node, depth = (node.operand, depth - 1) if isinstance(node, Not) else (Not(node), depth + 1)
        group.factors.append((node, depth))

    def close(self, group: _Open) -> tuple[Node, int]:
        group.alternatives.append(self.join("&&", group.factors))
        return self.join("||", group.alternatives)

    def join(self, word: Literal["&&", "||"], parts: list[tuple[Node, int]]) -> tuple[Node, int]:
        # Limited here, not only by the parentheses as written: canonical text has one pair per group, and must parse again.
        if len(parts) == 1:
            return parts[0]
        depth = 1 + max(depth for _, depth in parts)
        if depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} deep", self.at)
        return Group(word, tuple(node for node, _ in parts)), depth

    def negations(self) -> bool:
        odd = False
        while self.take("!"):
            odd = not odd
        return odd

    def primary(self) -> Node:
        call = _CALL.match(self.text, self.at)
        if call:
            self.at = call.end()
            self.space()
            everything = Everything("all()" if call[1] == "all" else "global()")
            node = Has(self.label()) if call[1] == "has" else everything
            if not self.take(")"):
                self.fail(f'expected ")" to end {call[1]}(')
            return node
        label = self.label()
        operator = _OPERATOR.match(self.text, self.at)
        if not operator:
            self.fail(
                f'expected "==", "!=", "in", "not in", "contains", "starts with" or "ends with" after the label {label[:40]!r}'
            )
        self.at = operator.end()
        self.space()
        kind = operator.lastgroup or ""
        if kind in ("in", "not_in"):
            return Member(label, "in" if kind == "in" else "not in", self.literals())
        if kind == "compare":
            return Compare(label, "==" if operator[0] == "==" else "!=", self.literal())
        return Compare(label, _WORDS[kind], self.literal())

    def label(self) -> str:
        found = _LABEL.match(self.text, self.at)
        if not found:
            self.fail("expected a label")
        if found.end() - found.start() > MAX_LABEL:
            self.fail(f"label longer than {MAX_LABEL} characters")
        self.at = found.end()
        self.space()
        return found[0]

    def literals(self) -> tuple[str, ...]:
        if not self.take("{"):
            self.fail('expected "{"')
        values: set[str] = set()
        while not self.take("}"):
            values.add(self.literal())
            if not self.take(","):
                if not self.take("}"):
                    self.fail('expected "," or "}"')
                break
        return tuple(sorted(values))

    def literal(self) -> str:
        quote = self.text[self.at : self.at + 1]
        if quote not in ('"', "'") or not quote:
            self.fail("expected a quoted text")
        end = self.text.find(quote, self.at + 1)
        if end < 0:
            self.fail("this quoted text never ends")
        value = self.text[self.at + 1 : end]
        self.at = end + 1
        self.space()
        return value

    def take(self, token: str) -> bool:
        if not self.text.startswith(token, self.at):
            return False
        self.at += len(token)
        self.space()
        return True

    def space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def fail(self, reason: str, position: int | None = None) -> NoReturn:
        raise SelectorError(self.at if position is None else position, reason)
