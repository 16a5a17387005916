"""A ruleset as a file that can be put into an empty kernel without knowing what it means: sets, and a script for each table.

Lines, so that people can read it, and versions of Hostward that name or make rules otherwise can still use it:

    hostward rules 1
    revision 1234 of 2026-01-31T12:00:00+00:00
    family 4
    set hw4-s-… hash:net 1048576 2
    10.0.0.0/8
    192.0.2.1
    table filter 3
    *filter
    …
    COMMIT
    end sha256 …

It is FILE in `stateDir`. The last line holds a checksum of all before it: a file that was cut off or damaged is as good as
none. Pure; any thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Final, TypeVar, cast, get_args

from msgspec import Struct, field

from hostward.dataplane.xtables.restore import rule_line
from hostward.model.resolved import ANY_INTERFACE
from hostward.render import names
from hostward.render.ruleset import (
    FAMILIES,
    TABLES,
    Chain,
    Family,
    IPSet,
    Ruleset,
    SetType,
    Table,
    TableId,
    TableName,
    is_own_chain,
    is_own_set,
)

FILE: Final = "rules.saved"
HEAD: Final = "hostward rules 1"
_END: Final = "end sha256 "
_RULES_A_PIECE: Final = 200
_MEMBERS_A_PIECE: Final = 2000
_SET_TYPES: Final[tuple[SetType, ...]] = get_args(SetType)
_ENTRANCE: Final = re.compile(rf"^-A (?:hw-INPUT|{names.FROM_ENDPOINT}\S*)(?: -i (\S+))? -[gj] hw-fh-\S+$", re.MULTILINE)
T = TypeVar("T")


class SavedRulesError(Exception):
    """The file isn't whole, or isn't one that this version can read; the text is for the operator."""


class SavedFamily(Struct, frozen=True):
    """What is there of one IP version: sets by name, and what iptables-restore takes, by table."""

    sets: Mapping[str, IPSet] = field(default_factory=dict)
    scripts: Mapping[TableName, str] = field(default_factory=dict)

    def interfaces(self) -> tuple[str, ...]:
        """The host's interfaces that these rules guard, * for all others. Of rules of other versions perhaps not all."""
        found = (match[1] or ANY_INTERFACE for match in _ENTRANCE.finditer(self.scripts.get("filter", "")))
        return tuple(dict.fromkeys(found))


class SavedRules(Struct, frozen=True):
    """The content of a file. `origin` says for people what it is the state of."""

    origin: str
    families: Mapping[Family, SavedFamily]


# --- writing -----------------------------------------------------------------------------------------------------------
def pieces(ruleset: Ruleset, origin: str) -> Iterator[bytes]:
    """The file in pieces that take milliseconds each to make. Raises KernelError for a rule that has no text."""
    digest = sha256()
    for piece in _pieces(ruleset, origin):
        data = piece.encode(errors="surrogateescape")  # an interface's name may be any bytes
        digest.update(data)
        yield data
    yield f"{_END}{digest.hexdigest()}\n".encode()


def _pieces(ruleset: Ruleset, origin: str) -> Iterator[str]:
    yield f"{HEAD}\n{origin}\n"
    for family in FAMILIES:
        tables = {where.name: table for where, table in ruleset.tables.items() if where.family == family}
        if not tables:
            continue
        yield f"family {family}\n"
        for name, held in ruleset.sets.items():
            if held.family == family:
                yield f"set {name} {held.type} {held.max_members} {len(held.members)}\n"
                yield from _lines(held.members, _MEMBERS_A_PIECE)
        for table_name in TABLES:
            if table_name in tables:
                yield from _table(TableId(family, table_name), tables[table_name])


def _table(where: TableId, table: Table) -> Iterator[str]:
    rules = sum(map(len, table.chains.values())) + sum(len(hook.first) + len(hook.last) for hook in table.hooks.values())
    yield f"table {where.name} {2 + len(table.chains) + rules}\n"
    yield from _lines(script_lines(where, table), _RULES_A_PIECE)


