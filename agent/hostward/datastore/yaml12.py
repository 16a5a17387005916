"""YAML and JSON text to plain values, with the line of every field and the number rules of YAML 1.2 (D13).

`53:54`, `0112`, `on` and `2020-01-01` stay the text that the author wrote. Values are built from the parser's events on a
stack of our own, so that neither depth nor aliases can exhaust the process. Knows nothing of resources; any thread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, NoReturn

import yaml

DEPTH_LIMIT: Final = 64
ALIAS_LIMIT: Final = 10_000  # nodes that aliases may add to one file
_PARSER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS: Final = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DECIMAL: Final = r"[-+]?(?:0|[1-9][0-9]{0,999})"  # longer ones stay text: converting them takes quadratic time
_INTEGER: Final = re.compile(rf"{_DECIMAL}|0o[0-7]{{1,99}}|0x[0-9a-fA-F]{{1,99}}")
_FLOAT: Final = re.compile(rf"(?:{_DECIMAL}(?:\.[0-9]*)?|[-+]?\.[0-9]+)(?:[eE][-+]?[0-9]{{1,3}})?")
NUMBER: Final = re.compile(rf"^(?:{_INTEGER.pattern}|{_FLOAT.pattern})$")
"""What reads as a number; writers must quote texts that match."""
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_LAST_STEP: Final = re.compile(r"(?:\.?[^.\[\]]*|\[\d+\])$")
_TAG: Final = "tag:yaml.org,2002:"
_HINTS: Final = (
    ("mapping values are not allowed", ": is the line indented too far, or does a text that holds ': ' need quotes?"),
    ("did not find expected key", ": is a line indented otherwise than its neighbours, or a quote not closed?"),
    ("did not find expected ',' or", ": is a bracket or brace not closed?"),
    ("did not find expected node content", ": is a bracket or brace not closed?"),
    ("cannot start any token", ": a text that begins with one of @ ` % needs quotes"),
    ("could not find expected ':'", ": is the ':' after a key missing, or a quote not closed?"),
    ("did not find expected '-' indicator", ": is a line indented otherwise than its neighbours?"),
)
"""What is behind the parser's most frequent complaints."""


class DocumentError(Exception):
    """Text that is no document. `file`, `line` (from 1) and `reason`; str() is `file:line: reason`."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}:{line}: {reason}")
        self.file, self.line, self.reason = file, line, reason


@dataclass(frozen=True, slots=True)
class Source:
    """Where an object stood: the file, the number of the YAML document in it (from 1), the lines of its fields (from 1)."""

    file: str
    number: int
    prefix: str = ""
    lines: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)

    def line(self, path: str = "") -> int:
        """The line of a field such as `spec.ingress[0].destination.ports[1]`; of the nearest field around it if it's absent."""
        whole = join(self.prefix, path)
        while whole and whole not in self.lines:
            shorter = _LAST_STEP.sub("", whole, count=1)
            # A key may hold the very characters that part steps from each other.
            whole = shorter if len(shorter) < len(whole) else whole[:-1]
        return self.lines.get(whole, 1)

    def where(self, path: str = "") -> str:
        """`file:line` of a field."""
        return f"{self.file}:{self.line(path)}"


class _SyntaxError(DocumentError):
    """The YAML parser gave up; the text may still be JSON."""


class RawDocument(NamedTuple):
    """One YAML document of a text as written. It fills the lines from index `begin` to before `end` (from 0)."""

    value: Any
    source: Source
    begin: int
    end: int


def join(prefix: str, path: str) -> str:
    """The path of a field `path` inside the field `prefix`."""
    if not prefix or not path:
        return prefix or path
    return f"{prefix}{path}" if path.startswith("[") else f"{prefix}.{path}"


def read(text: str | bytes, file: str) -> list[RawDocument]:
    """The documents of a YAML or JSON text; `file` is for messages. DocumentError names the line."""
    decoded = _decode(text, file)
    if decoded.lstrip()[:1] in ("{", "["):
        found = _json(decoded, file)
        if found is not None:
            return [found]
    return list(_Builder(decoded, file).documents())


