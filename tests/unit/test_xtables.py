"""The pure parts of the iptables backend: entries and blobs made by hand, deltas on lists, text for iptables-restore."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostward.dataplane.kernel import ActualTable
from hostward.dataplane.xtables.blob import contents, locate, references
from hostward.dataplane.xtables.delta import Create, Delete, EncodedEdit, Flush, Insert, Remove, after, contents_of, operations
from hostward.dataplane.xtables.encode import Encoder
from hostward.dataplane.xtables.known import Known
from hostward.dataplane.xtables.layout import (
    LAYOUTS,
    OFFSETS,
    TO_CHAIN,
    TO_MODULE,
    TO_VERDICT,
    LayoutError,
    content,
    entry_header,
    is_ours,
    jump_of,
    part,
)
from hostward.dataplane.xtables.restore import script
from hostward.dataplane.xtables.sockopt import TableInfo
from hostward.render.ruleset import ACCEPT, DROP, FAMILIES, InSet, Interface, Jump, Log, Net, Protocol, Rule, TableId

VERDICTS = {"ACCEPT": -2, "DROP": -1, "RETURN": -5}
FILTER = TableId(4, "filter")


# --- a table made by hand ----------------------------------------------------------------------------------------------
def entry(layout, ip, matches, target):
    at = layout.header + len(matches)
    return entry_header(layout, ip, at, at + len(target)) + matches + target


def table_blob(layout, chains, indexes):
    """A filter table with only INPUT as the kernel would hold it; (chain to encoded rules, INPUT first; set to index)."""
    ip = bytes(layout.ip)
    pieces, heads, jumps = [], {}, []
    at = 0

    def put(piece):
        nonlocal at
        pieces.append(bytearray(piece))
        at += len(piece)

    hook_start = underflow = 0
    for number, (name, rules) in enumerate(chains.items()):
        if number:
            put(entry(layout, ip, b"", part("ERROR", 0, name.encode().ljust(30, b"\0"))))
        heads[name] = at
        for rule in rules:
            leads_to = rule.content[rule.content.rfind(b"\xff") :]
            piece = bytearray(rule.with_indexes(indexes.__getitem__))
            if leads_to != TO_MODULE:
                piece[-38:-9] = bytes(29)
                if leads_to.startswith(TO_CHAIN):
                    jumps.append((len(pieces), leads_to.removeprefix(TO_CHAIN).decode()))
                else:
                    struct.pack_into("=i", piece, len(piece) - 8, VERDICTS[leads_to.removeprefix(TO_VERDICT).decode()])
            struct.pack_into("=QQ", piece, layout.counters, at, number)
            put(piece)
        if not number:
            underflow = at
        put(entry(layout, ip, b"", part("", 0, struct.pack("=i", VERDICTS["RETURN" if number else "ACCEPT"]) + bytes(4))))
    put(entry(layout, ip, b"", part("ERROR", 0, b"ERROR".ljust(30, b"\0"))))
    for which, name in jumps:
        struct.pack_into("=i", pieces[which], len(pieces[which]) - 8, heads[name])
    return TableInfo(2, (0, hook_start, 0, 0, 0), (0, underflow, 0, 0, 0), len(pieces), at), b"".join(pieces)


words = st.text("abcset-", min_size=1, max_size=9)


def rules_of(family, names):
    nets = st.sampled_from(["10.0.0.0/8", "192.0.2.1/32"] if family == 4 else ["fd00::/8", "2001:db8::1/128"])
    match = st.one_of(
        st.builds(lambda name: Interface("in", name), words),
        st.builds(lambda net: Net("src", net), nets),
        st.builds(Protocol, st.integers(1, 255)),
        st.builds(lambda name, negate: InSet(name, ("src",), negate), st.sampled_from(["set", "hw-s"]), st.booleans()),
    )
    kinds = st.lists(match, max_size=4, unique_by=type)
    two_sets = kinds.map(lambda found: (*found, InSet("other", ("dst", "dst"))))
    target = st.one_of(st.just(ACCEPT), st.builds(Jump, st.sampled_from(names), st.booleans()))
    return st.lists(st.builds(Rule, st.one_of(kinds.map(tuple), two_sets), target, st.one_of(st.just(""), words)), max_size=6)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(FAMILIES))
def test_a_blob_is_cut_into_the_rules_that_it_was_made_of(data, family):
    names = ["INPUT", "hw-a", "set", "hw-" + "x" * 25]
    layout, encoder = LAYOUTS[family], Encoder(family)
    rules = {name: data.draw(rules_of(family, names[1:])) for name in names}
    encoded = {name: [encoder.encode(rule) for rule in chain] for name, chain in rules.items()}
    indexes = {"set": 3, "hw-s": 0, "other": 65000}
    info, blob = table_blob(layout, encoded, indexes)
    places = locate(layout, info, blob)
    spans = {**places.builtins, **{name: places.spans(name) for name in places.chains}}
    assert list(places.builtins) == ["INPUT"]
    assert list(places.chains) == names[1:]
    by_index = {index: name for name, index in indexes.items()}
    for name in names:
        found = contents(layout, blob, spans[name], places.heads, by_index.__getitem__)
        assert found == [rule.content for rule in encoded[name]]
        used, jumps = references(layout, blob, spans[name])
        assert used == {indexes[set_] for rule in rules[name] for set_ in rule.uses_sets()}
        assert jumps == any(isinstance(rule.target, Jump) for rule in rules[name])


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(FAMILIES), st.binary(min_size=64, max_size=64))
def test_content_does_not_depend_on_place_counters_or_what_lies_behind_names(data, family, noise):
    layout, encoder = LAYOUTS[family], Encoder(family)
    for rule in data.draw(rules_of(family, ["hw-a"])):
        encoded = encoder.encode(rule)
        raw = bytearray(encoded.with_indexes(lambda name: 7))
        target_offset = OFFSETS.unpack_from(raw, layout.offsets)[0]
        raw[layout.counters : layout.header] = noise[:16]
        raw[layout.ip : layout.ip + 4] = noise[16:20]
        end = raw.index(b"\0", target_offset + 2) + 1
        raw[end : target_offset + 31] = noise[: target_offset + 31 - end]
        leads_to = encoded.content[encoded.content.rfind(b"\xff") :]
        if not rule.uses_sets():
            assert content(layout, bytes(raw), leads_to, lambda index: pytest.fail("no set")) == encoded.content
        elif set(rule.uses_sets()) == {"other"}:
            assert content(layout, bytes(raw), leads_to, lambda index: "other") == encoded.content
            assert content(layout, bytes(raw), leads_to, lambda index: "another") != encoded.content


@pytest.mark.parametrize("family", FAMILIES)
def test_contents_differ_where_rules_do(family):
    encoder = Encoder(family)
    net = "10.0.0.0/8" if family == 4 else "fd00::/8"
    rules = [
        Rule((), ACCEPT),
        Rule((), Jump("hw-a")),
        Rule((), Jump("hw-a", goto=True)),
        Rule((), Jump("hw-b")),
        Rule((), Jump("ACCEPT")),
        Rule((), ACCEPT, "x"),
        Rule((Net("src", net),), ACCEPT),
        Rule((Net("src", net, negate=True),), ACCEPT),
        Rule((Net("dst", net),), ACCEPT),
        Rule((Interface("in", "eth0"),), ACCEPT),
        Rule((Interface("in", "eth0", prefix=True),), ACCEPT),
        Rule((Interface("out", "eth0"),), ACCEPT),
        Rule((InSet("a", ("src",)),), ACCEPT),
        Rule((InSet("a", ("dst",)),), ACCEPT),
        Rule((InSet("a", ("src", "src")),), ACCEPT),
        Rule((InSet("a", ("src",), negate=True),), ACCEPT),
        Rule((InSet("b", ("src",)),), ACCEPT),
        Rule((InSet("a", ("src",)), InSet("b", ("src",))), ACCEPT),
        Rule((InSet("b", ("src",)), InSet("a", ("src",))), ACCEPT),
    ]
    assert len({encoder.encode(rule).content for rule in rules}) == len(rules)


def test_identity_is_a_jump_to_our_chains_or_our_comment():
    encoder = Encoder(4)
    for target, comment, ours in (
        (Jump("hw-a"), "", True),
        (Jump("hw~a"), "", True),
        (Jump("hwa"), "", False),
        (Jump("x-hw-a"), "", False),
        (ACCEPT, "hw:x", True),
        (ACCEPT, "xhw:x", False),
        (ACCEPT, "", False),
        (Log("hw-a"), "", False),
    ):
        assert is_ours(encoder.encode(Rule((), target, comment)).content) is ours
    assert jump_of(encoder.encode(Rule((), Jump("hw-a", goto=True))).content) == "hw-a"
    assert jump_of(encoder.encode(Rule((), ACCEPT)).content) == ""


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_bytes_that_are_no_table_are_an_error_and_end(blob):
    with pytest.raises(LayoutError):
        locate(LAYOUTS[4], TableInfo(2, (0,) * 5, (0,) * 5, 1, len(blob)), blob + b"\0")


# --- deltas ------------------------------------------------------------------------------------------------------------
def fake(content):
    return SimpleNamespace(content=content)


def our(number):
    return b"rule" + bytes([number]) + TO_CHAIN + b"hw-a"


def carried_out(present, todo):
    """Operations on lists, as strict as the kernel about places."""
    chains = {name: list(rules) for name, rules in present.items()}
    for operation in todo:
        match operation:
            case Create(chain):
                assert chains.setdefault(chain, []) == []
            case Flush(chain):
                chains[chain].clear()
            case Delete(chain):
                assert chains.pop(chain) == []
            case Remove(chain, position):
                del chains[chain][position]
            case Insert(chain, None, rule):
                chains[chain].append(rule.content)
            case Insert(chain, position, rule):
                assert position <= len(chains[chain])
                chains[chain].insert(position, rule.content)
    return chains


some = st.lists(st.integers(0, 4).map(lambda number: bytes([number])), max_size=7)
ours = st.lists(st.integers(0, 2).map(our), max_size=2)
mixed = st.lists(st.one_of(st.integers(0, 4).map(lambda number: bytes([number])), st.integers(0, 2).map(our)), max_size=8)


@given(st.dictionaries(st.sampled_from("abc"), some), st.dictionaries(st.sampled_from("abcd"), st.one_of(st.none(), some)))
def test_a_delta_leads_to_what_was_asked_for(present, wanted):
    edit = EncodedEdit({name: None if rules is None else tuple(map(fake, rules)) for name, rules in wanted.items()}, {})
    todo = operations(edit, present, {})
    result = carried_out(present, todo)
    assert result == {name: rules for name, rules in {**present, **wanted}.items() if rules is not None}
    assert {name: result.get(name) for name in wanted} == {
        name: contents_of(held) for name, held in after(edit, present).items()
    }
    again = {name: rules for name, rules in result.items() if name in wanted}
    assert operations(edit, again, {}) == []


@given(mixed, ours, ours)
def test_our_rules_frame_a_kernel_chain_and_others_keep_their_order(present, first, last):
    edit = EncodedEdit({}, {"INPUT": (tuple(map(fake, first)), tuple(map(fake, last)))})
    todo = operations(edit, {"INPUT": present}, {})
    foreign = [rule for rule in present if not is_ours(rule)]
    result = carried_out({"INPUT": present}, todo)["INPUT"]
    assert result == [*first, *foreign, *last]
    assert after(edit, {"INPUT": present}) == {"INPUT": result}
    for operation in todo:
        assert not isinstance(operation, Flush)
    assert operations(edit, {"INPUT": result}, {}) == []


@given(some, st.integers(0, 7), some)
def test_a_changed_chain_keeps_both_ends(chain, at, middle):
    edit = EncodedEdit({"a": tuple(map(fake, [*chain[:at], *middle, *chain[at:]]))}, {})
    assert len(operations(edit, {"a": chain}, {})) <= len(middle) + (not chain and bool(middle))


# --- text --------------------------------------------------------------------------------------------------------------
def test_text_for_iptables_restore_holds_one_line_an_operation():
    encoder = Encoder(4)
    rule = encoder.encode(Rule((Interface("in", "e;h 0"),), Log('a" -j "x')))
    text = script(
        FILTER, [Create("hw-a"), Flush("hw-b"), Remove("INPUT", 0), Insert("INPUT", 0, rule), Insert("hw-a", None, rule)]
    )
    spelt = '-i "e;h 0" -j LOG --log-prefix "a\\" -j \\"x" --log-level 5'
    assert text.splitlines() == [
        "*filter", ":hw-a - -", "-F hw-b", "-D INPUT 1", f"-I INPUT 1 {spelt}", f"-A hw-a {spelt}", "COMMIT",
    ]  # fmt: skip


# --- memory ------------------------------------------------------------------------------------------------------------
def test_rules_of_long_ago_are_forgotten(monkeypatch):
    monkeypatch.setattr("hostward.dataplane.xtables.known._SLACK", 10)
    encoder = Encoder(4)
    known = Known(encoder)
    stays = Rule((), ACCEPT, "stays")
    known.learn([stays])
    for number in range(40):
        known.learn([Rule((), ACCEPT, f"n-{number}")])
        known.written({})
        known.forget_unused(ActualTable({"hw-a": (stays,)}, {}))
    assert known.named(encoder.encode(stays).content) == stays
    assert known.named(encoder.encode(Rule((), ACCEPT, "n-0")).content) is None
    assert sum(known.named(encoder.encode(Rule((), ACCEPT, f"n-{n}")).content) is not None for n in range(40)) <= 12


@pytest.mark.parametrize("reads", [1, 7, 1000])
def test_rules_that_no_written_chain_holds_are_forgotten(reads):
    """So that years of changes need no more memory than what there is; equal rules are known as long as one is there. A read
    asks for names after each so many changes."""
    known = Known(Encoder(4))
    for number in range(500):
        chains = {"hw-a": (Rule((Protocol(number % 250 + 1),), DROP), Rule((), ACCEPT)), f"hw-{number}": (Rule((), ACCEPT),)}
        known.encoded(rule for chain in chains.values() for rule in chain)
        known.written({**chains, f"hw-{number - 1}": None})
        if not number % reads:
            known.named(b"")
    assert len(known._by_id) == 3
    assert known.named(b"") is None
    assert (len(known._by_digest), len(known._unsorted)) == (2, 0)
    one, other = Rule((Protocol(6),), DROP), Rule((Protocol(6),), DROP)
    for name, rule in (("hw-x", one), ("hw-y", other)):
        known.encoded([rule])
        known.written({name: (rule,)})
    content = Encoder(4).encode(one).content
    known.written({"hw-y": None})
    assert known.named(content) == one
    known.written({"hw-x": None})
    assert known.named(content) is None
    known.learn([one])
    assert known.named(content) is one
