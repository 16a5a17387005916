"""Runs a template of `-o go-template` on documents: values, functions, and how they are printed, as Go's text/template does.

Fields are found by their name in documents, or, as calicoctl's templates call them, by their name in Calico's Go code
(`.ObjectMeta.Name`, `.Spec.InterfaceName`). Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from hostward.cli.tables import go_float
from hostward.cli.template_syntax import Block, Command, Node, Operand, Pipeline, Show, TemplateError, parse

__all__ = ["TemplateError", "parse", "run"]

_MOST_OUTPUT: Final = 100_000_000  # characters
_EMBEDDED: Final = {"objectmeta": "metadata", "listmeta": "metadata"}
_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "lt": lambda one, other: bool(one < other),
    "le": lambda one, other: bool(one <= other),
    "gt": lambda one, other: bool(one > other),
    "ge": lambda one, other: bool(one >= other),
}


def run(nodes: Sequence[Node], values: Sequence[object]) -> str:
    """The text that a parsed template makes of a list of documents or lists of them. TemplateError."""
    running = _Running()
    running.nodes(nodes, list(values), {"$": list(values)})
    return "".join(running.out)


class _Running:
    """One run: the text so far."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.length = 0

    def nodes(self, nodes: Sequence[Node], dot: object, names: dict[str, object]) -> None:
        for node in nodes:
            match node:
                case str():
                    self.put(node)
                case Show(pipeline, name):
                    value = _value(pipeline, dot, names)
                    if name:
                        names[name] = value
                    else:
                        self.put(_text(value))
                case Block():
                    self.block(node, dot, names)

    def put(self, text: str) -> None:
        self.length += len(text)
        if self.length > _MOST_OUTPUT:
            raise TemplateError("the template makes too much text")
        self.out.append(text)

    def block(self, block: Block, dot: object, names: dict[str, object]) -> None:
        value = _value(block.pipeline, dot, names)
        if block.word == "range":
            items = _items(value)
            for key, item in items:
                self.nodes(block.body, item, names | dict(zip(block.names, (key, item)[-len(block.names) :], strict=False)))
            if not items:
                self.nodes(block.otherwise, dot, dict(names))
        elif _is_true(value):
            inner = value if block.word == "with" else dot
            self.nodes(block.body, inner, names | dict.fromkeys(block.names, value))
        else:
            self.nodes(block.otherwise, dot, dict(names))


def _items(value: object) -> list[tuple[object, object]]:
    match value:
        case dict():
            return sorted(value.items())
        case list():
            return list(enumerate(value))
        case None:
            return []
        case _:
            raise TemplateError(f"range can't go over {_text(value)[:40]!r}")


def _value(pipeline: Pipeline, dot: object, names: Mapping[str, object]) -> object:
    value: object = None
    for number, command in enumerate(pipeline):
        value = _call(command, dot, names, [value] if number else [])
    return value


def _call(command: Command, dot: object, names: Mapping[str, object], last: list[object]) -> object:
    first = command[0]
    if first.kind != "word":
        if len(command) > 1 or last:
            raise TemplateError(f"{first.value or '.'} is no function, so it takes no arguments")
        return _operand(first, dot, names)
    arguments = [_operand(one, dot, names) for one in command[1:]] + last
    function = _FUNCTIONS.get(str(first.value))
    if function is None:
        raise TemplateError(f"function {first.value!r} is not known; known are {', '.join(sorted(_FUNCTIONS))}")
    try:
        return _field_of(function(*arguments), first.fields)
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise TemplateError(f"{first.value}: {error}") from error


def _operand(operand: Operand, dot: object, names: Mapping[str, object]) -> object:
    match operand.kind:
        case "variable" if operand.value == "":
            value = dot
        case "variable":
            if operand.value not in names:
                raise TemplateError(f"variable {operand.value} is not set")
            value = names[str(operand.value)]
        case "pipeline":
            value = _value(operand.value, dot, names)  # type: ignore[arg-type] # the parser puts a pipeline here
        case "word":
            return _call((operand,), dot, names, [])
        case _:
            value = operand.value
    return _field_of(value, operand.fields)


def _field_of(value: object, fields: Iterable[str]) -> object:
    for name in fields:
        if value is None:
            return None
        if not isinstance(value, dict):
            raise TemplateError(f"can't take field {name} of {_text(value)[:40]!r}")
        if name in value:
            value = value[name]
            continue
        folded = name.lower()
        if folded == "typemeta":
            continue
        wanted = _EMBEDDED.get(folded, folded)
        value = next((item for key, item in value.items() if str(key).lower() == wanted), None)
    return value


def _is_true(value: object) -> bool:
    return bool(value)


def _text(value: object) -> str:
    match value:
        case None:
            return "<no value>"
        case bool():
            return "true" if value else "false"
        case float():
            return go_float(value)
        case list():
            return f"[{' '.join(map(_text, value))}]"
        case dict():
            return f"map[{' '.join(f'{key}:{_text(value[key])}' for key in sorted(value))}]"
        case _:
            return str(value)


def _join(items: object, separator: object = ",") -> str:
    return str(separator).join(_text(one) for one in (items if isinstance(items, list) else [] if items is None else [items]))


def _join_and_truncate(items: object, separator: object, most: object) -> str:
    whole, limit = _join(items, separator), int(str(most))
    return whole if len(whole) <= limit else f"{whole[:limit]}..."


def _index(value: Any, *keys: object) -> object:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and not isinstance(key, bool) and 0 <= key < len(value):
            value = value[key]
        elif value is not None:
            raise ValueError(f"there is nothing at {_text(key)}")
    return value


def _printf(form: object, *values: object) -> str:
    texts = tuple(value if isinstance(value, int | float) and not isinstance(value, bool) else _text(value) for value in values)
    pieces = str(form).replace("%v", "%s").replace("%q", '"%s"')
    for width in _widths(pieces):
        if width > 10_000:
            raise ValueError(f"a width of {width} is too much")
    return pieces % texts


def _widths(form: str) -> Iterable[int]:
    number = ""
    for char in form:
        if char.isdigit():
            number += char
        elif number:
            yield int(number[:9])
            number = ""


def _size(value: object) -> int:
    if not isinstance(value, str | list | dict):
        raise TypeError(f"{_text(value)[:40]} has no length")
    return len(value)


def _compare(word: str) -> Callable[[object, object], bool]:
    def compare(one: object, other: object) -> bool:
        return _ORDERS[word](one, other)

    return compare


def _and(*values: object) -> object:
    return next((value for value in values if not _is_true(value)), values[-1])


def _or(*values: object) -> object:
    return next((value for value in values if _is_true(value)), values[-1])


_FUNCTIONS: Final[dict[str, Callable[..., object]]] = {
    "and": _and,
    "eq": lambda one, *others: any(one == other for other in others),
    "index": _index,
    "join": _join,
    "joinAndTruncate": _join_and_truncate,
    "len": _size,
    "ne": lambda one, other: one != other,
    "not": lambda value: not _is_true(value),
    "or": _or,
    "print": lambda *values: "".join(map(_text, values)),
    "printf": _printf,
    "println": lambda *values: f"{' '.join(map(_text, values))}\n",
    **{word: _compare(word) for word in _ORDERS},
}
