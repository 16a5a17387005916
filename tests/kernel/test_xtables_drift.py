"""Other programs: what they change is noticed, what they hold is waited for, and no race is won by accident."""

from __future__ import annotations

import fcntl
import gc
import os
import subprocess
import sys
import threading

import pytest

from hostward.dataplane.kernel import KernelError, TableEdit, Unknown
from hostward.dataplane.xtables import compat
from hostward.dataplane.xtables.encode import Encoder
from hostward.dataplane.xtables.libiptc import Handle
from hostward.dataplane.xtables.lock import XtablesLock
from hostward.dataplane.xtables.sockopt import TableSocket
from hostward.render.ruleset import ACCEPT, DROP, InSet, Jump, Log, Protocol, Rule, TableId
from tests.lab.xtables import FILTER, HOOK, entered_lab, tagged

pytestmark = pytest.mark.kernel
CHAINS = {"hw-a": (Rule((), Jump("hw-b")), tagged(1)), "hw-b": (tagged(2), tagged(3))}


@pytest.fixture
def lab(tmp_path):
    with entered_lab(tmp_path) as lab:
        yield lab


def test_reading_tables_of_ever_other_sizes_leaves_no_garbage(lab):
    """Garbage is looked for rarely: what only that frees is memory that grows."""
    lab.put(CHAINS, {"INPUT": HOOK})
    lab.tables.fingerprint(FILTER)
    gc.collect()
    gc.disable()
    try:
        for number in range(4, 12):
            lab.put({"hw-b": tuple(map(tagged, range(number)))})
            lab.tables.fingerprint(FILTER)
        assert gc.collect() == 0
    finally:
        gc.enable()


# --- drift -------------------------------------------------------------------------------------------------------------
TAMPERINGS = [
    ("-F", "hw-b"),
    ("-D", "hw-b", "1"),
    ("-F", "INPUT"),
    ("-I", "INPUT", "-j", "ACCEPT"),
    ("-A", "INPUT", "-j", "ACCEPT"),
    ("-R", "hw-b", "1", "-p", "udp", "-m", "comment", "--comment", "rule-2", "-j", "ACCEPT"),
    ("-R", "hw-b", "1", "-p", "tcp", "-m", "comment", "--comment", "rule-2", "-j", "RETURN"),
    ("-R", "hw-a", "1", "-g", "hw-b"),
    ("-N", "hw-c"),
]


@pytest.mark.parametrize("tampering", [*TAMPERINGS, ("-P", "INPUT", "DROP")], ids=" ".join)
def test_tampering_is_noticed_and_repaired(lab, tampering):
    lab.put(CHAINS, {"INPUT": HOOK})
    before = lab.own()
    seen = lab.tables.seen(FILTER)
    assert lab.tables.fingerprint(FILTER) == seen
    lab.tool(FILTER, *tampering)
    assert lab.tables.fingerprint(FILTER) != seen
    assert lab.tables.seen(FILTER) == lab.tables.fingerprint(FILTER)
    lab.put({**CHAINS, "hw-c": None}, {"INPUT": HOOK})
    assert lab.own() == before
    assert lab.tables.read_table(FILTER).builtins["INPUT"][0] == HOOK.first[0]


@pytest.mark.parametrize("tampering", TAMPERINGS, ids=" ".join)
def test_tampering_after_a_small_write_is_noticed_and_repaired(lab, tampering):
    """What was written last was looked at alone; the next look at the table tells it from what others did."""
    lab.put(CHAINS, {"INPUT": HOOK})
    more = {"hw-b": (tagged(2), tagged(4), tagged(5)), "hw-d": (tagged(6),)}
    lab.put(more)
    lab.put({"hw-d": None})
    seen = lab.tables.seen(FILTER)
    assert lab.tables.fingerprint(FILTER) == seen
    lab.put(CHAINS)
    before = lab.tables.seen(FILTER)
    lab.tool(FILTER, *tampering)
    assert lab.tables.fingerprint(FILTER) != before
    lab.put({**CHAINS, "hw-c": None}, {"INPUT": HOOK})
    assert lab.own() == CHAINS


