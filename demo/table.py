"""What the story prints: headings, commands, tables. Colours only on a terminal."""

from __future__ import annotations

import sys

from demo.cells import Cell

WORDS = {True: "open", False: "blocked"}
COLOURS = {"open": "32", "blocked": "33", "wrong": "1;97;41", "dim": "2", "bold": "1"}
WIDTH = 84

Row = tuple[str, str]
"""A cell's results of both families: "ok", a reason, or "" where nothing was tried."""


def paint(text: str, colour: str) -> str:
    """The text in a colour, if anybody sees colours."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if sys.stdout.isatty() else text


def heading(text: str) -> None:
    """Begins a step."""
    print(f"\n{paint(text, 'bold')}\n{'=' * min(len(text), WIDTH)}")


def say(text: str) -> None:
    """A line of the story."""
    print(text, flush=True)


def command(text: str) -> None:
    """A command that is about to be run."""
    print(paint(f"  $ {text}", "dim"), flush=True)


def output(text: str) -> None:
    """What a command printed."""
    for line in text.strip().splitlines():
        print(paint(f"    {line.rstrip()}", "dim"))
    sys.stdout.flush()


def right(cell: Cell, step: int, result: str) -> bool:
    """Whether a result is what it should be: through, or nothing heard. A refused port is neither: packets reached the host."""
    return result == "ok" if cell.expected(step) else result in ("timeout", "denied", "unreachable")


def show(rows: list[tuple[Cell, Row]], step: int, before: dict[Cell, Row]) -> None:
    """The table of one step; `before` is the last one, to mark what changed."""
    say(f"\n  {'from':<9} {'to':<37} {'IPv4':<16} {'IPv6':<16}")
    say(f"  {'-' * 9} {'-' * 37} {'-' * 16} {'-' * 16}")
    for cell, row in rows:
        shown = (shown_cell(cell, step, row[family], before.get(cell, ("", ""))[family]) for family in (0, 1))
        say(f"  {cell.source:<9} {cell.target:<37} {' '.join(shown)}")


def shown_cell(cell: Cell, step: int, result: str, before: str) -> str:
    """One result, 16 columns wide."""
    if not result:
        return f"{'-':<16}"
    if not right(cell, step, result):
        return paint(f"{'WRONG: ' + result[:9]:<16}", "wrong")
    word = WORDS[result == "ok"]
    changed = " *" if before and (before == "ok") != (result == "ok") else ""
    return paint(f"{word + changed:<16}", word)
