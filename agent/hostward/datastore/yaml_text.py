"""Plain values to YAML text that readers of YAML 1.1 and of 1.2 take for the same values (D13). Pure; any thread."""

from __future__ import annotations

from typing import Any, Final

import yaml

from hostward.datastore.yaml12 import NUMBER

_TEXT: Final = "tag:yaml.org,2002:str"
_WORDS: Final = frozenset(("", "~", "null", "true", "false"))
_NO_WRAP: Final = 1 << 30


def to_yaml(value: Any, *, sort_keys: bool) -> str:
    """One document. Keys are sorted, as Go's writer sorts them, or stay in their own order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=sort_keys, allow_unicode=True, default_flow_style=False, width=_NO_WRAP)


class _Dumper(yaml.SafeDumper):
    """No aliases, and double quotes around every text that a reader would take for something else."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 # PyYAML's own signature
        """Equal values are written out each time."""
        return True

    def represent_text(self, text: str) -> yaml.Node:
        """A text, in double quotes, as Go's writer does, if a reader of YAML 1.1 or 1.2 could take it for something else."""
        resolved = self.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call] # the stubs leave it out
        odd = resolved != _TEXT or NUMBER.match(text) or text.lower() in _WORDS
        return self.represent_scalar(_TEXT, text, style='"' if odd else None)


_Dumper.add_representer(str, _Dumper.represent_text)