def test_a_small_write_reads_back_what_it_wrote(lab, monkeypatch):
    lab.put(CHAINS, {"INPUT": HOOK})
    monkeypatch.setattr(Handle, "commit", lambda _: None)  # as if somebody had undone it at once
    for chains in ({"hw-b": (tagged(2),)}, {"hw-d": (tagged(6),)}, {"hw-b": None, "hw-a": ()}):
        with pytest.raises(KernelError, match="not as it was written"):
            lab.put(chains)
    monkeypatch.undo()
    lab.tables.learn(FILTER, [rule for chain in CHAINS.values() for rule in chain])
    assert lab.own() == CHAINS


def test_a_whole_flush_is_repaired(lab):
    lab.put(CHAINS, {"INPUT": HOOK})
    lab.tool(FILTER, "-F")
    lab.tool(FILTER, "-X")
    assert lab.own() == {}
    lab.put(CHAINS, {"INPUT": HOOK})
    assert lab.own() == CHAINS


def test_a_table_is_read_anew_only_where_it_changed_and_always_right(lab):
    lab.put(CHAINS, {"INPUT": HOOK})
    assert lab.own() == CHAINS
    lab.tool(FILTER, "-A", "hw-b", "-p", "udp", "-j", "DROP")
    *known, foreign = lab.own()["hw-b"]
    assert tuple(known) == CHAINS["hw-b"]
    assert isinstance(foreign, Unknown)
    # A chain before ours moves every place in the blob, and with them what jumps say in it.
    lab.tool(FILTER, "-N", "aaa")
    lab.tool(FILTER, "-A", "aaa", "-p", "udp")
    assert lab.own()["hw-a"] == CHAINS["hw-a"]
    lab.tables.learn(FILTER, [Rule((Protocol(17),), DROP)])
    assert lab.own()["hw-b"] == (*CHAINS["hw-b"], Rule((Protocol(17),), DROP))


# --- sets --------------------------------------------------------------------------------------------------------------
def make_set(lab, name):
    lab.ns.run("ipset", "create", name, "hash:net")


def test_a_set_index_that_was_given_to_another_set_is_not_written(lab):
    """libraries 1.2: kept bytes with the old index made a rule that matched another set."""
    rule = Rule((InSet("hw4-a", ("src",)),), ACCEPT)
    make_set(lab, "hw4-a")
    lab.put({"hw-a": (rule,)}, {"INPUT": HOOK})
    lab.put({"hw-a": ()})
    lab.ns.run("ipset", "destroy", "hw4-a")
    make_set(lab, "hw4-c")
    make_set(lab, "hw4-a")
    lab.put({"hw-a": (rule,)})
    assert lab.rules("hw-a") == ["-A hw-a -m set --match-set hw4-a src -j ACCEPT"]


def test_a_set_index_that_was_given_to_another_set_is_noticed(lab):
    """The table's bytes are the same as before; what they mean isn't."""
    rule = Rule((InSet("hw4-a", ("src",)),), ACCEPT)
    make_set(lab, "hw4-a")
    lab.put({"hw-a": (rule,)}, {"INPUT": HOOK})
    assert lab.own() == {"hw-a": (rule,)}
    seen = lab.tables.seen(FILTER)
    lab.tool(FILTER, "-F", "hw-a")
    lab.ns.run("ipset", "destroy", "hw4-a")
    make_set(lab, "hw4-c")
    lab.tool(FILTER, "-A", "hw-a", "-m", "set", "--match-set", "hw4-c", "src", "-j", "ACCEPT")
    make_set(lab, "hw4-a")
    assert lab.tables.fingerprint(FILTER) != seen
    assert isinstance(lab.own()["hw-a"][0], Unknown)
    lab.put({"hw-a": (rule,)})
    assert lab.rules("hw-a") == ["-A hw-a -m set --match-set hw4-a src -j ACCEPT"]


def test_swapped_sets_keep_their_names_in_rules(lab):
    rule = Rule((InSet("hw4-a", ("src",)),), ACCEPT)
    make_set(lab, "hw4-a")
    make_set(lab, "hw4-b")
    lab.put({"hw-a": (rule,)}, {"INPUT": HOOK})
    lab.ns.run("ipset", "swap", "hw4-a", "hw4-b")
    lab.ns.run("ipset", "destroy", "hw4-b")
    assert lab.own() == {"hw-a": (rule,)}


