"""The plan: between any two changes no packet passes that both states deny, and none is dropped that both allow."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hostward.dataplane.fake import FakeKernel, KilledError
from hostward.dataplane.transition import renamed
from hostward.engine.applier import Applier
from hostward.model.resolved import Resolved, ResolvedEndpoint, ResolvedWorkload
from hostward.render.evaluate import Packet
from hostward.render.marks import Marks
from hostward.render.ruleset import DROP, Hook, Rule, Ruleset, Table, TableId
from tests.unit import worlds
from tests.unit.kernels import add_foreign, assert_holds, carry_out, install, watch, with_foreign

SEEDS = st.integers(0, 2**48)
PACKETS = 40


def ready(seed: int) -> tuple[random.Random, FakeKernel, list[Packet]]:
    rng = random.Random(seed)
    kernel = FakeKernel()
    if rng.random() < 0.5:
        add_foreign(kernel)
    return rng, kernel, [worlds.packet(rng) for _ in range(PACKETS)]


def otherwise_named(ruleset: Ruleset) -> Ruleset:
    """The same rules in chains that all have other names."""
    tables = {}
    for where, table in ruleset.tables.items():
        names = {name: f"hw-chain-{number}" for number, name in enumerate(table.chains)}
        chains = {names[name]: renamed(chain, names, {}) for name, chain in table.chains.items()}
        hooks = {name: Hook(renamed(h.first, names, {}), renamed(h.last, names, {})) for name, h in table.hooks.items()}
        tables[where] = Table(chains, hooks)
    return Ruleset(tables, ruleset.sets)


@settings(max_examples=120, deadline=None)
@given(SEEDS)
def test_no_packet_meets_a_mix_of_two_states(seed: int) -> None:
    rng, kernel, packets = ready(seed)
    old = worlds.world(rng)
    new = worlds.ruleset(worlds.neighbour(rng, old))
    install(kernel, worlds.ruleset(old))
    watch(kernel, packets, new)
    carry_out(kernel, new)
    assert_holds(kernel, new)


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_sets_that_change_together_change_at_one_moment(seed: int) -> None:
    rng, kernel, packets = ready(seed)
    old = worlds.world(rng)
    new = worlds.ruleset(worlds.other_members(rng, old))
    install(kernel, worlds.ruleset(old))
    watch(kernel, packets, new)
    carry_out(kernel, new)
    assert_holds(kernel, new)


def test_the_first_endpoint_does_not_judge_forwarded_packets_as_if_they_were_local() -> None:
    """POSTROUTING's rules rely on a mark that FORWARD sets; where both are new, one must not come without the other."""
    options = replace(worlds.OPTIONS, forward_all=False)
    kernel = FakeKernel()
    install(kernel, worlds.ruleset(Resolved(), options))
    new = worlds.ruleset(Resolved({"eth1": ResolvedEndpoint("eth1", "eth1")}), options)
    packet = Packet(4, "forward", "10.0.0.1", "10.0.0.2", 6, 1, 80, "eth0", "eth1", dnat=("10.0.0.5", 80))
    watch(kernel, [packet], new)
    carry_out(kernel, new)
    assert_holds(kernel, new)


@pytest.mark.parametrize("comes", [True, False])
def test_a_workload_is_lent_addresses_and_shut_at_one_moment(comes: bool) -> None:
    """raw knows from where it may send, filter what: a packet that neither state lets pass must not meet half of each."""
    world = worlds.world(random.Random(0))
    own = ResolvedWorkload("cali1", "default/cali1", ("10.0.0.1",), profiles=("open",))
    lent = replace(own, profiles=(), spoofable=("10.0.0.5/32",))
    states = [Resolved(profiles=world.profiles, workloads={"cali1": each}) for each in (own, lent)]
    old, new = (worlds.ruleset(state) for state in (states if comes else reversed(states)))
    kernel = FakeKernel()
    install(kernel, old)
    spoofed = Packet(4, "forward", "10.0.0.5", "10.0.0.2", 6, 1, 80, "cali1", "eth0", spoofed=True)
    watch(kernel, [spoofed], new)
    carry_out(kernel, new)
    assert_holds(kernel, new)