def scalar(text: str) -> str | int | float | bool | None:
    """The value of an unquoted scalar. `.inf` and `.nan`, which JSON can't hold, and numbers out of range stay text."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        value = float(text)
        return text if value in (float("inf"), float("-inf")) else value
    return text


def _decode(text: str | bytes, file: str) -> str:
    if isinstance(text, bytes):
        raw = text
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise DocumentError(file, line, f"byte 0x{raw[error.start]:02x} is not UTF-8") from None
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if bad := _CONTROL.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        raise DocumentError(file, line, f"character U+{ord(bad[0]):04X} is not allowed in a document")
    return text


def _json(text: str, file: str) -> RawDocument | None:
    """A text that is JSON and nothing else; None for what may still be YAML. JSON has escapes that YAML's parser refuses."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            names = [name for name, _ in items]
            twice = next(name for name in names if names.count(name) > 1)
            raise DocumentError(file, 1, f'key "{twice}" appears twice in one object')
        return found

    def constant(word: str) -> NoReturn:
        raise DocumentError(file, 1, f"{word} is not a number that JSON knows")

    lines: dict[str, int] = {}
    try:
        # YAML's parser knows lines, depth and duplicates; what only JSON can say (surrogate escapes, tabs) is left to json.
        lines.update(next(_Builder(text, file).documents()).source.lines)
    except _SyntaxError:
        lines.clear()
    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_int=scalar, parse_float=scalar)
    except json.JSONDecodeError as error:
        if file.endswith(".json"):
            raise DocumentError(file, error.lineno, f"not JSON: {error.msg}") from None
        return None
    except RecursionError:
        raise DocumentError(file, 1, f"nested more than {DEPTH_LIMIT} levels deep") from None
    if _depth(value) > DEPTH_LIMIT:
        raise DocumentError(file, 1, f"nested more than {DEPTH_LIMIT} levels deep")
    if not _is_text(value):
        raise DocumentError(file, 1, "\\ud800 to \\udfff mean a character only in pairs")
    return RawDocument(value, Source(file, 1, "", lines), 0, text.count("\n") + 1)


def _words(error: yaml.MarkedYAMLError, text: str) -> str:
    """The parser's words, and what the author most likely has to mend where they don't say it."""
    mark = error.problem_mark
    lines = text.split("\n")
    if mark is not None and mark.line < len(lines) and lines[mark.line][mark.column : mark.column + 1] == "\t":
        return "YAML takes no tab here: indent with spaces"
    words = " ".join(filter(None, (error.context, error.problem)))
    hint = next((hint for needle, hint in _HINTS if needle in words), "")
    return f"{words}{hint}"


def _index(mark: Any) -> int:
    index: int = mark.line  # the stubs allow events without marks; a parser's events have them
    return index


