"""The fake kernel as tests of the plan use it: filled, planned for, watched between any two changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from hostward.dataplane.fake import FakeKernel, Foreign
from hostward.dataplane.kernel import Step
from hostward.dataplane.plan import ActualState, plan, rules_of, vocabulary
from hostward.render.evaluate import FilterState, Members, Outcome, Packet, evaluate
from hostward.render.ruleset import DROP, Net, Rule, Ruleset, TableId
from tests.unit.worlds import MARKS

FOREIGN = (
    ("raw", "PREROUTING", Rule((Net("src", "10.0.0.2/32"), Net("dst", "10.0.0.5/32")), DROP)),
    ("mangle", "PREROUTING", Rule((Net("src", "10.0.0.5/32"), Net("dst", "10.0.0.1/32")), DROP)),
    ("filter", "INPUT", Rule((Net("src", "10.0.0.1/32"), Net("dst", "10.0.0.2/32")), DROP)),
    ("filter", "OUTPUT", Rule((Net("src", "10.0.0.1/32"), Net("dst", "10.0.0.5/32")), DROP)),
)


def install(kernel: FakeKernel, desired: Ruleset) -> None:
    """Puts a ruleset into the kernel without a plan."""
    kernel.sets = dict(desired.sets)
    for where, table in desired.tables.items():
        kernel.chains[where] = dict(table.chains)
        for name, hook in table.hooks.items():
            kernel.builtins[where][name] = (*hook.first, *foreign_rules(kernel, where, name), *hook.last)


def foreign_rules(kernel: FakeKernel, where: TableId, name: str) -> tuple[Foreign, ...]:
    return tuple(rule for rule in kernel.builtins[where][name] if isinstance(rule, Foreign))


def add_foreign(kernel: FakeKernel) -> None:
    """Other people's rules in between, and a FORWARD that drops what nobody accepts."""
    for table, name, rule in FOREIGN:
        where = TableId(4, table)
        kernel.builtins[where][name] = (*kernel.builtins[where][name], Foreign(repr(rule).encode(), rule))
    kernel.policies.add((TableId(4, "filter"), "FORWARD"))


def steps_to(kernel: FakeKernel, desired: Ruleset) -> tuple[Step, ...]:
    for where, rules in vocabulary(desired, MARKS).items():
        kernel.learn(where, rules)
    actual = ActualState({where: kernel.read_table(where) for where in kernel.chains}, kernel.read_sets())
    return plan(actual, desired, MARKS)


def carry_out(kernel: FakeKernel, desired: Ruleset) -> tuple[Step, ...]:
    steps = steps_to(kernel, desired)
    for where, rules in rules_of(steps).items():
        kernel.learn(where, rules)
    for step in steps:
        kernel.apply(step)
    return steps


def verdicts(packets: Iterable[Packet], state: FilterState) -> list[bool]:
    return [evaluate(packet, state).accepted for packet in packets]


def with_foreign(kernel: FakeKernel, desired: Ruleset) -> FilterState:
    """What packets meet when the kernel holds a ruleset, beside the foreign rules that it has."""
    other = FakeKernel()
    for where, chains in kernel.builtins.items():
        other.builtins[where] = {name: foreign_rules(kernel, where, name) for name in chains}
    other.policies = set(kernel.policies)
    install(other, desired)
    return other.filter_state()


class _Changing(dict[str, Members]):
    """Sets that change when they have been looked at so often."""

    def __init__(self, before: FilterState, after: FilterState, looks: int) -> None:
        super().__init__(before.sets)
        self.after, self.left = after.sets, looks

    def get(self, name: str, _: object = None) -> Members | None:  # type: ignore[override] # as evaluation calls it
        self.left -= 1
        return super().get(name) if self.left >= 0 else self.after.get(name)


def on_their_way(packet: Packet, before: FilterState, after: FilterState) -> Iterator[Outcome]:
    """What becomes of a packet during whose way sets change, at each moment between two looks at any."""
    looks = 0
    while True:
        looks += 1
        sets = _Changing(before, after, looks)
        outcome = evaluate(packet, replace(before, sets=sets))
        if sets.left >= 0:
            return
        yield outcome


def watch(kernel: FakeKernel, packets: Sequence[Packet], desired: Ruleset) -> None:
    """From here on each change is held against the verdicts before all of them and those of `desired`.

    Packets that are on their way while a set changes are watched too: they may have looked at it and look again.
    """
    before, goal = verdicts(packets, kernel.filter_state()), verdicts(packets, with_foreign(kernel, desired))
    settled = [(packet, old) for packet, old, new in zip(packets, before, goal, strict=True) if old == new]
    last = [kernel.filter_state()]

    def check() -> None:
        earlier, state = last[0], kernel.filter_state()
        last[0] = state
        for packet, accepted in settled:
            outcomes = [evaluate(packet, state)]
            if state.sets != earlier.sets:
                outcomes += on_their_way(packet, earlier, state)
            for outcome in outcomes:
                assert outcome.accepted == accepted, (
                    f"{packet}: {outcome} after change {kernel.changes}, but {accepted} before and then"
                )

    kernel.on_change = check


def assert_holds(kernel: FakeKernel, desired: Ruleset) -> None:
    """The kernel holds exactly this, and a plan for it is empty."""
    assert steps_to(kernel, desired) == ()
    expected = FakeKernel()
    for where, chains in kernel.builtins.items():
        expected.builtins[where] = {name: foreign_rules(kernel, where, name) for name in chains}
    install(expected, desired)
    assert kernel.sets == expected.sets
    assert kernel.chains == expected.chains
    assert kernel.builtins == expected.builtins
