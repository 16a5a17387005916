"""Blocks of the documentation that tests use as an operator would."""

from __future__ import annotations

import re
from pathlib import Path


def block(page: Path, title: str) -> str:
    """The fenced block of a page with a title."""
    found = re.findall(
        rf'^```\w+ title="{re.escape(title)}"\n(.*?)^```$', page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    (text,) = map(str, found)
    return text