def _is_text(value: Any) -> bool:
    """Whether all texts in a value are characters, and not halves of some."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


class _Open:
    """A mapping or sequence that is being filled."""

    __slots__ = ("anchor", "key", "key_line", "node", "path")

    def __init__(self, node: dict[str, Any] | list[Any], path: str, anchor: str | None) -> None:
        self.node, self.path, self.anchor = node, path, anchor
        self.key: str | None = None
        self.key_line = 0


class _Builder:
    """Parser events to values."""

    def __init__(self, text: str, file: str) -> None:
        self._text, self._file, self._number = text, file, 0
        self._lines: dict[str, int] = {}
        self._anchors: dict[str, Any] = {}
        self._stack: list[_Open] = []
        self._aliased = 0
        self._root: Any = None

    def _fail(self, line: int, reason: str) -> NoReturn:
        raise DocumentError(self._file, line, reason)

    def documents(self) -> Iterator[RawDocument]:
        """Every document of the text, in order."""
        begin = 0
        try:
            for event in yaml.parse(self._text, Loader=_PARSER):
                if isinstance(event, yaml.DocumentStartEvent):
                    self._number += 1
                    self._lines, self._anchors, self._root = {}, {}, None
                    if self._number > 1:
                        begin = _index(event.start_mark)
                elif isinstance(event, yaml.DocumentEndEvent):
                    end = _index(event.end_mark if event.explicit else event.start_mark)
                    yield RawDocument(self._root, Source(self._file, self._number, "", self._lines), begin, end)
                elif isinstance(event, yaml.CollectionEndEvent):
                    closed = self._stack.pop()
                    if closed.anchor:
                        self._anchors[closed.anchor] = closed.node
                elif isinstance(event, yaml.NodeEvent):
                    self._node(event)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            reason = _words(error, self._text)
            last = len(self._text.splitlines()) or 1  # the end of the text is no line of its own
            raise _SyntaxError(self._file, min(mark.line + 1, last) if mark else 1, reason) from None
        except yaml.YAMLError as error:
            raise _SyntaxError(self._file, 1, str(error)) from None

    def _node(self, event: Any) -> None:
        line = event.start_mark.line + 1
        parent = self._stack[-1] if self._stack else None
        if parent is not None and isinstance(parent.node, dict) and parent.key is None:
            parent.key, parent.key_line = self._key(event, parent, line), line
            return
        path = "" if parent is None else self._child(parent)
        # A key's line counts, not its value's: `ports:` with a list below is where the author looks.
        self._lines[path] = parent.key_line if parent is not None and isinstance(parent.node, dict) else line
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                self._fail(line, f"alias *{event.anchor} refers to nothing that is complete before it")
            self._place(parent, self._copy(self._anchors[event.anchor], line, len(self._stack)))
        elif isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, line)
            if event.anchor:
                self._anchors[event.anchor] = value
            self._place(parent, value)
        else:
            node: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._check_tag(event.tag, "map" if isinstance(node, dict) else "seq", line)
            self._place(parent, node)
            if len(self._stack) >= DEPTH_LIMIT:
                self._fail(line, f"nested more than {DEPTH_LIMIT} levels deep")
            self._stack.append(_Open(node, path, event.anchor))

    def _check_tag(self, tag: str | None, expected: str, line: int) -> None:
        if tag not in (None, "!", _TAG + expected):
            self._fail(line, f"tag {tag} is not supported here")

    def _key(self, event: Any, parent: _Open, line: int) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self._fail(line, "a key must be a plain text")
        key: str = event.value
        if key == "<<" and event.implicit[0]:
            self._fail(line, "merge keys (<<) are not supported; write the fields out")
        if key in parent.node:
            first = self._lines.get(join(parent.path, key), line)
            self._fail(line, f'key "{key}" appears twice; first in line {first}')
        return key

    @staticmethod
    def _child(parent: _Open) -> str:
        if isinstance(parent.node, list):
            return f"{parent.path}[{len(parent.node)}]"
        return join(parent.path, parent.key or "")

    def _scalar(self, event: Any, line: int) -> str | int | float | bool | None:
        if event.implicit[0] and event.tag in (None, "!"):
            return scalar(event.value)
        if event.tag not in (None, "!", _TAG + "str"):
            value = scalar(event.value)
            kinds = {bool: "bool", int: "int", float: "float", type(None): "null"}
            self._check_tag(event.tag, kinds.get(type(value), "str"), line)
            return value
        text: str = event.value
        return text

    def _place(self, parent: _Open | None, value: Any) -> None:
        if parent is None:
            self._root = value
        elif isinstance(parent.node, list):
            parent.node.append(value)
        elif parent.key is not None:
            parent.node[parent.key], parent.key = value, None

    def _copy(self, value: Any, line: int, depth: int) -> Any:
        """Every alias gets a value of its own, so that nobody changes two fields by changing one."""
        self._aliased += 1
        if self._aliased > ALIAS_LIMIT:
            self._fail(line, f"aliases stand for more than {ALIAS_LIMIT} values")
        if depth > DEPTH_LIMIT:
            self._fail(line, f"nested more than {DEPTH_LIMIT} levels deep")
        if isinstance(value, dict):
            return {key: self._copy(one, line, depth + 1) for key, one in value.items()}
        if isinstance(value, list):
            return [self._copy(one, line, depth + 1) for one in value]
        return value
