"""Sets in the real kernel, compared with what the system's own tool sees."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest

from hostward.dataplane.ipsets import IPSets
from hostward.dataplane.kernel import CreateSet, DestroySet, KernelError, ReplaceSet, UpdateSet
from hostward.render.ruleset import IPSet
from tests.lab.netns import Namespace

pytestmark = pytest.mark.kernel


@pytest.fixture
def ns():
    namespace = Namespace("sets")
    yield namespace
    namespace.close()


@pytest.fixture
def sets(ns):
    with ns.entered(), IPSets() as sets:
        yield sets


def saved(ns, name):
    """The members of a set as `ipset save` prints them; None when there is no such set."""
    text = ns.run("ipset", "save", name, check=False)
    rows = [line.split(" ", 2) for line in text.splitlines()]
    return {row[2] for row in rows if row[0] == "add"} if rows else None


def names(ns):
    return set(ns.run("ipset", "list", "-n").split())


def hosts(family, count, start=0):
    if family == 4:
        return frozenset(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(start, start + count))
    return frozenset(
        f"2001:db8:{n >> 16:x}:{n & 0xFFFF:x}::1" for n in range(start + 65537, start + 65537 + count) if n & 0xFFFF
    )


SAMPLES = {
    ("hash:net", 4): {"10.0.0.0/8", "10.1.2.3", "0.0.0.0/1", "128.0.0.0/1", "192.168.0.0/31"},
    ("hash:net", 6): {"2001:db8::/32", "2001:db8::1", "::/1", "8000::/1", "::ffff:1.2.3.4", "fe80::/10", "::1"},
    ("hash:ip,port", 4): {"10.1.2.3,tcp:80", "10.1.2.3,udp:80", "10.1.2.3,sctp:65535", "10.9.9.9,tcp:0"},
    ("hash:ip,port", 6): {"2001:db8::1,tcp:80", "2001:db8::1,udp:53", "::1,sctp:1"},
}


@pytest.mark.parametrize(("kind", "family"), SAMPLES)
def test_every_type_and_family_is_what_the_tool_sees(ns, sets, kind, family):
    name, members = f"hw{family}-abc", frozenset(SAMPLES[kind, family])
    sets.apply(CreateSet(name, IPSet(kind, family, members, max_members=77)))
    assert saved(ns, name) == members
    assert names(ns) == {name}
    actual = sets.read_sets()[name]
    assert (actual.type, actual.family, actual.max_members, actual.members, actual.count) == (
        kind, family, 77, members, len(members),
    )  # fmt: skip
    gone = min(members)
    sets.apply(UpdateSet(name, family, frozenset(), frozenset({gone})))
    assert saved(ns, name) == members - {gone}
    sets.apply(UpdateSet(name, family, members, frozenset()))  # most are there already: no error
    sets.apply(UpdateSet(name, family, frozenset(), frozenset({gone})))
    sets.apply(UpdateSet(name, family, frozenset(), frozenset({gone})))  # already gone: no error
    assert sets.read_sets([name])[name].members == members - {gone} == saved(ns, name)
    sets.apply(DestroySet(name))
    sets.apply(DestroySet(name))
    assert sets.read_sets() == {}


@pytest.mark.parametrize(("kind", "family"), SAMPLES)
def test_a_hundred_thousand_members(ns, sets, kind, family, record_property):
    members = hosts(family, 100_000)
    if kind == "hash:ip,port":
        members = frozenset(f"{member},udp:53" for member in members)
    name = f"hw{family}-many"
    start = time.perf_counter()
    sets.apply(CreateSet(name, IPSet(kind, family, members)))
    filled = time.perf_counter()
    assert sets.read_sets([name])[name].members == members
    record_property("members_per_second_written", round(len(members) / (filled - start)))
    record_property("members_per_second_read", round(len(members) / (time.perf_counter() - filled)))
    assert saved(ns, name) == members


def test_reading_only_headers_and_only_our_sets(ns, sets):
    ns.run(
        "ipset", "restore", data="create other hash:net\nadd other 10.0.0.0/8\ncreate hw5-x hash:net\ncreate hw4- hash:net\n"
    )
    sets.apply(CreateSet("hw4-a", IPSet("hash:net", 4, frozenset({"10.0.0.1", "10.0.0.2"}))))
    read = sets.read_sets(members=False)
    assert set(read) == {"hw4-", "hw4-a"}
    assert (read["hw4-a"].members, read["hw4-a"].count) == (None, 2)
    assert set(sets.read_sets(["hw4-a", "hw4-missing", "other"])) == {"hw4-a"}
    assert sets.read_sets([]) == {}


def test_of_looks_at_headers_only_the_last_is_kept(ns, sets):
    sets.apply(CreateSet("hw4-b", IPSet("hash:net", 4, frozenset())))
    for number in range(1, 20):
        sets.apply(UpdateSet("hw4-b", 4, frozenset({f"10.0.0.{number}"}), frozenset()))
        assert sets.read_sets(members=False)["hw4-b"].count == number
    assert len(sets._headers) == len(names(ns))


def test_a_set_made_by_somebody_else_shows_that_it_is_not_ours(ns, sets):
    ns.run(
        "ipset", "restore",
        data="create hw4-a hash:ip\nadd hw4-a 10.0.0.1\ncreate hw4-b hash:net timeout 60 counters\n"
        "create hw4-c hash:net forceadd\n"
        "create hw4-d hash:net\nadd hw4-d 10.0.0.0/8 nomatch\nadd hw4-d 10.1.0.0/16\ncreate hw4-e hash:net family inet6\n"
        "create hw4-f hash:ip,port\nadd hw4-f 10.0.0.1,gre:0\nadd hw4-f 10.0.0.1,tcp:1\n",
    )  # fmt: skip
    read = sets.read_sets()
    assert {name: read[name].type for name in ("hw4-a", "hw4-b", "hw4-c")} == {
        "hw4-a": "hash:ip",
        "hw4-b": "hash:net with counters, timeout",
        "hw4-c": "hash:net with forceadd",
    }
    assert (read["hw4-a"].members, read["hw4-a"].count) == (frozenset(), 1)
    assert read["hw4-d"].members == {"10.0.0.0/8 nomatch", "10.1.0.0/16"}
    assert (read["hw4-e"].type, read["hw4-e"].family) == ("hash:net", 6)
    assert read["hw4-f"].members == {"10.0.0.1,47:0", "10.0.0.1,tcp:1"}

    # A member with an option is repaired in place, or removed.
    sets.apply(UpdateSet("hw4-d", 4, frozenset({"10.0.0.0/8"}), frozenset({"10.0.0.0/8 nomatch"})))
    assert saved(ns, "hw4-d") == {"10.0.0.0/8", "10.1.0.0/16"}
    ns.run("ipset", "add", "hw4-d", "10.2.0.0/16", "nomatch")
    sets.apply(UpdateSet("hw4-d", 4, frozenset(), frozenset({"10.2.0.0/16 nomatch"})))
    sets.apply(UpdateSet("hw4-f", 4, frozenset(), frozenset({"10.0.0.1,47:0"})))
    assert (saved(ns, "hw4-d"), saved(ns, "hw4-f")) == ({"10.0.0.0/8", "10.1.0.0/16"}, {"10.0.0.1,tcp:1"})
    # Options go away by replacement; another type or family cannot be swapped in.
    sets.apply(ReplaceSet("hw4-b", IPSet("hash:net", 4, frozenset({"10.0.0.1"}))))
    assert sets.read_sets()["hw4-b"].type == "hash:net"
    before = names(ns)
    for name in ("hw4-a", "hw4-e"):
        with pytest.raises(KernelError, match=f"{name}.*another type or family") as caught:
            sets.apply(ReplaceSet(name, IPSet("hash:net", 4, frozenset({"10.0.0.1"}))))
        assert not caught.value.retry
    assert names(ns) == before


def test_replacing_and_destroying_a_set_that_a_rule_uses(ns, sets):
    sets.apply(CreateSet("hw4-a", IPSet("hash:net", 4, frozenset({"10.0.0.1"}), max_members=2)))
    rule = ("INPUT", "-m", "set", "--match-set", "hw4-a", "src", "-j", "DROP")
    ns.run("iptables-legacy", "-A", *rule)
    bigger = IPSet("hash:net", 4, frozenset({"10.0.0.2", "10.0.0.3", "10.0.0.4"}), max_members=10)
    sets.apply(ReplaceSet("hw4-a", bigger))
    assert (saved(ns, "hw4-a"), names(ns)) == (bigger.members, {"hw4-a"})
    assert "hw4-a src" in ns.run("iptables-legacy", "-S")
    with pytest.raises(KernelError, match="hw4-a: cannot be destroyed, 1 rules or sets use it") as caught:
        sets.apply(DestroySet("hw4-a"))
    assert caught.value.step == DestroySet("hw4-a")
    ns.run("iptables-legacy", "-D", *rule)
    sets.apply(DestroySet("hw4-a"))
    assert names(ns) == set()


def test_a_full_set_says_so_and_nothing_half_done_gets_a_name(ns, sets):
    members = frozenset({"10.0.0.1", "10.0.0.2", "10.0.0.3"})
    for step in (CreateSet("hw4-a", IPSet("hash:net", 4, members, 2)), ReplaceSet("hw4-a", IPSet("hash:net", 4, members, 2))):
        with pytest.raises(KernelError, match=r"hw4-a.*3 members \(at most 2\): it is full \(error 4352\)") as caught:
            sets.apply(step)
        assert (caught.value.step, caught.value.retry, names(ns)) == (step, False, set())
    sets.apply(CreateSet("hw4-a", IPSet("hash:net", 4, frozenset({"10.0.0.1"}), 2)))
    with pytest.raises(KernelError, match=r"hw4-a.*it is full") as caught:
        sets.apply(UpdateSet("hw4-a", 4, members, frozenset()))
    assert not caught.value.retry


@pytest.mark.parametrize(
    ("step", "says", "retry"),
    [
        (CreateSet("hw4-a", IPSet("hash:net", 4, frozenset({"10.0.0.1"}))), "exists already", True),
        (CreateSet("hw4-b", IPSet("hash:net", 4, frozenset({"10.0.0.1", "10.0.0.1/32"}))), "holds 1 of 2 members", True),
        (CreateSet("hw4-b", IPSet("hash:net", 4, frozenset({"0.0.0.0/0"}))), "two halves", False),
        (UpdateSet("hw4-a", 4, frozenset({"::/0"}), frozenset()), "two halves", False),
        (UpdateSet("hw4-a", 4, frozenset(), frozenset({"2001:db8::1"})), "no IPv4 network", False),
        (UpdateSet("hw4-a", 6, frozenset({"2001:db8::1"}), frozenset()), "hw4-a: 1 members cannot be added to it", True),
        (
            UpdateSet("hw4-a", 4, frozenset(), frozenset({"10.0.0.1,tcp:80"})),
            "hw4-a: 1 members cannot be removed from it",
            True,
        ),
        (UpdateSet("hw4-b", 4, frozenset({"10.0.0.1"}), frozenset()), "does not exist", True),
        (ReplaceSet("hw4-b", IPSet("hash:net", 4)), "does not exist", True),
        (CreateSet("other", IPSet("hash:net", 4)), "none of ours", False),
        (DestroySet("cali40s:abc"), "none of ours", False),
        (CreateSet("hw4-" + 28 * "x", IPSet("hash:net", 4)), "none of ours", False),
    ],
)
def test_a_step_that_cannot_be_done_leaves_everything_as_it_was(ns, sets, step, says, retry):
    sets.apply(CreateSet("hw4-a", IPSet("hash:net", 4, frozenset({"10.9.9.9"}))))
    with pytest.raises(KernelError, match=says) as caught:
        sets.apply(step)
    assert (caught.value.step, caught.value.retry) == (step, retry)
    assert (names(ns), saved(ns, "hw4-a")) == ({"hw4-a"}, {"10.9.9.9"})


def test_the_longest_name_works(ns, sets):
    name = "hw4-" + 27 * "x"
    sets.apply(CreateSet(name, IPSet("hash:net", 4)))
    assert names(ns) == {name}


def test_what_a_killed_agent_left_is_seen_reused_and_walked_around(ns, sets):
    ns.run("ipset", "restore", data="create hw4~~0 hash:ip family inet\nadd hw4~~0 10.0.0.1\n")
    assert set(sets.read_sets()) == {"hw4~~0"}
    sets.apply(CreateSet("hw4-a", IPSet("hash:net", 4, frozenset({"10.0.0.2"}))))
    assert (names(ns), saved(ns, "hw4-a")) == ({"hw4-a"}, {"10.0.0.2"})
    ns.run("ipset", "create", "hw4~~0", "hash:net")
    ns.run("iptables-legacy", "-A", "INPUT", "-m", "set", "--match-set", "hw4~~0", "src")
    sets.apply(ReplaceSet("hw4-a", IPSet("hash:net", 4, frozenset({"10.0.0.3"}))))
    assert (names(ns), saved(ns, "hw4-a")) == ({"hw4-a", "hw4~~0"}, {"10.0.0.3"})


KILLED = """
import sys
from hostward.dataplane.ipsets import IPSets
from hostward.dataplane.kernel import ReplaceSet
from hostward.render.ruleset import IPSet
sets = IPSets()
contents = [frozenset(f"10.{start}.{n >> 8}.{n & 255}" for n in range(20_000)) for start in (0, 1)]
print("ready", flush=True)
for round in range(10_000):
    sets.apply(ReplaceSet("hw4-a", IPSet("hash:net", 4, contents[round % 2])))
