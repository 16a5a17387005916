"""Our entries against those that the system's tool puts into the kernel, for every match and target of both families."""

from __future__ import annotations

import pytest

from hostward.dataplane.kernel import KernelError, Unknown
from hostward.dataplane.xtables.tables import XTables
from hostward.render.ruleset import (
    ACCEPT,
    DROP,
    FAMILIES,
    RETURN,
    ConnectionMark,
    Hook,
    IcmpType,
    InSet,
    Interface,
    Jump,
    Limit,
    Log,
    Mark,
    Net,
    NoTrack,
    PortSet,
    Protocol,
    Reject,
    ReversePath,
    Rule,
    SetMark,
    State,
    TableId,
)
from tests.lab.xtables import FILTER, entered_lab

pytestmark = pytest.mark.kernel
BOTH = (False, True)
TCP = Protocol(6)


@pytest.fixture
def lab(tmp_path):
    with entered_lab(tmp_path) as lab:
        yield lab


def matches(family):
    nets = ("10.1.2.0/24", "192.0.2.1/32", "0.0.0.0/0") if family == 4 else ("fd00:1::/33", "2001:db8::1/128", "::/0")
    icmp = Protocol(1 if family == 4 else 58)
    yield from ((Interface("in", "eth0"),), (Interface("out", "eth0.4094-abcde"),), (Interface("in", "cali", prefix=True),))
    yield (Interface("in", "a"), Interface("out", "abcdefghijklmn", prefix=True))
    yield from ((Protocol(number),) for number in (6, 17, 112, 132, 136, 255))
    yield (Protocol(6, negate=True),)
    yield from ((Net(side, net, negate),) for side in ("src", "dst") for net in nets for negate in BOTH)
    yield (Net("src", nets[0], negate=True), Net("dst", nets[1]))
    slots = tuple((port, port) for port in range(1, 16))
    ranges = (((80, 80),), ((0, 65535),), ((80, 81), (443, 443)), slots)
    for protocol in (6, 17, 132):
        yield from ((Protocol(protocol), PortSet(s, r, n)) for s in ("src", "dst") for r in ranges for n in BOTH)
    yield from ((icmp, IcmpType(t, c, n)) for t in (0, 3, 8, 128, 143, 254) for c in (None, 0, 4) for n in BOTH)
    for states in (("RELATED", "ESTABLISHED"), ("INVALID",), ("DNAT",), ("NEW", "UNTRACKED"), ("SNAT",)):
        yield from ((State(states, negate),) for negate in BOTH)
    yield from ((ConnectionMark(value, mask),) for value, mask in ((0x40000000, 0x40000000), (0, 1), (1, 0xFFFFFFFF)))
    yield from ((Mark(value, mask, n),) for value, mask in ((0, 0x10000), (0xFFFFFFFF, 0xFFFFFFFF), (1, 3)) for n in BOTH)
    dimensions = (("src",), ("dst",), ("src", "src"), ("dst", "dst"))
    yield from ((InSet(f"hw{family}-two", d, n),) for d in dimensions for n in BOTH)
    yield (InSet(f"hw{family}-one", ("src",)), TCP, PortSet("dst", ((1, 9),)), InSet(f"hw{family}-two", ("dst",), negate=True))
    yield from ((Limit(rate, burst),) for rate in ("1/second", "10/minute", "100/hour", "7/day") for burst in (0, 1, 200))
    yield (TCP, Mark(1, 1), InSet(f"hw{family}-one", ("dst",)), Limit("5/minute", 3))


def targets(table):
    yield from (ACCEPT, DROP, RETURN, Jump("hw-other"), Jump("hw-other", goto=True), Jump("hw-x" + 24 * "y"))
    yield from (Log("x"), Log('calico-packet: "it\'s" \\ ;#!'), Log("!"), Log("!bang"), Log("--log-level"), Log("a" * 29))
    if table == "mangle":
        yield from (SetMark(0x10000, 0x1F0000), SetMark(0, 0xFFFFFFFF), SetMark(0xFFFFFFFF, 0))
    if table == "raw":
        yield NoTrack()
    if table == "filter":
        yield Reject()


