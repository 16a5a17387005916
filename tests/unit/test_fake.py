"""The fake kernel refuses what the real one refuses, and keeps what isn't ours."""

from __future__ import annotations

from array import array

import pytest

from hostward.dataplane.fake import FakeKernel, Foreign, KilledError
from hostward.dataplane.kernel import CreateSet, DestroySet, KernelError, ReplaceSet, Step, TableEdit, Unknown, UpdateSet
from hostward.render.ruleset import (
    ACCEPT,
    DROP,
    Hook,
    IcmpType,
    InSet,
    Interface,
    IPSet,
    Jump,
    Log,
    Mark,
    Net,
    NoTrack,
    PortSet,
    Protocol,
    Reject,
    ReversePath,
    Rule,
    TableId,
    TableName,
)

FILTER = TableId(4, "filter")
NETS = IPSet("hash:net", 4, frozenset({"10.0.0.0/8"}), 4)
JUMP = Rule((), Jump("hw-INPUT"))


@pytest.fixture
def kernel() -> FakeKernel:
    kernel = FakeKernel()
    kernel.apply(CreateSet("hw4-nets", NETS))
    kernel.apply(TableEdit(FILTER, {"hw-INPUT": (Rule((InSet("hw4-nets", ("src",)),), DROP),)}, {"INPUT": Hook((JUMP,))}))
    return kernel


def edit(*rules: Rule, table: TableName = "filter", name: str = "hw-x", family: int = 4) -> TableEdit:
    return TableEdit(TableId(family, table), {name: rules}, {})  # type: ignore[arg-type] # the parameters are 4 and 6


REFUSED: list[tuple[Step, str]] = [
    (edit(Rule((), Jump("hw-nowhere"))), "hw-nowhere"),
    (edit(Rule((), Jump("hw-x"))), "symbolic links"),
    (edit(Rule((InSet("hw4-none", ("src",)),), DROP)), "hw4-none doesn't exist"),
    (edit(Rule((InSet("hw4-nets", ("src",)),), DROP), family=6), "protocol family"),
    (edit(Rule((InSet("hw4-nets", ("src", "src")),), DROP)), "dimensions"),
    (edit(name="hw-" + "x" * 26), "too long"),
    (edit(name="DOCKER"), "none of ours"),
    (edit(Rule((Protocol(6), PortSet("dst", tuple((2 * n, 2 * n) for n in range(16)))), DROP)), "too many ports"),
    (edit(Rule((Protocol(6), PortSet("dst", tuple((9 * n, 9 * n + 1) for n in range(8)))), DROP)), "too many ports"),
    (edit(Rule((PortSet("dst", ((1, 1),)),), DROP)), "multiport needs"),
    (edit(Rule((Protocol(6, negate=True), PortSet("dst", ((1, 1),))), DROP)), "multiport needs"),
    (edit(Rule((Protocol(6), PortSet("dst", ((2, 1),))), DROP)), "port range"),
    (edit(Rule((IcmpType(8),), DROP)), "icmp"),
    (edit(Rule((Net("src", "fd00::/8"),), DROP)), "not found"),
    (edit(Rule((Net("src", "10.0.0.0/8"), Net("src", "10.0.0.0/9")), DROP)), "multiple"),
    (edit(Rule((Interface("in", "x" * 16),), DROP)), "IFNAMSIZ"),
    (edit(Rule((Mark(2, 1),), DROP)), "never matches"),
    (edit(Rule((), Log("x" * 30))), "prefix"),
    (edit(Rule((), DROP, "x" * 256)), "comment"),
    (edit(Rule((), Reject()), table="mangle"), "REJECT"),
    (edit(Rule((), NoTrack())), "CT"),
    (edit(Rule((ReversePath(),), DROP)), "rpfilter: only valid"),
    (TableEdit(TableId(4, "raw"), {}, {"OUTPUT": Hook((Rule((ReversePath(),), DROP),))}), "hooks OUTPUT, but only"),
    (
        TableEdit(
            TableId(4, "raw"),
            {"hw-x": (Rule((ReversePath(),), DROP),), "hw-y": (Rule((), Jump("hw-x")),)},
            {"PREROUTING": Hook((Rule((), Jump("hw-y")),)), "OUTPUT": Hook((Rule((), Jump("hw-y")),))},
        ),
        "hooks OUTPUT, but only",
    ),
    (TableEdit(FILTER, {"hw-none": None}, {}), "hw-none"),
    (TableEdit(FILTER, {"hw-INPUT": None}, {}), "hw-INPUT"),
    (TableEdit(FILTER, {}, {"PREROUTING": Hook()}), "PREROUTING"),
    (TableEdit(FILTER, {}, {"OUTPUT": Hook((Rule((Interface("in", "eth0"),), DROP),))}), "-i"),
    (TableEdit(FILTER, {}, {"INPUT": Hook((Rule((Interface("out", "eth0"),), DROP),))}), "-o"),
    (CreateSet("hw4-nets", NETS), "already exists"),
    (CreateSet("hw4-" + "x" * 28, NETS), "too long"),
    (CreateSet("theirs", NETS), "none of ours"),
    (CreateSet("hw4-x", IPSet("hash:net", 4, frozenset({"fd00::1"}))), "can't hold"),
    (CreateSet("hw4-x", IPSet("hash:net", 4, frozenset({"0.0.0.0/0"}))), "can't hold"),
    (CreateSet("hw4-x", IPSet("hash:ip,port", 4, frozenset({"10.0.0.1"}))), "can't hold"),
    (ReplaceSet("hw4-none", NETS), "does not exist"),
    (ReplaceSet("hw4-nets", IPSet("hash:ip,port", 4)), "type"),
    (UpdateSet("hw4-none", 4, frozenset(), frozenset()), "does not exist"),
    (UpdateSet("hw4-nets", 4, frozenset(f"10.0.0.{n}" for n in range(4)), frozenset()), "full"),
    (DestroySet("hw4-nets"), "in use"),
]