"""


def test_an_agent_killed_in_the_middle_leaves_the_old_content_or_the_new(ns, sets):
    contents = [frozenset(f"10.{start}.{n >> 8}.{n & 255}" for n in range(20_000)) for start in (0, 1)]
    sets.apply(CreateSet("hw4-a", IPSet("hash:net", 4, contents[1])))
    left, kills, delays = 0, 0, random.Random(1)
    while kills < 8 or (left < 2 and kills < 100):  # a fill takes milliseconds: most kills come before or after one
        kills += 1
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        )
        try:
            assert child.stdout.readline() == b"ready\n"
            time.sleep(delays.uniform(0.01, 0.08))
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait(10)
            child.stdout.close()
        read = sets.read_sets()
        assert read["hw4-a"].members in contents
        assert set(read) <= {"hw4-a", "hw4~~0"}
        left += len(read) - 1
    assert left, f"none of {kills} kills left a temporary set: the test must hit the middle"
    sets.apply(ReplaceSet("hw4-a", IPSet("hash:net", 4, frozenset({"10.0.0.1"}))))
    assert names(ns) == {"hw4-a"}


def test_no_socket_to_be_had_is_an_error_that_passes(sets):
    step = CreateSet("hw4-a", IPSet("hash:net", 4))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(KernelError, match="Too many open files") as caught:
            sets.apply(step)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (caught.value.step, caught.value.retry) == (step, True)
    sets.apply(step)
    assert set(sets.read_sets()) == {"hw4-a"}


def test_a_thousand_operations_keep_one_socket(sets):
    sets.read_sets()
    before = len(os.listdir("/proc/self/fd"))
    for n in range(250):
        sets.apply(CreateSet("hw4-a", IPSet("hash:net", 4, frozenset({f"10.0.0.{n}"}))))
        sets.apply(UpdateSet("hw4-a", 4, frozenset({"10.1.0.0/16"}), frozenset({f"10.0.0.{n}"})))
        with pytest.raises(KernelError):
            sets.apply(ReplaceSet("hw4-b", IPSet("hash:net", 4)))
        sets.apply(DestroySet("hw4-a"))
    assert len(os.listdir("/proc/self/fd")) == before
    sets.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert sets.read_sets() == {}  # opens another
