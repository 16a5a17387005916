"""The file of saved rules: what is written is read back, and whatever isn't whole is none."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostward.dataplane.kernel import KernelError
from hostward.dataplane.saved_rules import SavedRulesError, of_ruleset, pieces, read
from hostward.render.ruleset import FAMILIES, TABLES, Hook, Interface, IPSet, Jump, Rule, Ruleset, Table, TableId
from tests.unit import worlds

SEED = 11  # a world with much in it
ORIGIN = "revision 7 of 2026-01-31T12:00:00Z"
RULESET = worlds.ruleset(worlds.world(random.Random(SEED)))
FILE = b"".join(pieces(RULESET, ORIGIN))


def sealed(text: str) -> bytes:
    """A file that says that it is whole."""
    return f"{text}end sha256 {sha256(text.encode()).hexdigest()}\n".encode()


@given(st.integers(0, 2**32))
def test_everything_is_in_the_file(seed: int) -> None:
    ruleset = worlds.ruleset(worlds.world(random.Random(seed)))
    saved = of_ruleset(ruleset, ORIGIN)
    assert saved.origin == ORIGIN
    assert {name: held for family in saved.families.values() for name, held in family.sets.items()} == ruleset.sets
    for where, table in ruleset.tables.items():
        script = saved.families[where.family].scripts[where.name].splitlines()
        assert (script[0], script[-1]) == (f"*{where.name}", "COMMIT")
        assert {line for line in script if line.startswith(":")} == {f":{name} - -" for name in table.chains}
        for name, chain in table.chains.items():
            assert sum(line.startswith(f"-A {name} ") for line in script) == len(chain)
    assert {(f, t) for f, family in saved.families.items() for t in family.scripts} == set(ruleset.tables)


def test_the_interfaces_that_are_guarded_can_be_told() -> None:
    for seed in range(20):
        world = worlds.world(random.Random(seed))
        saved = of_ruleset(worlds.ruleset(world), ORIGIN)
        assert set(saved.families[4].interfaces()) == set(world.endpoints)


def test_pieces_are_small_and_a_large_set_is_whole() -> None:
    members = frozenset(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(70_000))
    rules = tuple(Rule((), Jump("hw-y"), f"rule-{n}") for n in range(5_000))
    table = Table({"hw-x": rules, "hw-y": ()}, {"INPUT": Hook((Rule((), Jump("hw-x")),))})
    ruleset = Ruleset({TableId(6, "filter"): table}, {"hw6-s-x": IPSet("hash:net", 6, members, 1 << 20)})
    made = list(pieces(ruleset, ORIGIN))
    assert max(map(len, made)) < 64 << 10
    saved = read(b"".join(made))
    assert saved.families[6].sets == ruleset.sets
    assert saved.families[6].scripts["filter"].count("\n-A hw-x ") == len(rules)


@given(st.data())
def test_a_file_that_was_cut_off_or_damaged_is_none(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(FILE) - 1))
    with pytest.raises(SavedRulesError):
        read(FILE[:at])
    bit = 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SavedRulesError):
        read(FILE[:at] + bytes([FILE[at] ^ bit]) + FILE[at + 1 :])


@given(st.binary(max_size=200))
def test_anything_else_is_none(data: bytes) -> None:
    for content in (data, FILE + data + b"x"):
        with pytest.raises(SavedRulesError):
            read(content)


@pytest.mark.parametrize(
    "text",
    [
        "family 5\n",
        "family\n",
        "set hw4-x hash:net 10 0\n",  # of no family
        "family 4\nset theirs hash:net 10 0\n",
        "family 4\nset hw4-x list:set 10 0\n",
        "family 4\nset hw4-x hash:net 10 3\n10.0.0.1\n",
        "family 4\nset hw4-x hash:net 10 -1\n",
        "family 4\nset hw4-x hash:net 10\n",
        "family 4\ntable nat 2\n*nat\nCOMMIT\n",
        "family 4\ntable filter 3\n*filter\n:cali-INPUT - -\nCOMMIT\n",  # would empty it
        "family 4\ntable filter 3\n*filter\n:INPUT DROP [0:0]\nCOMMIT\n",
        "family 4\ntable filter 3\n*filter\n-F INPUT\nCOMMIT\n",
        "family 4\ntable filter 3\n*filter\n-D INPUT 1\nCOMMIT\n",
        "family 4\ntable filter 5\n*filter\nCOMMIT\n*nat\n-A hw-x -j DROP\nCOMMIT\n",
        "family 4\ntable filter 3\n*nat\n:hw-x - -\nCOMMIT\n",
        "family 4\ntable filter 2\n*filter\n:hw-x - -\n",
        "family 4\nrules filter 0\n",
        "nonsense\n",
    ],
)
def test_a_whole_file_of_another_kind_is_none(text: str) -> None:
    with pytest.raises(SavedRulesError, match="doesn't know"):
        read(sealed(f"hostward rules 1\n{ORIGIN}\n{text}"))


def test_a_file_of_another_version_is_none_and_one_without_rules_is_one() -> None:
    with pytest.raises(SavedRulesError, match="another version"):
        read(sealed(f"hostward rules 2\n{ORIGIN}\n"))
    assert not read(sealed(f"hostward rules 1\n{ORIGIN}\n")).families
    assert of_ruleset(Ruleset({TableId(f, t): Table({}, {}) for f in FAMILIES for t in TABLES}), "").families.keys() == {4, 6}


@pytest.mark.parametrize("name", ["tun+", "a\nb", "a\x1bb"])
def test_a_rule_that_has_no_text_is_told(name: str) -> None:
    table = Table({"hw-x": (Rule((Interface("in", name),), Jump("hw-y")),), "hw-y": ()}, {})
    with pytest.raises(KernelError, match="iptables-restore can't take"):
        list(pieces(Ruleset({TableId(4, "filter"): table}), ORIGIN))


def test_names_of_any_bytes_are_kept() -> None:
    table = Table({"hw-x": (Rule((Interface("in", "nic\udcff"),), Jump("hw-y")),), "hw-y": ()}, {})
    saved = of_ruleset(Ruleset({TableId(4, "filter"): table}), ORIGIN)
    assert "-i nic\udcff -j hw-y" in saved.families[4].scripts["filter"]
