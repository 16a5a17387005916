"""docs/statements.md has a line for each statement that is cited by number anywhere, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/statements.md"
CITING = ("agent", "docs", "tests", "benchmarks", "demo")
SUFFIXES = {".py", ".pyi", ".md", ".sh", ".c"}
LINE = re.compile(r"^- \*\*([^*]+)\*\*: \S", re.MULTILINE)
SOURCES = "enforcement|kubernetes|libraries|observability|performance"
CITATION = re.compile(
    rf"""(?<![\w./-])(?:
        (?P<letter>[ACHILMRSV])-(?P<number>\d+)(?:\.\.(?P=letter)-(?P<last>\d+))?(?![\w-])
      | (?P<part>[A-D]\.\d+)(?!\w)
      | D(?P<decision>\d+)(?:\.\.D(?P<last_decision>\d+))?(?!\w)
      | (?P<source>{SOURCES})\ (?P<sections>\d(?:\.\d)?(?:(?:,\ |\ and\ |-)\d(?:\.\d)?)*)(?![\w%]|\.\d)
    )""",
    re.VERBOSE,
)
SCENARIO = re.compile(r"reliability\.md`? ([A-Z]\d+)")
ELSEWHERE = re.compile(
    r"\b(?:enforcement|datamodel-and-cli|libraries|observability|design)\.md|\b(?:kubernetes|performance|reliability)\.md`? \d"
)


def on_the_page() -> list[str]:
    return LINE.findall(PAGE.read_text(encoding="utf-8"))


def texts() -> Iterator[tuple[str, str]]:
    """What may cite, by its name: with lines joined, as a citation may go over the end of one."""
    for folder in CITING:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file() and path not in (PAGE, Path(__file__)):
                yield str(path.relative_to(ROOT)), re.sub(r"\s*\n\s*(?:#:? )?", " ", path.read_text(encoding="utf-8"))


def sections(text: str) -> Iterator[str]:
    """`1.1, 1.3-1.5 and 4` to each of them."""
    for item in re.split(", | and ", text):
        first, _, last = item.partition("-")
        chapter, point, number = first.rpartition(".")
        for one in range(int(number), int((last or first).rpartition(".")[2]) + 1):
            yield f"{chapter}{point}{one}"


def cited(text: str) -> Iterator[tuple[str, bool]]:
    """Each number that a text cites, and whether it must be on the page: within a range numbers may be missing."""
    for found in CITATION.finditer(text):
        if found["source"]:
            yield from ((f"{found['source']} {one}", True) for one in sections(found["sections"]))
        elif found["part"]:
            yield found["part"], True
        else:
            prefix, first = (f"{found['letter']}-", found["number"]) if found["letter"] else ("D", found["decision"])
            ends = int(first), int(found["last"] or found["last_decision"] or first)
            yield from ((f"{prefix}{one}", one in ends) for one in range(ends[0], ends[1] + 1))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("(`statements.md` H-46, M-33..M-35; D3, D14)", ["H-46", "M-33", "M-34", "M-35", "D3", "D14"]),
        ("H-46.1, M-29 b: as D4..D6 say", ["H-46", "M-29", "D4", "D5", "D6"]),
        ("A.10 Rule, A.9; B.4's vectors", ["A.10", "A.9", "B.4"]),
        (
            "enforcement 1.3-1.5 and 4.7, 4.8; D4",
            [*(f"enforcement {one}" for one in ("1.3", "1.4", "1.5", "4.7", "4.8")), "D4"],
        ),
        ("(enforcement 1-3).", ["enforcement 1", "enforcement 2", "enforcement 3"]),
        ("curve P-256, SHA-1, wH-1, 10.H-2, R1, HD4, D4x, H-4x, performance 50 %, libraries 5.3.1", []),
    ],
)
def test_what_is_a_citation(text: str, numbers: list[str]) -> None:
    assert [number for number, _ in cited(text)] == numbers


def test_each_number_has_one_line() -> None:
    found = on_the_page()
    assert len(found) > 200
    assert len(found) == len(set(found))
    assert all(CITATION.fullmatch(number) for number in found)


def test_the_page_leads_to_pages_that_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / target).is_file(), target


def test_what_is_cited_is_on_the_page() -> None:
    page = set(on_the_page())
    missing = {f"{name}: {number}" for name, text in texts() for number, must in cited(text) if must and number not in page}
    assert not missing


def test_what_is_on_the_page_is_cited() -> None:
    assert set(on_the_page()) <= {number for _, text in texts() for number, _ in cited(text)}


def test_nothing_is_cited_that_no_reader_has() -> None:
    """Scenarios are those of the catalogue, of which docs/reliability.md is made; section numbers are of no page of docs."""
    known = {scenario.id for scenario in CATALOGUE}
    for name, text in texts():
        assert set(SCENARIO.findall(text)) <= known, name
        assert not ELSEWHERE.search(text), name
