"""Rules of one table that a read shall recognise, by content.

It forgets rules when the chain that they were written to is written anew, and others that are not in the table when they have
become many, so that it stays as big as the table. Knows no kernel.
The engine thread runs it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final

from hostward.dataplane.kernel import ActualChain, ActualTable, Unknown
from hostward.dataplane.xtables.encode import Encoded, Encoder
from hostward.dataplane.xtables.layout import MARK_MATCH, MARK_TARGET, is_ours, jump_of, marks_in, prefix_of
from hostward.render.ruleset import Chain, Mark, Rule, SetMark

_SLACK: Final = 2048


class Known:
    """Rules by content. Renderers keep unchanged rules as the same objects, so that naming them again costs a look-up by id."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._by_digest: dict[bytes, Rule] = {}
        self._by_id: dict[int, Encoded] = {}  # holds the rules, so that an id isn't given to another one
        self._ids: dict[bytes, tuple[int, ...]] = {}
        self._unsorted: dict[int, Encoded] = {}  # by id, not by digest yet: where nothing of ours is read, nobody asks
        self._fresh: set[int] = set()  # learnt since something was written: an edit with them often follows
        self._written: dict[str, Chain] = {}
        self._uses: Counter[int] = Counter()  # by id, in `_written`
        self.generation = 0

    def learn(self, rules: Iterable[Rule]) -> None:
        """Adds rules. Raises EncodeError."""
        for rule in rules:
            if id(rule) not in self._by_id:
                self._by_id[id(rule)] = self._unsorted[id(rule)] = self._encoder.encode(rule)
                self._fresh.add(id(rule))
                self.generation += 1

    def encoded(self, rules: Iterable[Rule]) -> tuple[Encoded, ...]:
        """Rules encoded, and learnt. Raises EncodeError."""
        rules = tuple(rules)
        self.learn(rules)
        return tuple(self._by_id[id(rule)] for rule in rules)

    def named(self, content: bytes) -> Rule | None:
        """A rule that has this content."""
        for at, encoded in self._unsorted.items():
            digest = _digest(encoded.content)
            self._by_digest[digest] = encoded.rule
            self._ids[digest] = (*self._ids.get(digest, ()), at)
        self._unsorted.clear()
        return self._by_digest.get(_digest(content))

    def unknown(self, content: bytes) -> Unknown:
        """A rule that isn't known, with what can be told of it all the same."""
        marks = tuple(Mark(*mark) for mark in marks_in(content, MARK_MATCH))
        gives = next((SetMark(value, mask) for value, mask, _ in marks_in(content, MARK_TARGET)), None)
        if not is_ours(content):
            return Unknown(content, marks=marks, gives=gives)
        return Unknown(content, True, jump_of(content), prefix_of(self._encoder.layout, content), marks, gives)

    def chain(self, name: str, contents: list[bytes]) -> ActualChain:
        """The rules of a chain. Of several rules with the same content it is the one that was written there.

        The kernel holds "from anywhere" and no condition alike, and much more; plans compare values.
        """
        found = tuple(self.named(content) or self.unknown(content) for content in contents)
        written = self._written.get(name, found)
        if written == found or len(written) != len(found):
            return found
        return tuple(map(self._prefer, written, found, contents))

    def _prefer(self, written: Rule | Unknown, found: Rule | Unknown, content: bytes) -> Rule | Unknown:
        if written == found or not isinstance(written, Rule) or self._encoder.encode(written).content != content:
            return found
        return written

    def written(self, chains: Mapping[str, Chain | None]) -> None:
        """Remembers what was written, and drops what nothing written holds any more."""
        self._fresh.clear()
        old = [rule for name in chains for rule in self._written.pop(name, ())]
        for name, rules in chains.items():
            if rules is not None:
                self._written[name] = rules
                self._uses.update(map(id, rules))
        self._uses.subtract(map(id, old))
        for rule in old:
            if id(rule) in self._by_id and self._uses[id(rule)] <= 0:
                self._forget(rule)
        self.generation += 1

    def placed(self, chains: Mapping[str, Chain]) -> None:
        """Takes what stands in chains that others wrote: an earlier process of ours."""
        for name, rules in chains.items():
            if name not in self._written:
                self._written[name] = rules
                self._uses.update(map(id, rules))

    def standing(self, names: Iterable[str]) -> dict[str, Chain]:
        """The rules that stand in chains, of those of which it is known."""
        return {name: self._written[name] for name in names if name in self._written}

    def meaning(self, chain: str, position: int, content: bytes) -> str:
        """What the packet counter of a rule means, by where the rule stands if that is known, else by its content."""
        rules = self._written.get(chain, ())
        rule = rules[position] if position < len(rules) else None
        if rule is None or self._encoder.encode(rule).content != content:
            rule = self.named(content)
        return rule.counter if rule is not None else ""

    def _forget(self, rule: Rule) -> None:
        encoded = self._by_id.pop(id(rule))
        self._uses.pop(id(rule), None)
        if self._unsorted.pop(id(rule), None) is not None:
            return
        digest = _digest(encoded.content)
        others = tuple(one for one in self._ids[digest] if one != id(rule))
        if not others:
            del self._ids[digest], self._by_digest[digest]
            return
        self._ids[digest] = others
        if self._by_digest[digest] is rule:
            self._by_digest[digest] = self._by_id[others[0]].rule

    def forget_unused(self, table: ActualTable) -> None:
        """Drops rules that aren't in the table as just read, when they have become many. They can be learnt again."""
        if len(self._by_id) <= _SLACK:
            return
        present = [
            rule for chain in (*table.chains.values(), *table.builtins.values()) for rule in chain if isinstance(rule, Rule)
        ]
        if len(self._by_id) > _SLACK + len(present) + len(self._fresh):
            kept = {*map(id, present), *self._fresh, *self._uses}
            for rule in [encoded.rule for at, encoded in self._by_id.items() if at not in kept]:
                self._forget(rule)


def _digest(content: bytes) -> bytes:
    """Stands for a content, in a tenth of the room."""
    return blake2b(content, digest_size=16).digest()
