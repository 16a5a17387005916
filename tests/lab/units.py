"""systemd units as they are in this checkout: sections, settings, and a copy whose programs exist on this machine."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "systemd"
PROGRAM = "/opt/hostward/bin/hostward"


class Unit:
    """One unit file. A setting that is repeated has several values."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (FOLDER / name).read_text(encoding="utf-8")
        self._settings: dict[tuple[str, str], list[str]] = {}
        section = ""
        for line in self.text.splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            elif line and not line.startswith("#"):
                name, _, value = line.partition("=")
                self._settings.setdefault((section, name), []).append(value)

    def all(self, section: str, name: str) -> list[str]:
        """A setting's values in order; none where it isn't set."""
        return self._settings.get((section, name), [])

    def names(self, section: str) -> list[str]:
        """The settings of a section, each once."""
        return [name for of, name in self._settings if of == section]

    def one(self, section: str, name: str) -> str:
        """The value of a setting that is there once."""
        (value,) = self.all(section, name)
        return value

    def words(self, section: str, name: str) -> set[str]:
        """All words of a setting's values."""
        return {word for value in self.all(section, name) for word in value.split()}

    def copied(self, folder: Path, program: str) -> Path:
        """A copy that names another program in place of ours, which isn't installed here."""
        copy = folder / self.name
        copy.write_text(re.sub(rf"{re.escape(PROGRAM)}\b", program, self.text), encoding="utf-8")
        return copy
