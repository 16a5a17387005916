"""Reading a table anew with what is known of it from before gives what reading it from nothing gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostward.dataplane.xtables.encode import Encoder
from hostward.dataplane.xtables.layout import LAYOUTS
from hostward.dataplane.xtables.snapshot import Snapshot
from hostward.render.ruleset import ACCEPT, FAMILIES, RETURN, Family, InSet, Jump, Net, Rule, Verdict
from tests.unit.test_xtables import rules_of, table_blob

NAMES = ["INPUT", "hw-a", "hw-b", "KUBE-X", "hw-c"]
INDEXES = {"set": 3, "hw-s": 0, "other": 65000}
Rules = Mapping[str, Sequence[Rule]]


def snapshot(
    family: Family, rules: Rules, indexes: Mapping[str, int], before: Snapshot | None = None, counters: int = 0
) -> Snapshot:
    """A table with these rules as it would be read."""
    layout, encoder = LAYOUTS[family], Encoder(family)
    info, blob = table_blob(layout, {name: [encoder.encode(rule) for rule in chain] for name, chain in rules.items()}, indexes)
    raw = bytearray(blob)
    if counters:
        first = info.hook_entries[1] + layout.counters
        raw[first : first + 2] = counters.to_bytes(2, "little")
    names = {index: name for name, index in indexes.items()}
    return Snapshot(layout, info, raw, lambda index: names.get(index, ""), before)


def meaning(found: Snapshot) -> object:
    return {name: found.holds(name) for name in (*found.builtins, *found.chains)}


@st.composite
def changed(draw: st.DrawFn, family: Family, rules: Rules) -> Rules:
    """Some chains with other rules, some with one more or less, some as they were, and perhaps new ones before and between."""
    new: dict[str, Sequence[Rule]] = {}
    for name, chain in rules.items():
        if name != "INPUT" and draw(st.booleans()):
            new[f"{name}-0"] = draw(rules_of(family, NAMES[1:]))
        match draw(st.sampled_from(["same", "same", "other", "more", "less"])):
            case "same":
                new[name] = chain
            case "other":
                new[name] = draw(rules_of(family, NAMES[1:]))
            case "more":
                new[name] = [*chain, draw(st.sampled_from([Rule((), RETURN), Rule((), ACCEPT), Rule((), Jump("hw-c"))]))]
            case "less":
                new[name] = chain[:-1]
    return new


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(FAMILIES), st.booleans())
def test_what_is_known_from_before_changes_no_answer(data: st.DataObject, family: Family, renumbered: bool) -> None:
    rules: Rules = {name: data.draw(rules_of(family, NAMES[1:])) for name in NAMES}
    indexes = INDEXES
    before = snapshot(family, rules, indexes)
    for _ in range(2):
        rules = data.draw(changed(family, rules))
        if renumbered:
            indexes = dict(zip(indexes, data.draw(st.permutations(list(indexes.values()))), strict=True))
        now, plain = snapshot(family, rules, indexes, before), snapshot(family, rules, indexes)
        assert now.builtins == plain.builtins
        assert now.chains == plain.chains
        assert now.reading == plain.reading
        assert meaning(now) == meaning(plain)
        alike = {name for name in plain.chains if name in before.chains and before.holds(name) == plain.holds(name)}
        assert now.same <= alike
        assert renumbered or now.same == alike
        before = now


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rule_like_the_end_of_a_chain_is_seen(family: Family) -> None:
    rules: Rules = {"INPUT": [], "hw-a": [Rule((), ACCEPT)], "hw-b": [Rule((), Jump("hw-a"))]}
    before = snapshot(family, rules, INDEXES)
    now = snapshot(family, {**rules, "hw-a": [Rule((), ACCEPT), Rule((), Verdict("RETURN"))]}, INDEXES, before)
    assert len(now.holds("hw-a") or ()) == 2
    assert now.same == {"hw-b"}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_bytes_that_lead_elsewhere_are_not_the_same_chain(family: Family) -> None:
    """Two chains change places: a jump's number is as it was, and stands for the other one."""
    rules: Rules = {"INPUT": [], "hw-a": [Rule((), ACCEPT)], "hw-b": [Rule((), ACCEPT)], "hw-z": [Rule((), Jump("hw-a"))]}
    before = snapshot(family, rules, INDEXES)
    swapped = {"INPUT": [], "hw-b": rules["hw-b"], "hw-a": rules["hw-a"], "hw-z": [Rule((), Jump("hw-b"))]}
    now = snapshot(family, swapped, INDEXES, before)
    ends = [found.reading.still[found.reading.places.spans("hw-z")[0][0] :] for found in (now, before)]
    assert ends[0] == ends[1]
    assert "hw-z" not in now.same


@pytest.mark.parametrize("family", FAMILIES)
def test_a_jump_that_was_turned_elsewhere_is_seen(family: Family) -> None:
    rules: Rules = {"INPUT": [], "hw-a": [], "hw-b": [], "hw-z": [Rule((), Jump("hw-a"))]}
    before = snapshot(family, rules, INDEXES)
    now = snapshot(family, {**rules, "hw-z": [Rule((), Jump("hw-b"))]}, INDEXES, before)
    assert now.same == {"hw-a", "hw-b"}
    assert meaning(now) != meaning(before)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_set_index_that_was_given_to_another_set_is_seen(family: Family) -> None:
    rules: Rules = {"INPUT": [], "hw-a": [Rule((InSet("set", ("src",)),), ACCEPT)]}
    before = snapshot(family, rules, INDEXES)
    names = {3: "stranger"}
    layout, encoder = LAYOUTS[family], Encoder(family)
    info, blob = table_blob(layout, {name: [encoder.encode(r) for r in chain] for name, chain in rules.items()}, INDEXES)
    now = Snapshot(layout, info, bytearray(blob), lambda index: names.get(index, ""), before)
    assert not now.same
    assert not before.still_is(info, bytearray(blob), lambda index: names.get(index, ""))
    assert before.still_is(info, bytearray(blob), lambda _: "set")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_table_of_the_same_outline_with_other_rules_is_left_whole_for_reading(family: Family) -> None:
    """Comparing must not write into what is read next: a long and a short rule that changed places have one outline."""
    net = "10.0.0.0/8" if family == 4 else "fd00::/8"
    long, short = Rule((InSet("set", ("src",)), Net("src", net)), ACCEPT, "long"), Rule((), ACCEPT)
    before = snapshot(family, {"INPUT": [], "hw-a": [long, short]}, INDEXES)
    rules: Rules = {"INPUT": [], "hw-a": [short, long]}
    plain = snapshot(family, rules, INDEXES)
    blob = bytearray(plain.reading.still)
    assert not before.still_is(plain._info, blob, lambda _: "set")
    now = Snapshot(LAYOUTS[family], plain._info, blob, lambda _: "set", before)
    assert meaning(now) == meaning(plain)
