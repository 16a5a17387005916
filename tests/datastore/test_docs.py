"""The docs' commands, run in order against a real etcd: what the docs say is what happens."""

import io
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.datastore.command_line import named, run, use
from tests.lab.etcd import Etcd

pytestmark = pytest.mark.etcd

DOCS = Path(__file__).parents[2] / "docs"
ELSEWHERE = re.compile(r"^## Make edge nodes the only entrance\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
"""What needs a controller beside the store: tests/e2e/test_edge_nodes.py runs it."""
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def etcd():
    with Etcd() as server:
        yield server


@pytest.mark.parametrize("page", ["cli.md", "recipes.md"])
def test_what_the_page_shows_is_what_happens(page, etcd, tmp_path, monkeypatch, capsys):
    use(monkeypatch, etcd)
    monkeypatch.chdir(tmp_path)
    commands = 0
    text, left_out = ELSEWHERE.subn("", (DOCS / page).read_text(encoding="utf-8"))
    assert left_out == (page == "recipes.md")
    for language, title, body in BLOCK.findall(text):
        if title:
            (tmp_path / title).write_text(body)
        elif language == "console":
            for step in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, expected = step.partition("\n")
                _compare(command, expected, _printed(command, monkeypatch, capsys))
                commands += 1
    assert commands >= 3


def _printed(command, monkeypatch, capsys):
    """What a command, or several joined by pipes, prints: stdout, then stderr, without blanks at the end of lines."""
    out = ""
    for part in command.split(" | "):
        words = shlex.split(part)
        assert words[0] == "hostward"
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(out.encode())))
        _, out, err = run(capsys, *words[1:])
    return re.sub(r" +$", "", named(out + err), flags=re.MULTILINE)


def _compare(command, expected, printed):
    head, dots, _ = expected.partition("\n...\n")
    if dots:
        assert printed.startswith(head), command
    else:
        assert printed.rstrip("\n") == expected.rstrip("\n"), command
