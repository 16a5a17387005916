"""docs/operate.md has every event that the agent logs, and none that it doesn't."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "agent/hostward"
LEVELS = {"info": "info", "warning": "warning", "error": "error", "exception": "error"}
NOT_THE_AGENT = ("controller/", "kube/")


def texts(node: ast.expr) -> Iterator[str]:
    """What an event's expression may be, as regular expressions."""
    match node:
        case ast.Constant(value=str() as text):
            yield re.sub(r"%\S*?[sdf]", ".+", re.escape(text).replace("\\%", "%").replace("\\.", "."))
        case ast.JoinedStr(values=parts):
            yield "".join(".+" if isinstance(part, ast.FormattedValue) else re.escape(part.value) for part in parts)
        case ast.IfExp(body=body, orelse=other):
            yield from texts(body)
            yield from texts(other)


def logged() -> dict[str, tuple[str, str]]:
    """Regular expressions of events, with where they are and how severe."""
    found: dict[str, tuple[str, str]] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        place = str(file.relative_to(SOURCE))
        if place.startswith(NOT_THE_AGENT):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=logger, attr=level), args=[event, *_]) if level in LEVELS:
                    if "log" in ast.unparse(logger).lower():
                        found |= dict.fromkeys(texts(event), (f"{place}:{node.lineno}", LEVELS[level]))
                case ast.Call(func=ast.Name(id="tell"), args=[event, *_]):  # info or warning
                    found |= dict.fromkeys(texts(event), (f"{place}:{node.lineno}", "warning"))
    return found


def documented() -> dict[str, str]:
    """Events and their levels."""
    rows = re.findall(r"^\| (`.+?) \| ([a-z, ]+) \| ", (ROOT / "docs/operate.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {event: levels for row, levels in rows for event in re.findall(r"`([^`]+)`", row)}


def test_the_page_has_every_event_and_no_other() -> None:
    events, page = logged(), documented()
    assert len(events) > 40
    found = {event: [levels for text, levels in page.items() if re.fullmatch(event, text)] for event in events}
    assert not {events[event]: event for event, rows in found.items() if not rows}, "add to docs/operate.md what these mean"
    wrong = {events[event]: rows for event, rows in found.items() if events[event][1] not in " ".join(rows)}
    assert not wrong, "they are of another level"
    stale = {text for text in page if not any(re.fullmatch(event, text) for event in events)}
    assert not stale, "nothing logs these"