def all_rules(table):
    comments = ("", "hw:x", "policy:a_b-c./d", "ends-with-set", "xxset", "c" * 255)
    if table.name == "filter":
        yield from (Rule(m, ACCEPT, f"{n}") for n, m in enumerate(matches(table.family)))
        # The set's name as data where a match's name could stand.
        yield from (Rule((InSet(f"hw{table.family}-one", ("src",)),), DROP, "x" * n + "set") for n in range(9))
        yield Rule((), ACCEPT)
    if table.name == "raw":
        yield Rule((Interface("in", "cali", True), ReversePath()), DROP)
    yield from (Rule((TCP,) if n % 2 else (), target, comments[n % 6]) for n, target in enumerate(targets(table.name)))


def prepared(lab, table):
    for name in ("one", "two"):
        kind = ("hash:net",) if name == "one" else ("hash:ip,port",)
        lab.ns.run("ipset", "create", f"hw{table.family}-{name}", *kind, "family", "inet" if table.family == 4 else "inet6")
    lab.put({"hw-other": (), "hw-x" + 24 * "y": ()}, table=table)
    return tuple(all_rules(table))


@pytest.mark.parametrize("name", ["raw", "mangle", "filter"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_systems_tool_writes_what_we_would(lab, family, name):
    table = TableId(family, name)
    rules = prepared(lab, table)
    lab.restore(table, "hw-theirs", rules)
    lab.tables.learn(table, rules)
    read = lab.own(table)["hw-theirs"]
    assert len(read) == len(rules)
    assert [(r, u) for r, u in zip(rules, read, strict=True) if r != u] == []


@pytest.mark.parametrize("name", ["raw", "mangle", "filter"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_systems_tool_prints_ours_like_its_own(lab, family, name):
    table = TableId(family, name)
    rules = prepared(lab, table)
    lab.restore(table, "hw-theirs", rules)
    lab.put({"hw-ours": rules}, table=table)
    assert [line.replace("hw-ours", "hw-theirs") for line in lab.rules("hw-ours", table)] == lab.rules("hw-theirs", table)
    assert lab.own(table)["hw-ours"] == rules


def test_rules_that_are_not_learnt_are_opaque(lab):
    lab.restore(FILTER, "hw-a", (Rule((TCP,), ACCEPT), Rule((TCP,), DROP), Rule((TCP,), DROP)))
    lab.tables.learn(FILTER, [Rule((TCP,), ACCEPT)])
    known, one, other = lab.own()["hw-a"]
    assert known == Rule((TCP,), ACCEPT)
    assert isinstance(one, Unknown)
    assert one == other
    lab.tables.learn(FILTER, [Rule((TCP,), DROP)])
    assert lab.own()["hw-a"][1:] == (Rule((TCP,), DROP),) * 2


@pytest.mark.parametrize("family", FAMILIES)
def test_of_rules_of_ours_that_are_not_learnt_it_is_known_which_prefix_they_ask_for(lab, family):
    table = TableId(family, "filter")
    asking = {
        "cali": (Interface("in", "cali", prefix=True),),
        "tap": (Interface("out", "tap", prefix=True), TCP),
        "wl": (Interface("in", "eth0"), Interface("out", "wl", prefix=True)),
        "": (Interface("in", "cali+"), Interface("out", "cali1")),
    }
    rules = tuple(Rule(matches, ACCEPT, "hw:accepted") for matches in asking.values())
    lab.put({"hw-a": ()}, {"FORWARD": Hook((Rule((), Jump("hw-a")),), rules)}, table=table)
    lab.tool(table, "-I", "FORWARD", "-i", "foreign+", "-j", "ACCEPT")
    read = XTables(lab.lock_path, 5.0).read_table(table).builtins["FORWARD"]
    assert [rule.prefix for rule in read if isinstance(rule, Unknown)] == ["", "", *asking]


@pytest.mark.parametrize("family", FAMILIES)
def test_of_rules_that_are_not_learnt_it_is_known_what_they_ask_of_the_mark_and_make_of_it(lab, family):
    """Under which `markMask` an earlier process wrote them is known by nothing else."""
    table = TableId(family, "mangle")
    asked = ((Mark(0, 0x20000000), Mark(0x10000000, 0x10000000)), (Mark(0, 0xFF, negate=True),), ())
    entries = tuple(Rule((*marks, State(("DNAT",))), Jump("hw-a")) for marks in asked)
    given = (SetMark(0x10, 0x10), SetMark(0, 0xFF000000))
    own = (*(Rule((), target) for target in given), Rule((Mark(1, 1),), DROP))
    lab.put({"hw-a": own}, {"POSTROUTING": Hook(entries)}, table=table)
    read = XTables(lab.lock_path, 5.0).read_table(table)
    assert [rule.marks for rule in read.builtins["POSTROUTING"]] == [*asked]
    assert [(rule.gives, rule.marks) for rule in read.chains["hw-a"]] == [*((one, ()) for one in given), (None, (Mark(1, 1),))]


def test_rules_of_any_extension_can_stand_beside_ours(lab):
    """Foreign rules are never decoded, whatever they hold."""
    foreign = [
        "-m string --algo bm --string hw-x --to 100",
        "-m hashlimit --hashlimit-name n --hashlimit-upto 5/sec -j LOG",
        "-m statistic --mode nth --every 3 --packet 0 -j ACCEPT",
        "-m recent --name r --set",
        '-m set --match-set hw4-one src -m comment --comment "it\'s \\"quoted\\"" -j NFLOG --nflog-prefix x',
        "-m u32 --u32 6&0xFF=1 -j RETURN",
    ]
    lab.ns.run("ipset", "create", "hw4-one", "hash:net")
    lines = ["*filter", ":f-chain - -", *(f"-A INPUT {r}" for r in foreign), "-A INPUT -j f-chain", "COMMIT", ""]
    lab.ns.run("iptables-legacy-restore", data="\n".join(lines))
    before = lab.rules("INPUT")
    read = lab.tables.read_table(FILTER).builtins["INPUT"]
    assert [type(rule) for rule in read] == [Unknown] * 7
    assert not any(rule.ours for rule in read)
    lab.put({"hw-a": ()}, {"INPUT": Hook((Rule((), Jump("hw-a")),))})
    assert lab.rules("INPUT") == ["-A INPUT -j hw-a", *before]


def test_rules_that_the_kernel_holds_alike_come_back_as_they_were_written(lab):
    """A plan compares values: else it would find a difference for ever."""
    alike = [
        Rule((), ACCEPT),
        Rule((Net("src", "0.0.0.0/0"),), ACCEPT),
        Rule((Net("dst", "0.0.0.0/0"), Net("src", "0.0.0.0/0")), ACCEPT),
    ]
    first, second = tuple(alike), tuple(reversed(alike))
    jumps = tuple(Rule(rule.matches, Jump("hw-a")) for rule in alike)
    lab.tables.learn(FILTER, [*first, *jumps])
    lab.put({"hw-a": first, "hw-b": second, "hw-c": (*jumps, *jumps)})
    assert lab.own() == {"hw-a": first, "hw-b": second, "hw-c": (*jumps, *jumps)}
    lab.put({"hw-d": (), "hw-b": (*second, Rule((), DROP))})
    assert lab.own() == {"hw-a": first, "hw-b": (*second, Rule((), DROP)), "hw-c": (*jumps, *jumps), "hw-d": ()}


@pytest.mark.parametrize(
    "rule",
    [
        Rule((Interface("in", "sixteen-letters-x"),), ACCEPT),
        Rule((Interface("in", ""),), ACCEPT),
        Rule((Interface("in", "eth0\0"),), ACCEPT),
        Rule((Net("src", "fd00::/8"),), ACCEPT),
        Rule((Net("src", "10.0.0.0/33"),), ACCEPT),
        Rule((Net("src", "10.0.0.0/8"), Net("src", "10.0.0.0/9")), ACCEPT),
        Rule((Protocol(256),), ACCEPT),
        Rule((Protocol(0, negate=True),), ACCEPT),
        Rule((TCP, PortSet("dst", tuple((p, p) for p in range(1, 17)))), ACCEPT),
        Rule((Limit("10/fortnight", 5),), ACCEPT),
        Rule((InSet("s" * 32, ("src",)),), ACCEPT),
        Rule((), Jump("c" * 29)),
        Rule((), Jump("two words")),
        Rule((), Log("x" * 30)),
        Rule((), Log("nul\0")),
        Rule((), ACCEPT, "two words"),
        Rule((), ACCEPT, "line\n-A INPUT -j ACCEPT"),
        Rule((), ACCEPT, "c" * 256),
    ],
    ids=str,
)
def test_what_cannot_be_in_a_table_is_refused_with_its_reason(lab, rule):
    with pytest.raises(KernelError) as refused:
        lab.tables.learn(FILTER, [rule])
    assert not refused.value.retry
    assert "filter/v4" in str(refused.value)