def test_a_rule_whose_set_is_missing_is_tried_again_later(lab):
    with pytest.raises(KernelError, match="hw4-none") as refused:
        lab.put({"hw-a": (Rule((InSet("hw4-none", ("src",)),), ACCEPT),)}, {"INPUT": HOOK})
    assert refused.value.retry
    assert lab.own() == {}


# --- the lock and lost races -------------------------------------------------------------------------------------------
def test_a_lock_that_somebody_holds_is_waited_for_and_its_holder_named(tmp_path):
    path = tmp_path / "xtables.lock"
    hold = "import fcntl,sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(KernelError, match=f"pid {holder.pid}") as refused, XtablesLock(path, 0.1).held():
            pytest.fail("entered while another process holds the lock")
        assert refused.value.retry
        threading.Timer(0.1, holder.stdin.close).start()
        with XtablesLock(path, 20.0).held():
            assert holder.wait(10) == 0


def test_the_lock_is_one_that_iptables_takes_and_may_be_entered_again(lab):
    environment = {**os.environ, "XTABLES_LOCKFILE": str(lab.lock_path)}
    command = ["ip", "netns", "exec", lab.ns.name, "iptables-legacy", "-w", "1", "-A", "INPUT", "-j", "ACCEPT"]

    def exit_code():
        return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=30).returncode

    with lab.tables.lock():
        with lab.tables.lock():
            lab.put(CHAINS, {"INPUT": HOOK})
        assert exit_code() == 4
    assert exit_code() == 0
    assert lab.lock_path.stat().st_mode & 0o777 == 0o600


def test_an_edit_waits_for_the_lock_by_itself(lab):
    with lab.lock_path.open("w") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        lab.tables._lock._timeout = 0.05
        with pytest.raises(KernelError) as refused:
            lab.put(CHAINS, {"INPUT": HOOK})
        assert refused.value.retry
    assert lab.own() == {}
    lab.put(CHAINS, {"INPUT": HOOK})
    assert lab.own() == CHAINS


def test_a_commit_after_a_writer_that_ignores_the_lock_is_a_lost_race(lab):
    lab.put(CHAINS, {"INPUT": HOOK})
    with Handle(FILTER) as handle:
        lab.tool(FILTER, "-A", "OUTPUT", "-j", "ACCEPT")
        handle.append("hw-b", Encoder(4).encode(tagged(9)).entry)
        with pytest.raises(KernelError, match="without the xtables lock") as lost:
            handle.commit()
    assert lost.value.retry
    assert lab.own() == CHAINS
    assert lab.rules("OUTPUT") == ["-A OUTPUT -j ACCEPT"]
    lab.put({"hw-b": (tagged(9),)})
    assert lab.own()["hw-b"] == (tagged(9),)


def test_a_commit_that_somebody_undid_at_once_is_noticed(lab, monkeypatch):
    commit = Handle.commit

    def undone(handle):
        commit(handle)
        lab.tool(FILTER, "-F", "hw-b")

    monkeypatch.setattr(Handle, "commit", undone)
    with pytest.raises(KernelError, match="hw-b is not as it was written") as lost:
        lab.put(CHAINS, {"INPUT": HOOK})
    assert lost.value.retry


def test_what_another_table_relies_on_is_read_back_first(lab):
    mangle = TableId(4, "mangle")
    lab.tables.apply(TableEdit(FILTER, CHAINS, {"INPUT": HOOK}))
    lab.tool(FILTER, "-F", "hw-b")
    lab.tables.apply(TableEdit(TableId(6, "mangle"), {"hw-m": (tagged(1),)}, {}))  # no packet meets both families
    with pytest.raises(KernelError, match="hw-b is not as it was written") as lost:
        lab.tables.apply(TableEdit(mangle, {"hw-m": (tagged(1),)}, {}))
    assert lost.value.retry
    assert lab.own(mangle) == {}


