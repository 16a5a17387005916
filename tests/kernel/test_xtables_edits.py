"""Edits of real tables: what changes, what stays, and what nobody but its owner may touch."""

from __future__ import annotations

import functools

import pytest

from hostward.dataplane.kernel import KernelError, TableEdit, Unknown
from hostward.dataplane.xtables import restore, tables
from hostward.dataplane.xtables.commit import commit
from hostward.dataplane.xtables.libiptc import Handle
from hostward.render.ruleset import ACCEPT, DROP, FAMILIES, Hook, Jump, Log, Mark, Protocol, Rule, TableId
from tests.lab.xtables import FILTER, HOOK, entered_lab, tagged

pytestmark = pytest.mark.kernel
LAST = Rule((Mark(1, 1),), ACCEPT, "hw:accepted-by-policy")


@pytest.fixture(params=["libiptc", "iptables-restore"])
def lab(tmp_path, request, monkeypatch):
    if request.param == "iptables-restore":
        monkeypatch.setattr(tables, "commit", functools.partial(commit, bulk_rules=0))
    with entered_lab(tmp_path) as lab:
        yield lab


@pytest.mark.parametrize("name", ["raw", "mangle", "filter"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_table_that_was_never_used_is_empty_and_takes_an_edit(lab, family, name):
    table = TableId(family, name)
    builtin = "OUTPUT"
    assert lab.own(table) == {}
    assert set(lab.tables.read_table(table).builtins[builtin]) == set()
    lab.put({"hw-a": (tagged(1),)}, {builtin: HOOK}, table)
    assert lab.own(table) == {"hw-a": (tagged(1),)}
    assert lab.tables.read_table(table).builtins[builtin] == HOOK.first
    assert lab.rules("hw-a", table) == ["-A hw-a -p tcp -m comment --comment rule-1 -j ACCEPT"]
    lab.put({"hw-a": None}, {builtin: Hook()}, table)
    assert not any("hw-" in line for line in lab.save(table))


def test_chains_that_jump_to_each_other_come_and_go_in_one_commit(lab):
    lab.put(
        {f"hw-{n}": (Rule((), Jump(f"hw-{n - 1}")), tagged(n)) if n else () for n in range(5)},
        {"INPUT": Hook((Rule((), Jump("hw-4")),))},
    )
    assert list(lab.own()) == [f"hw-{n}" for n in range(5)]
    lab.put({**{f"hw-{n}": None for n in range(5)}, "hw-new": (tagged(9),)}, {"INPUT": Hook((Rule((), Jump("hw-new")),))})
    assert lab.own() == {"hw-new": (tagged(9),)}


def test_chain_names_of_28_characters(lab):
    name = "hw-" + "x" * 25
    lab.put({name: (tagged(1),), "hw-a": (Rule((), Jump(name, goto=True)),)}, {"INPUT": HOOK})
    assert lab.own() == {name: (tagged(1),), "hw-a": (Rule((), Jump(name, goto=True)),)}
    with pytest.raises(KernelError, match="1 to 28"):
        lab.put({name + "x": ()})


def test_our_rules_frame_everybody_elses_and_leave_their_order(lab):
    for number in range(3):
        lab.tool(FILTER, "-A", "FORWARD", "-p", "udp", "--dport", str(number), "-j", "ACCEPT")
    theirs = lab.rules("FORWARD")
    hook = Hook((Rule((), Jump("hw-a")),), (LAST,))
    ours = "-A FORWARD -j hw-a"
    last = '-A FORWARD -m mark --mark 0x1/0x1 -m comment --comment "hw:accepted-by-policy" -j ACCEPT'
    lab.put({"hw-a": ()}, {"FORWARD": hook})
    assert lab.rules("FORWARD") == [ours, *theirs, last]
    lab.tool(FILTER, "-I", "FORWARD", "-p", "icmp", "-j", "DROP")
    lab.tool(FILTER, "-A", "FORWARD", "-p", "gre", "-j", "DROP")
    lab.tool(FILTER, "-I", "FORWARD", "3", "-p", "esp", "-j", "hw-a")
    read = lab.tables.read_table(FILTER).builtins["FORWARD"]
    assert [rule if isinstance(rule, Rule) else rule.ours for rule in read] == [
        False, hook.first[0], True, False, False, False, LAST, False,
    ]  # fmt: skip
    lab.put({}, {"FORWARD": hook})
    assert lab.rules("FORWARD") == [ours, "-A FORWARD -p icmp -j DROP", *theirs, "-A FORWARD -p gre -j DROP", last]
    lab.put({"hw-a": None}, {"FORWARD": Hook()})
    assert lab.rules("FORWARD") == ["-A FORWARD -p icmp -j DROP", *theirs, "-A FORWARD -p gre -j DROP"]


def test_a_foreign_rule_that_equals_one_of_ours_stays_foreign(lab):
    """Only what carries our identity is ours in a kernel chain: `-j ACCEPT` there was somebody's."""
    lab.tool(FILTER, "-A", "INPUT", "-j", "ACCEPT")
    lab.put({"hw-a": (Rule((), ACCEPT),)}, {"INPUT": HOOK})
    mine, foreign = lab.tables.read_table(FILTER).builtins["INPUT"]
    assert mine == HOOK.first[0]
    assert isinstance(foreign, Unknown)
    assert not foreign.ours
    assert lab.rules("INPUT") == ["-A INPUT -j hw-a", "-A INPUT -j ACCEPT"]
    with pytest.raises(KernelError, match="could not be told"):
        lab.put({}, {"INPUT": Hook((Rule((), DROP),))})


def test_policies_and_other_chains_stay(lab):
    lab.tool(FILTER, "-N", "KUBE-SERVICES-0123456789")
    lab.tool(FILTER, "-A", "KUBE-SERVICES-0123456789", "-p", "udp", "-j", "DROP")
    lab.tool(FILTER, "-A", "FORWARD", "-j", "KUBE-SERVICES-0123456789")
    lab.tool(FILTER, "-P", "FORWARD", "DROP")
    before = lab.save(FILTER)
    lab.put({"hw-a": (tagged(1),)}, {"INPUT": HOOK, "FORWARD": HOOK})
    lab.put({"hw-a": None}, {"INPUT": Hook(), "FORWARD": Hook()})
    assert lab.save(FILTER) == before


def counted(lab, chain):
    flat = lab.tables.counters(FILTER)[chain]
    return list(zip(flat[::2], flat[1::2], strict=True))


def test_rules_that_stay_keep_their_counters(lab):
    chain = tuple(tagged(number) for number in range(6))
    lab.put({"hw-a": (), "hw-b": chain, "hw-c": chain}, {"INPUT": HOOK})
    for number in range(6):
        for name in ("hw-b", "hw-c"):
            lab.ns.run(
                "iptables-legacy", "-R", name, str(number + 1), "-p", "tcp", "-m", "comment", "--comment", f"rule-{number}",
                "-j", "ACCEPT", "-c", str(number + 1), "100",
            )  # fmt: skip
    assert counted(lab, "hw-b") == [(number + 1, 100) for number in range(6)]
    lab.put({"hw-b": (*chain[:2], tagged(7), tagged(8), *chain[3:])})
    assert counted(lab, "hw-b") == [(1, 100), (2, 100), (0, 0), (0, 0), (4, 100), (5, 100), (6, 100)]
    assert counted(lab, "hw-c") == [(number + 1, 100) for number in range(6)]
    lab.put({"hw-b": (*chain[:2], tagged(9))})
    assert counted(lab, "hw-b") == [(1, 100), (2, 100), (0, 0)]
    lab.put({"hw-b": (tagged(10), *chain[:2], tagged(9))})
    assert counted(lab, "hw-b") == [(0, 0), (1, 100), (2, 100), (0, 0)]


def test_packets_are_counted_and_counters_are_no_difference(lab):
    lab.put({"hw-a": (Rule((Protocol(1),), ACCEPT),)}, {"INPUT": HOOK})
    seen = lab.tables.fingerprint(FILTER)
    lab.ns.run("ping", "-c", "2", "-i", "0.01", "127.0.0.1")
    assert counted(lab, "hw-a") == [(4, 336)]
    assert lab.tables.fingerprint(FILTER) == seen


def test_an_edit_that_changes_nothing_writes_nothing(lab, monkeypatch):
    hooks = {"INPUT": HOOK, "FORWARD": Hook(HOOK.first, (LAST,))}
    lab.tool(FILTER, "-A", "FORWARD", "-p", "udp", "-j", "DROP")
    lab.put({"hw-a": (tagged(1),)}, hooks)
    commits = []
    monkeypatch.setattr(Handle, "commit", commits.append)
    monkeypatch.setattr(restore, "run", lambda *arguments: commits.append(arguments))
    lab.put({"hw-a": (tagged(1),), "hw-none": None}, hooks)
    assert commits == []


def test_jumps_to_a_deleted_chain_in_others_chains_go_with_it(lab):
    lab.put({"hw-a": (tagged(1),), "hw-b": ()}, {"INPUT": HOOK})
    lab.tool(FILTER, "-N", "theirs")
    lab.tool(FILTER, "-A", "theirs", "-p", "udp", "-j", "ACCEPT")
    lab.tool(FILTER, "-A", "theirs", "-j", "hw-a")
    lab.tool(FILTER, "-A", "theirs", "-p", "tcp", "-g", "hw-a")
    lab.tool(FILTER, "-A", "theirs", "-p", "tcp", "-j", "hw-b")
    lab.tool(FILTER, "-A", "OUTPUT", "-j", "hw-a")
    lab.put({"hw-a": None}, {"INPUT": Hook()})
    assert lab.rules("theirs") == ["-A theirs -p udp -j ACCEPT", "-A theirs -p tcp -j hw-b"]
    assert lab.rules("OUTPUT") == []
    assert list(lab.own()) == ["hw-b"]


def test_a_chain_of_ours_that_is_still_used_is_not_deleted(lab):
    lab.put({"hw-a": (Rule((), Jump("hw-b")),), "hw-b": ()}, {"INPUT": HOOK})
    before = lab.save(FILTER)
    with pytest.raises(KernelError, match="hw-a still jumps") as refused:
        lab.put({"hw-b": None})
    assert refused.value.step == TableEdit(FILTER, {"hw-b": None}, {})
    assert lab.save(FILTER) == before


def test_a_refused_edit_changes_nothing_and_the_next_one_works(lab):
    """The handle of the failed edit is gone: the next one sees what others wrote since."""
    lab.put({"hw-a": (tagged(1),)}, {"INPUT": HOOK})
    before = lab.save(FILTER)
    circle = {"hw-a": (tagged(2), Rule((), Jump("hw-b"))), "hw-b": (Rule((), Jump("hw-a")),)}
    with pytest.raises(KernelError) as refused:
        lab.put(circle)
    assert not refused.value.retry
    assert lab.save(FILTER) == before
    lab.tool(FILTER, "-A", "OUTPUT", "-p", "udp", "-j", "DROP")
    lab.put({"hw-a": (tagged(3),)})
    assert lab.own() == {"hw-a": (tagged(3),)}
    assert lab.rules("OUTPUT") == ["-A OUTPUT -p udp -j DROP"]


def test_others_chains_are_refused(lab):
    with pytest.raises(KernelError, match="not ours"):
        lab.put({"INPUT": ()})
    with pytest.raises(KernelError, match="no chain PREROUTING"):
        lab.put({"hw-a": ()}, {"PREROUTING": HOOK})


def test_text_cannot_carry_a_second_rule(lab):
    prefix = "a\" -j ACCEPT \\ '#;"
    lab.put({"hw-a": (Rule((), Log(prefix)),)}, {"INPUT": HOOK})
    assert lab.own() == {"hw-a": (Rule((), Log(prefix)),)}
    assert len(lab.rules("hw-a")) == 1
    for bad in ("a\n-A INPUT -j ACCEPT", "a\rb", "a\0b"):
        with pytest.raises(KernelError):
            lab.put({"hw-a": (Rule((), Log(bad)),)})
    assert lab.own() == {"hw-a": (Rule((), Log(prefix)),)}


def test_another_process_recognises_what_was_written(lab, tmp_path):
    """A new agent takes the rules over: nothing is kept but what is in the kernel."""
    chains = {"hw-a": (Rule((), Jump("hw-b")), tagged(1)), "hw-b": (tagged(2),)}
    lab.put(chains, {"INPUT": HOOK})
    fresh = tables.XTables(tmp_path / "lock", 1.0)
    assert all(isinstance(rule, Unknown) for rules in fresh.read_table(FILTER).chains.values() for rule in rules)
    fresh.learn(FILTER, [*chains["hw-a"], *chains["hw-b"], *HOOK.first])
    assert dict(fresh.read_table(FILTER).chains) == chains
    assert fresh.read_table(FILTER).builtins["INPUT"] == HOOK.first