@pytest.mark.parametrize(("step", "message"), REFUSED, ids=[f"{type(step).__name__}-{text}" for step, text in REFUSED])
def test_it_refuses(kernel: FakeKernel, step: Step, message: str) -> None:
    chains, builtins = {**kernel.chains}, {**kernel.builtins}
    with pytest.raises(KernelError, match=message) as refused:
        kernel.apply(step)
    assert refused.value.step == step
    assert (kernel.chains, kernel.builtins) == (chains, builtins)


def test_it_takes_what_fits(kernel: FakeKernel) -> None:
    kernel.apply(edit(Rule((Protocol(6), PortSet("dst", (*((9 * n, 9 * n + 1) for n in range(7)), (99, 99)))), DROP)))
    kernel.apply(edit(Rule((), Reject()), name="hw-" + "x" * 25))
    kernel.apply(edit(Rule((), NoTrack()), table="raw"))
    kernel.apply(edit(Rule((ReversePath(),), DROP), table="mangle"))
    kernel.apply(TableEdit(FILTER, {"hw-INPUT": None}, {"INPUT": Hook()}))
    kernel.apply(DestroySet("hw4-nets"))
    kernel.apply(DestroySet("hw4-nets"))
    assert kernel.sets == {}


def test_foreign_rules_stay_where_they_are_between_ours(kernel: FakeKernel) -> None:
    theirs = [Foreign(text, Rule((), ACCEPT)) for text in (b"one", b"two")]
    kernel.builtins[FILTER]["INPUT"] = (theirs[0], JUMP, theirs[1])
    kernel.apply(TableEdit(FILTER, {}, {"INPUT": Hook((JUMP,), (Rule((), DROP),))}))
    assert kernel.builtins[FILTER]["INPUT"] == (JUMP, *theirs, Rule((), DROP))


def test_only_learnt_rules_are_recognised(kernel: FakeKernel) -> None:
    kernel.builtins[FILTER]["INPUT"] += (Foreign(b"theirs", Rule((), DROP)),)
    unknown = kernel.read_table(FILTER)
    assert [(rule.ours, isinstance(rule, Unknown)) for rule in unknown.builtins["INPUT"]] == [(True, True), (False, True)]  # type: ignore[union-attr] # the second element says so
    kernel.learn(FILTER, [JUMP])
    assert kernel.read_table(FILTER).builtins["INPUT"] == (JUMP, Unknown(b"theirs"))
    kernel.forget()
    assert kernel.read_table(FILTER) == unknown


def test_families_are_apart(kernel: FakeKernel) -> None:
    assert kernel.read_table(TableId(6, "filter")).chains == {}
    assert set(kernel.read_sets()) == {"hw4-nets"}


def test_an_update_can_be_watched_and_cut_off_between_two_members(kernel: FakeKernel) -> None:
    seen: list[list[str]] = []
    kernel.on_change = lambda: seen.append(sorted(kernel.sets["hw4-nets"].members))
    kernel.kill_after = kernel.changes + 2
    with pytest.raises(KilledError):
        kernel.apply(UpdateSet("hw4-nets", 4, frozenset({"10.1.0.0", "10.2.0.0"}), frozenset({"10.0.0.0/8"})))
    assert seen == [["10.0.0.0/8", "10.1.0.0"], ["10.0.0.0/8", "10.1.0.0", "10.2.0.0"]]


def test_a_killed_replace_leaves_the_old_content_or_the_new(kernel: FakeKernel) -> None:
    new = IPSet("hash:net", 4, frozenset({"10.7.0.0/16"}), 8)
    for changes, expected in ((1, NETS), (2, new)):
        kernel.kill_after = kernel.changes + changes
        with pytest.raises(KilledError):
            kernel.apply(ReplaceSet("hw4-nets", new))
        assert kernel.sets["hw4-nets"] == expected
        assert len(kernel.sets) == 2


def test_a_refusal_can_be_injected_and_the_lock_is_exclusive(kernel: FakeKernel) -> None:
    kernel.refuse = lambda step: KernelError("busy", step=step, retry=True)
    with pytest.raises(KernelError, match="busy"):
        kernel.apply(DestroySet("hw4-nets"))
    with kernel.lock(), pytest.raises(KernelError, match="lock"), kernel.lock():
        pass
    with kernel.lock():
        assert kernel.counters(FILTER) == {"hw-INPUT": array("Q", (0, 0))}


def test_headers_can_be_read_without_members(kernel: FakeKernel) -> None:
    header = kernel.read_sets(["hw4-nets", "hw4-none"], members=False)["hw4-nets"]
    assert (header.members, header.count, header.max_members) == (None, 1, 4)


def test_what_others_change_is_noticed(kernel: FakeKernel) -> None:
    assert kernel.changed(TableId(6, "raw"))  # never read
    kernel.read_table(FILTER)
    assert not kernel.changed(FILTER)
    kernel.apply(TableEdit(FILTER, {"hw-INPUT": (Rule((), DROP),)}, {}))
    assert not kernel.changed(FILTER)
    kernel.chains[FILTER]["hw-INPUT"] = ()
    assert kernel.changed(FILTER)