def test_what_was_not_read_back_is_with_the_next_change(lab):
    lab.put(CHAINS, {"INPUT": HOOK})
    lab.tables.apply(TableEdit(FILTER, {"hw-b": (tagged(7),)}, {}))
    lab.tool(FILTER, "-F", "hw-b")
    lab.tables.apply(TableEdit(FILTER, {"hw-a": (tagged(8),)}, {}))
    assert lab.tables.unverified() == [FILTER]
    with pytest.raises(KernelError, match="hw-b is not as it was written"):
        lab.tables.verify(FILTER)


def test_what_was_not_read_back_is_noticed_by_a_look(lab):
    lab.put(CHAINS, {"INPUT": HOOK})
    lab.tables.apply(TableEdit(FILTER, {"hw-b": (tagged(7),)}, {}))
    left = lab.tables.seen(FILTER)
    lab.tool(FILTER, "-F", "hw-b")
    assert lab.tables.fingerprint(FILTER) != left
    assert lab.tables.unverified() == []


def test_a_second_thread_is_refused(lab):
    """libraries 1.3, fault 11."""
    lab.own()
    refusals = []

    def call():
        for function in (lab.tables.fingerprint, lab.tables.read_table, lab.tables.counters):
            try:
                function(FILTER)
            except RuntimeError as refusal:
                refusals.append(str(refusal))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert len(refusals) == 3
    lab.own()


# --- what python-iptables would do to the kernel -----------------------------------------------------------------------
def loaded_tables(family):
    with open(f"/proc/thread-self/net/ip{'' if family == 4 else '6'}_tables_names", encoding="ascii") as names:
        return sorted(names.read().split())


@pytest.mark.parametrize("family", [4, 6])
def test_encoding_opens_no_table(lab, family):
    """libraries 1.3, fault 10: a target's name was looked up as a chain, in all tables."""
    assert loaded_tables(family) == []
    encoder = Encoder(family)
    for target in (Jump("hw-unknown"), ACCEPT, Log(f"fence-{family}")):
        encoder.encode(Rule((), target))
    compat.compile_target(family, "CT", [("notrack", (), False)])
    assert loaded_tables(family) == []
    lab.tables.read_table(TableId(family, "raw"))
    assert loaded_tables(family) == ["raw"]


def test_a_chain_that_is_called_like_a_target_changes_no_entry(lab):
    """The same look-up found the chain, and made a jump of the target."""
    before = compat.compile_target(4, "CT", [("notrack", (), False)])
    with Handle(TableId(4, "raw")) as handle:
        handle.create("CT")
        handle.commit()
    assert compat.compile_target(4, "CT", [("notrack", (), False)]) == before


def test_a_table_that_changes_while_it_is_read_is_read_again(lab, monkeypatch):
    """Size and number of entries stay the same here, so the kernel sees no difference; where chains start does change."""
    lab.tool(FILTER, "-A", "INPUT", "-p", "udp", "-j", "DROP")
    ask = TableSocket._get
    asked = []

    def interrupted(socket, level, option, request):
        if len(asked) == 1:  # after the outline, before the entries
            lab.ns.run("iptables-legacy-restore", "-n", data="*filter\n-D INPUT 1\n-A OUTPUT -p udp -j DROP\nCOMMIT\n")
        asked.append(option)
        return ask(socket, level, option, request)

    monkeypatch.setattr(TableSocket, "_get", interrupted)
    read = lab.tables.read_table(FILTER).builtins
    assert len(asked) == 6
    assert {name: len(rules) for name, rules in read.items()} == {"INPUT": 0, "FORWARD": 0, "OUTPUT": 1}


def test_nothing_stays_open(lab):
    """Handles and sockets of edits, refused ones too, and of reads."""

    def some_of_everything():
        for number in range(3):
            lab.put({"hw-a": (tagged(number),)}, {"INPUT": HOOK})
            with pytest.raises(KernelError):
                lab.put({"hw-a": (Rule((), Jump("hw-a")),)})
            with pytest.raises(KernelError):
                lab.put({"hw-b": (Rule((InSet("none", ("src",)),), ACCEPT),)})
            lab.tables.counters(FILTER)
            lab.tables.fingerprint(FILTER)

    some_of_everything()
    before = os.listdir("/proc/self/fd")
    some_of_everything()
    assert len(os.listdir("/proc/self/fd")) == len(before)
