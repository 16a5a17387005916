"""The part of Go's template language that `-o go-template` knows: text to a tree.

Knows no values; `template` runs the tree. Pure; any thread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from msgspec import Struct, field

_ACTION: Final = re.compile(r"\{\{(-\s)?\s*(/\*.*?\*/|(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^\"`])*?)\s*(\s-)?\}\}", re.DOTALL)
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<text>\"(?:\\.|[^\"\\])*\"|`[^`]*`)|(?P<number>-?[0-9]+(?:\.[0-9]+)?)(?![\w.])"
    r"|(?P<variable>\$\w*)|(?P<field>\.\w+)|(?P<dot>\.)|(?P<word>[A-Za-z]\w*)|(?P<sign>:=|[|(),=]))"
)
_MAX_DEPTH: Final = 50


class TemplateError(ValueError):
    """The template is wrong; the text says what and, as far as possible, where."""


class Operand(Struct, frozen=True):
    """A value: a literal, a variable (`$`, `$x`, `.` as ""), a function without arguments, or a pipeline; then its fields."""

    kind: str
    value: object
    fields: tuple[str, ...] = ()


Command = tuple[Operand, ...]
Pipeline = tuple[Command, ...]


class Block(Struct):
    """`if`, `with` or `range`: a pipeline, what to do with it, and what without."""

    word: str
    pipeline: Pipeline
    names: tuple[str, ...]
    body: list[Node] = field(default_factory=list)
    otherwise: list[Node] = field(default_factory=list)


class Show(Struct, frozen=True):
    """A pipeline whose value is printed, or kept under a name (`$x := …`)."""

    pipeline: Pipeline
    name: str = ""


Node = str | Show | Block


class _Token(NamedTuple):
    kind: str
    text: str


def parse(text: str) -> list[Node]:
    """The nodes of a template. TemplateError."""
    root: list[Node] = []
    open_blocks: list[tuple[Block, bool]] = []  # and whether its `end` closes an `else if` chain's next one, too
    into = [root]
    for part in _parts(text):
        if isinstance(part, str):
            into[-1].append(part)
            continue
        tokens = part[0]
        if not tokens:
            raise TemplateError("empty action {{}}")
        word = tokens[0].text if tokens[0].kind == "word" else ""
        if word in ("if", "with", "range"):
            if len(into) > _MAX_DEPTH:
                raise TemplateError(f"blocks are nested more than {_MAX_DEPTH} deep")
            block = _block(word, tokens[1:])
            into[-1].append(block)
            open_blocks.append((block, False))
            into.append(block.body)
        elif word == "else":
            if not open_blocks or into[-1] is open_blocks[-1][0].otherwise:
                raise TemplateError("{{else}} without an open if, with or range")
            block = open_blocks[-1][0]
            into[-1] = block.otherwise
            if len(tokens) > 1:
                inner = _block(tokens[1].text, tokens[2:])
                if inner.word == "range":
                    raise TemplateError("{{else range}} is not known")
                block.otherwise.append(inner)
                open_blocks.append((inner, True))
                into.append(inner.body)
        elif word == "end":
            if not open_blocks or len(tokens) > 1:
                raise TemplateError("unexpected {{end}}")
            chained = True
            while chained:
                _, chained = open_blocks.pop()
                into.pop()
        else:
            into[-1].append(_show(tokens))
    if open_blocks:
        raise TemplateError(f"{{{{{open_blocks[-1][0].word}}}}} has no {{{{end}}}}")
    return root


def _parts(text: str) -> Iterator[str | tuple[list[_Token]]]:
    """Texts and the tokens of actions; `{{-` and `-}}` take the blanks beside them away."""
    at, trim = 0, False
    for match in _ACTION.finditer(text):
        before = text[at : match.start()]
        before = before.lstrip() if trim else before
        yield before.rstrip() if match[1] else before
        at, trim = match.end(), bool(match[3])
        if not match[2].startswith("/*"):
            yield (_tokens(match[2]),)
    rest = text[at:]
    if "{{" in rest:
        raise TemplateError(f"{{{{ is never closed: {rest[rest.index('{{') :][:40]}")
    yield rest.lstrip() if trim else rest


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    text = text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise TemplateError(f"can't be read: {text[at:].strip()[:40]!r}")
        kind = match.lastgroup or ""
        if kind == "field" and (at == 0 or match[0][0].isspace() or found[-1].text in ("(", "|", ",", ":=", "=")):
            found.append(_Token("dot", "."))  # a field of the current value, not of what stands before
        found.append(_Token(kind, match[kind]))
        at = match.end()
    return found


def _block(word: str, tokens: list[_Token]) -> Block:
    if word not in ("if", "with", "range"):
        raise TemplateError(f"{{{{else {word}}}}} is not known")
    names: list[str] = []
    if any(token.text == ":=" for token in tokens):
        until = next(index for index, token in enumerate(tokens) if token.text == ":=")
        names = [token.text for token in tokens[:until] if token.kind == "variable"]
        if len(names) > (2 if word == "range" else 1) or not names:
            raise TemplateError(f"{{{{{word}}}}} can't set these variables")
        tokens = tokens[until + 1 :]
    return Block(word, _pipeline(tokens), tuple(names))


def _show(tokens: list[_Token]) -> Show:
    if len(tokens) > 2 and tokens[0].kind == "variable" and tokens[1].text in (":=", "="):
        return Show(_pipeline(tokens[2:]), tokens[0].text)
    return Show(_pipeline(tokens))


def _pipeline(tokens: list[_Token]) -> Pipeline:
    rest = list(reversed(tokens))
    pipeline = _commands(rest, 0)
    if rest:
        raise TemplateError(f"unexpected {rest[-1].text!r}")
    return pipeline


def _commands(rest: list[_Token], depth: int) -> Pipeline:
    if depth > _MAX_DEPTH:
        raise TemplateError(f"parentheses are nested more than {_MAX_DEPTH} deep")
    commands: list[Command] = []
    operands: list[Operand] = []
    while rest and rest[-1].text != ")":
        token = rest.pop()
        if token.text == "|" and token.kind == "sign":
            commands.append(tuple(operands))
            operands = []
        else:
            operands.append(_operand(token, rest, depth))
    commands.append(tuple(operands))
    if not all(commands):
        raise TemplateError("a value is missing")
    return tuple(commands)


def _operand(token: _Token, rest: list[_Token], depth: int) -> Operand:
    kind, value = token.kind, token.text
    found: object = value
    match kind:
        case "text":
            found = value[1:-1] if value[0] == "`" else _unquoted(value)
        case "number":
            found = float(value) if "." in value else int(value[:100])
        case "sign" if value == "(":
            found, kind = _commands(rest, depth + 1), "pipeline"
            if not rest or rest.pop().text != ")":
                raise TemplateError("a parenthesis is never closed")
        case "sign" | "field":
            raise TemplateError(f"unexpected {value!r}")
        case "word" if value in ("true", "false", "nil"):
            found, kind = {"true": True, "false": False, "nil": None}[value], "literal"
        case "dot":
            found, kind = "", "variable"
    fields = []
    while rest and rest[-1].kind == "field":
        fields.append(rest.pop().text[1:])
    return Operand(kind, found, tuple(fields))


def _unquoted(text: str) -> str:
    try:
        found = json.loads(text, strict=False)
    except ValueError as error:
        raise TemplateError(f"{text} is no text") from error
    return str(found)