def script_lines(where: TableId, table: Table) -> Iterator[str]:
    """What iptables-restore --noflush takes to make all of a table that has nothing of ours: chains, rules, then the jumps."""
    yield f"*{where.name}"
    for name in table.chains:
        yield f":{name} - -"
    for name, chain in table.chains.items():
        yield from _rules(f"-A {name}", chain, where)
    for kernel_chain, hook in table.hooks.items():
        yield from _rules(f"-I {kernel_chain} 1", hook.first[::-1], where)
        yield from _rules(f"-A {kernel_chain}", hook.last, where)
    yield "COMMIT"


def _rules(command: str, rules: Chain, where: TableId) -> Iterator[str]:
    for rule in rules:
        yield f"{command} {rule_line(rule, where)}"


def _lines(lines: Iterable[str], most: int) -> Iterator[str]:
    batch: list[str] = []
    for line in lines:
        batch.append(line)
        if len(batch) == most:
            yield "\n".join(batch) + "\n"
            batch = []
    if batch:
        yield "\n".join(batch) + "\n"


def of_ruleset(ruleset: Ruleset, origin: str) -> SavedRules:
    """The same as reading what `pieces` writes."""
    return read(b"".join(pieces(ruleset, origin)))


# --- reading -----------------------------------------------------------------------------------------------------------
def read(data: bytes) -> SavedRules:
    """A file's content. Raises SavedRulesError."""
    body, end, digest = data.rpartition(b"\n" + _END.encode())
    body += b"\n"
    if not data.startswith(HEAD.encode() + b"\n"):
        raise SavedRulesError("it is damaged, or another version of Hostward wrote it")
    if not end or digest != f"{sha256(body).hexdigest()}\n".encode():
        raise SavedRulesError("it is damaged: its checksum is missing or wrong")
    try:
        return _parsed(body.decode(errors="surrogateescape").split("\n")[1:-1])
    except (ValueError, IndexError, StopIteration, KeyError) as error:
        raise SavedRulesError(f"it holds what this version of Hostward doesn't know: {error}") from error


def _parsed(lines: list[str]) -> SavedRules:
    families: dict[Family, SavedFamily] = {}
    sets: dict[str, IPSet] = {}
    scripts: dict[TableName, str] = {}
    family: Family = 4
    at = 1
    while at < len(lines):
        word, *words = lines[at].split(" ")
        at += 1
        if word == "family":
            family = _one_of(FAMILIES, cast(Family, int(words[0])))
            sets, scripts = {}, {}
            families[family] = SavedFamily(sets, scripts)
            continue
        count = int(words[-1])
        content = lines[at : at + count]
        if count < 0 or len(content) != count or not families:
            raise ValueError(f"{lines[at - 1]!r} is cut off")
        at += count
        if word == "set":
            name, kind, most = words[0], _one_of(_SET_TYPES, cast(SetType, words[1])), int(words[2])
            if not is_own_set(name):
                raise ValueError(f"the set {name!r} is none of ours")
            sets[name] = IPSet(kind, family, frozenset(content), most)
        elif word == "table":
            scripts[_one_of(TABLES, cast(TableName, words[0]))] = _script(words[0], content)
        else:
            raise ValueError(f"the word {word!r}")
    return SavedRules(lines[0], families)


def _script(table: str, lines: list[str]) -> str:
    """The text for iptables-restore. A chain that it declares is emptied: none of somebody else's may be among them."""
    if lines[:1] != [f"*{table}"] or lines[-1] != "COMMIT":
        raise ValueError(f"table {table} begins or ends otherwise")
    for line in lines[1:-1]:
        if not (is_own_chain(line[1:]) if line.startswith(":") else line.startswith(("-A ", "-I "))):
            raise ValueError(f"{line!r} is none of our rules")
    return "\n".join([*lines, ""])


def _one_of(known: Iterable[T], word: T) -> T:
    if word not in known:
        raise ValueError(f"{word!r}")
    return word