@pytest.mark.parametrize("names", ["ours", "others"])
@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_rules_of_an_older_version_stay_in_force_until_the_new_ones_are(names: str, seed: int) -> None:
    """Another version wrote other rules, under our names or not: none of them is known, nor is the jump to them."""
    rng, kernel, packets = ready(seed)
    old = worlds.world(rng)
    before = worlds.ruleset(old)
    install(kernel, before if names == "ours" else otherwise_named(before))
    for chains in (*kernel.chains.values(), *kernel.builtins.values()):
        for name, chain in chains.items():
            chains[name] = tuple(replace(rule, comment="hw:old") if isinstance(rule, Rule) else rule for rule in chain)
    new = worlds.ruleset(worlds.neighbour(rng, old))
    watch(kernel, packets, new)
    carry_out(kernel, new)
    assert_holds(kernel, new)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_the_first_start_and_the_cleanup_are_changes_like_others(seed: int) -> None:
    rng, kernel, packets = ready(seed)
    desired = worlds.ruleset(worlds.world(rng))
    for goal in (desired, Ruleset()):
        watch(kernel, packets, goal)
        carry_out(kernel, goal)
        assert_holds(kernel, goal)


@settings(max_examples=120, deadline=None)
@given(SEEDS)
def test_a_killed_change_is_taken_up_from_wherever_it_stopped(seed: int) -> None:
    rng, kernel, packets = ready(seed)
    world = worlds.world(rng)
    if rng.random() < 0.7:
        install(kernel, worlds.ruleset(world))
    for _ in range(3):
        world = worlds.neighbour(rng, world)
        desired = worlds.ruleset(world) if rng.random() < 0.9 else Ruleset()
        watch(kernel, packets, desired)
        kernel.kill_after = kernel.changes + rng.randrange(16)
        try:
            carry_out(kernel, desired)
        except KilledError:
            if rng.random() < 0.5:
                kernel.forget()
    kernel.kill_after = None
    final = worlds.ruleset(world if rng.random() < 0.5 else worlds.neighbour(rng, world))
    watch(kernel, packets, final)
    carry_out(kernel, final)
    assert_holds(kernel, final)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_both_families_and_other_settings(seed: int) -> None:
    """A change of settings changes roots, failsafes and the end of FORWARD as well."""
    rng = random.Random(seed)
    kernel = FakeKernel()
    packets = [worlds.packet(rng, family) for family in (4, 6) for _ in range(PACKETS // 2)]
    both = replace(worlds.OPTIONS, families=(4, 6))
    other = replace(
        both,
        filter_allow="RETURN",
        mangle_allow="RETURN",
        forward_all=False,
        failsafe_in=(),
        allow_spoofing=False,
        to_host="DROP",
    )
    goals = [both, other, worlds.OPTIONS]
    world = worlds.world(rng)
    for options in rng.sample(goals, 3):
        goal = worlds.ruleset(world, options)
        watch(kernel, packets, goal)
        carry_out(kernel, goal)
        assert_holds(kernel, goal)
        world = worlds.neighbour(rng, world)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_a_process_with_other_settings_knows_what_the_last_one_wrote_into_kernel_chains(seed: int) -> None:
    """Rules there ask for workloads' interfaces by prefixes that this one doesn't have, or accept where this one doesn't."""
    rng = random.Random(seed)
    kernel, packets = FakeKernel(), [worlds.packet(rng) for _ in range(PACKETS)]
    add_foreign(kernel)
    world = worlds.world(rng)
    for kills in (True, True, False):
        prefixes = rng.choice((("cali",), ("cali1", "cali"), ("eth1", "cali"), ("cali1",), ()))
        options = replace(worlds.OPTIONS, workload_prefixes=prefixes, filter_allow=rng.choice(("ACCEPT", "RETURN")))
        desired = worlds.ruleset(world, options)
        watch(kernel, packets, desired)
        kernel.kill_after = kernel.changes + rng.randrange(16) if kills else None
        with suppress(KilledError):
            Applier(kernel).bring(desired, worlds.MARKS)
        kernel.forget()
        world = worlds.neighbour(rng, world)
    assert_holds(kernel, desired)


@settings(max_examples=120, deadline=None)
@given(SEEDS)
def test_other_marks_are_a_change_like_others_whatever_bits_packets_come_with(seed: int) -> None:
    """The bit that tells two trees apart is one that nobody gave packets or took from them before.

    A process that starts knows none of the masks before its own, of which several may be in the kernel if it was killed.
    """
    rng, kernel, packets = ready(seed)
    world, masks = worlds.world(rng), (0x3F0000, 0x3F000000, 0x1F8000, 0x7E0000)
    Applier(kernel).bring(worlds.ruleset(world), worlds.MARKS)
    for _ in range(4):
        marks = Marks.from_mask(rng.choice(masks))
        desired = worlds.ruleset(world, replace(worlds.OPTIONS, marks=marks))
        watch(kernel, packets, desired)
        kernel.kill_after = kernel.changes + rng.randrange(24)
        if rng.random() < 0.7:
            kernel.forget()
        with suppress(KilledError):
            Applier(kernel).bring(desired, marks)
        world = worlds.neighbour(rng, world)
    kernel.kill_after = None
    watch(kernel, packets, desired)
    Applier(kernel).bring(desired, marks)
    assert kernel.chains == {
        where: dict(desired.tables[where].chains) if where in desired.tables else {} for where in kernel.chains
    }


def test_a_bit_with_another_end_under_the_last_mask_does_not_tell_two_trees_apart() -> None:
    """Its sixth bit says of a packet that nat OUTPUT rewrote it, as long as the old rules are there."""
    endpoint = ResolvedEndpoint("eth0", "eth0")
    kernel, marks = FakeKernel(), Marks.from_mask(0x1F8000)
    install(kernel, worlds.ruleset(Resolved({"eth0": endpoint})))
    new = worlds.ruleset(Resolved({"eth0": replace(endpoint, isolated=True)}), replace(worlds.OPTIONS, marks=marks))
    packet = Packet(4, "output", "10.0.0.1", "10.0.0.2", 6, 1, 80, out_interface="eth0", dnat=("10.0.0.5", 80))
    watch(kernel, [packet, replace(packet, mark=0xFFFFFFFF)], new)
    Applier(kernel).bring(new, marks)
    assert kernel.filter_state() == with_foreign(kernel, new)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_whatever_somebody_did_is_put_right(seed: int) -> None:
    rng, kernel, _ = ready(seed)
    world = worlds.world(rng)
    desired = worlds.ruleset(world)
    install(kernel, desired)
    if rng.random() < 0.4:  # in the middle of a change, too
        kernel.kill_after = rng.randrange(1, 12)
        desired = worlds.ruleset(worlds.neighbour(rng, world))
        try:
            carry_out(kernel, desired)
        except KilledError:
            kernel.kill_after = None
        kernel.kill_after = None
    for _ in range(rng.randrange(1, 4)):
        tamper(rng, kernel)
    carry_out(kernel, desired)
    assert_holds(kernel, desired)


def tamper(rng: random.Random, kernel: FakeKernel) -> None:
    """One thing that an administrator or another program may do."""
    where = TableId(4, rng.choice(("raw", "mangle", "filter")))
    chains, builtins = kernel.chains[where], kernel.builtins[where]
    name, hook = rng.choice(sorted(chains) or ["hw-left"]), rng.choice(sorted(builtins))
    match rng.randrange(8):
        case 0:  # iptables -F
            kernel.chains[where] = dict.fromkeys(chains, ())
            kernel.builtins[where] = dict.fromkeys(builtins, ())
        case 1:  # iptables -F and -X
            kernel.chains[where] = {}
            kernel.builtins[where] = dict.fromkeys(builtins, ())
        case 2:
            chains[name] = (Rule((), DROP),)
        case 3:
            chains["hw-stale"] = (*chains.get(name, ()), Rule((), DROP))
        case 4:
            builtins[hook] = builtins[hook][1:]
        case 5:
            builtins[hook] = tuple(rng.sample(builtins[hook], len(builtins[hook])))
        case 6:
            builtins[hook] = (*builtins[hook], *builtins[hook])
        case _ if kernel.sets:
            name = rng.choice(sorted(kernel.sets))
            kernel.sets[name] = replace(kernel.sets[name], members=frozenset())
