"""Rules of one table that a read shall recognise, by content.

It forgets rules that are not in the table when they have become many, so that it stays as big as the table. Knows no kernel.
The engine thread runs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from hostward.dataplane.kernel import ActualChain, ActualTable, Unknown
from hostward.dataplane.xtables.encode import Encoded, Encoder
from hostward.dataplane.xtables.layout import is_ours
from hostward.render.ruleset import Chain, Rule

_SLACK: Final = 16384


class Known:
    """Rules by content. Renderers keep unchanged rules as the same objects, so that naming them again costs a look-up by id."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._by_content: dict[bytes, Rule] = {}
        self._by_id: dict[int, Rule] = {}  # holds the rules, so that an id isn't given to another one
        self._fresh: dict[int, Encoded] = {}
        self._written: dict[str, Chain] = {}
        self.generation = 0

    def learn(self, rules: Iterable[Rule]) -> None:
        """Adds rules. Raises EncodeError."""
        for rule in rules:
            if id(rule) not in self._by_id:
                encoded = self._encoder.encode(rule)
                self._by_content[encoded.content] = rule
                self._by_id[id(rule)] = rule
                self._fresh[id(rule)] = encoded
                self.generation += 1

    def encoded(self, rules: Iterable[Rule]) -> tuple[Encoded, ...]:
        """Rules encoded, and learnt. Raises EncodeError."""
        rules = tuple(rules)
        self.learn(rules)
        return tuple(self._fresh.get(id(rule)) or self._encoder.encode(rule) for rule in rules)

    def named(self, content: bytes) -> Rule | None:
        """A rule that has this content."""
        return self._by_content.get(content)

    def chain(self, name: str, contents: list[bytes]) -> ActualChain:
        """The rules of a chain. Of several rules with the same content it is the one that was written there.

        The kernel holds "from anywhere" and no condition alike, and much more; plans compare values.
        """
        found = tuple(self._by_content.get(content) or Unknown(content, is_ours(content)) for content in contents)
        written = self._written.get(name, found)
        if written == found or len(written) != len(found):
            return found
        return tuple(map(self._prefer, written, found, contents))

    def _prefer(self, written: Rule | Unknown, found: Rule | Unknown, content: bytes) -> Rule | Unknown:
        if written == found or not isinstance(written, Rule) or self._encoder.encode(written).content != content:
            return found
        return written

    def written(self, chains: Mapping[str, Chain | None]) -> None:
        """Remembers what was written, and drops entries of rules learnt before, kept because an edit often follows."""
        self._fresh.clear()
        for name, rules in chains.items():
            if rules is None:
                self._written.pop(name, None)
            else:
                self._written[name] = rules
        self.generation += 1

    def forget_unused(self, table: ActualTable) -> None:
        """Drops rules that aren't in the table as just read, when they have become many. They can be learnt again."""
        if len(self._by_id) <= _SLACK:
            return
        present = [
            rule for chain in (*table.chains.values(), *table.builtins.values()) for rule in chain if isinstance(rule, Rule)
        ]
        if len(self._by_id) > _SLACK + 2 * (len(present) + len(self._fresh)):
            kept = [*present, *(encoded.rule for encoded in self._fresh.values())]
            self._by_content.clear()
            self._by_id.clear()
            self.learn(kept)
