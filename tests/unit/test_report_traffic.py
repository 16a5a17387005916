"""Counts of rules: totals that only grow whatever becomes of the rules, by labels whose number is bounded."""

from __future__ import annotations

import time
from array import array

from hypothesis import given
from hypothesis import strategies as st

from hostward.render.ruleset import DROP, RETURN, Chain, Hook, Rule, Table, TableId
from hostward.report.counters import Growth, Tally
from hostward.report.metrics import Metrics
from hostward.report.traffic import MOST_POLICIES, Amount, Drop, PolicyLabels, Title, Traffic

FILTER, RAW = TableId(4, "filter"), TableId(4, "raw")


def rules(*meanings: str) -> Chain:
    return tuple(Rule((), DROP, counter=meaning) for meaning in meanings)


def table(**chains: Chain) -> Table:
    return Table({f"hw-{name}": chain for name, chain in chains.items()}, {"INPUT": Hook()})


def counts(**packets: tuple[int, ...]) -> dict[str, array[int]]:
    """Of each packet ten bytes."""
    return {f"hw-{name}": array("Q", [n * k for n in of for k in (1, 10)]) for name, of in packets.items()}


def grown(found: dict[str, Growth]) -> dict[str, int]:
    assert all(growth.bytes == 10 * growth.packets for growth in found.values())
    return {meaning: growth.packets for meaning, growth in found.items()}


def test_the_first_look_takes_what_is_there() -> None:
    found = Tally().observe(FILTER, table(a=rules("x", "", "y"), b=rules("x")), counts(a=(3, 9, 0), b=(4,)), [])
    assert grown(found) == {"x": 7, "y": 0}


def test_only_what_changed_is_looked_at() -> None:
    tally, wanted = Tally(), table(a=rules("x"), b=rules("y"))
    tally.observe(FILTER, wanted, counts(a=(3,), b=(4,)), [])
    assert tally.observe(FILTER, wanted, counts(a=(3,), b=(4,)), []) == {}
    assert grown(tally.observe(FILTER, wanted, counts(a=(3,), b=(6,)), [])) == {"y": 2}
    assert tally.observe(RAW, table(), counts(), []) == {}
    assert set(tally.held()) == {"x", "y"}


def test_rules_that_an_edit_removed_are_not_forgotten() -> None:
    tally = Tally()
    tally.observe(FILTER, table(a=rules("x", "x", "y")), counts(a=(3, 4, 5)), [])
    edited = table(a=rules("x", "x", "x", "y"))  # the second went, when it had counted 6; two came
    found = tally.observe(FILTER, edited, counts(a=(3, 1, 0, 7)), [("hw-a", "x", 6, 60)])
    assert grown(found) == {"x": 2 + 1, "y": 2}
    assert found["x"][2:] == (6, 60)  # what the kernel no longer knows
    found = tally.observe(FILTER, table(), counts(), [("hw-a", "x", 9, 90), ("hw-a", "y", 8, 80)])
    assert grown(found) == {"x": 5, "y": 1}
    assert grown(tally.observe(FILTER, table(), counts(), [("hw~b", "x", 2, 20)])) == {"x": 2}  # of a copy for a moment


def test_counters_that_somebody_set_to_zero_begin_again() -> None:
    tally, wanted = Tally(), table(a=rules("x"))
    tally.observe(FILTER, wanted, counts(a=(50,)), [])
    found = tally.observe(FILTER, wanted, counts(a=(2,)), [])
    assert grown(found) == {"x": 2}
    assert found["x"].lost_packets == 50


def test_rules_that_others_put_beside_ours_for_a_moment_count_nothing_twice() -> None:
    tally, wanted = Tally(), table(a=rules("x"))
    tally.observe(FILTER, wanted, counts(a=(50,)), [])
    assert tally.observe(FILTER, wanted, counts(a=(7, 51)), []) == {}  # theirs, and ours
    found = tally.observe(FILTER, wanted, counts(a=(53,)), [])
    assert grown(found) == {"x": 3}
    assert found["x"].lost_packets == 0
    # As an edit that is half done leaves it: ours went when it had counted 54, and others came.
    assert tally.observe(FILTER, wanted, counts(a=(0, 0)), [("hw-a", "x", 54, 540)]) == {}
    assert grown(tally.observe(FILTER, wanted, counts(a=(2,)), [("hw-a", "x", 1, 10)])) == {"x": 1 + 1 + 2}


@given(st.lists(st.tuples(st.lists(st.sampled_from("xy"), max_size=3), st.data())))
def test_totals_are_the_kernel_s_and_what_it_lost(steps: list[tuple[list[str], st.DataObject]]) -> None:
    tally, totals, lost = Tally(), dict.fromkeys("xy", 0), dict.fromkeys("xy", 0)
    for meanings, data in steps:
        packets = tuple(data.draw(st.integers(0, 9)) for _ in meanings)
        found = tally.observe(FILTER, table(a=rules(*meanings)), counts(a=packets), [])
        for meaning, growth in found.items():
            assert growth.packets >= 0
            totals[meaning] += growth.packets
            lost[meaning] += growth.lost_packets
        held = {m: sum(n for n, each in zip(packets, meanings, strict=True) if each == m) for m in "xy"}
        assert totals == {meaning: lost[meaning] + held[meaning] for meaning in "xy"}


def take(traffic: Traffic, packets: dict[str, int], titles: dict[str, Title]) -> None:
    traffic.take({meaning: Growth(n, 10 * n, 0, 0) for meaning, n in packets.items()}, titles, set)


def test_meanings_become_labels() -> None:
    traffic = Traffic()
    titles = {"gnp/t.web": Title("t", "gnp/web"), "pro/p": Title("", "pro/p")}
    for _ in range(2):
        take(
            traffic,
            {
                "policy ingress allow gnp/t.web": 3,
                "policy ingress deny gnp/t.web": 1,
                "policy egress deny pro/p": 2,
                "drop eth0 ingress no-policy": 4,
                "drop \udce9\udcff egress invalid": 5,
                "failsafe ingress tcp": 6,
            },
            titles,
        )
    assert traffic.policies() == {
        PolicyLabels("t", "gnp/web", "ingress", "allow"): Amount(6, 60),
        PolicyLabels("t", "gnp/web", "ingress", "deny"): Amount(2, 20),
        PolicyLabels("", "pro/p", "egress", "deny"): Amount(4, 40),
    }
    assert traffic.drops == {
        Drop("*", "ingress", "policy"): 2,
        Drop("*", "egress", "policy"): 4,
        Drop("eth0", "ingress", "no-policy"): 8,
        Drop("\\xe9\\xff", "egress", "invalid"): 10,
    }
    assert traffic.failsafes == {("ingress", "tcp"): 12}


def by_policy(traffic: Traffic) -> dict[str, int]:
    return {labels.policy: amount.packets for labels, amount in traffic.policies().items()}


def test_a_policy_keeps_its_series_until_another_needs_them() -> None:
    traffic, titles = Traffic(most_policies=2), {f"gnp/{name}": Title("t", f"gnp/{name}") for name in "abc"}
    take(traffic, {f"policy ingress allow gnp/{name}": 1 for name in "abc"}, titles)
    assert by_policy(traffic) == {"gnp/a": 1, "gnp/b": 1, "other": 1}
    del titles["gnp/a"]
    take(traffic, {"policy ingress allow gnp/b": 1}, titles)
    assert {labels.policy for labels in traffic.policies()} == {"gnp/a", "gnp/b", "other"}
    take(traffic, {"policy ingress allow gnp/c": 1}, titles)
    assert by_policy(traffic) == {"gnp/b": 2, "gnp/c": 1, "other": 1}
    take(traffic, {"policy ingress allow gnp/c": 0}, titles | {"gnp/c": Title("u", "gnp/c")})  # moved to another tier
    assert PolicyLabels("u", "gnp/c", "ingress", "allow") in traffic.policies()


def test_a_hundred_thousand_policies_make_a_small_and_quick_scrape() -> None:
    titles = {f"gnp/{'x' * 40}-{number}": Title("default", f"gnp/{'x' * 40}-{number}") for number in range(100_000)}
    traffic, metrics = Traffic(), Metrics(version="1", node="w1")
    meanings = [f"policy {direction} {action} {title}" for title in titles for direction, action in (
        ("ingress", "allow"), ("ingress", "deny"), ("egress", "allow"), ("egress", "deny"))]  # fmt: skip # one thought
    take(traffic, dict.fromkeys(meanings, 1), titles)
    metrics.counted(traffic, policies=True)
    began = time.process_time()
    text = metrics.text()
    assert time.process_time() - began < 5  # 0.1 s where nothing else runs
    assert len(text) < 5 << 20
    shown = [labels for labels in traffic.policies() if labels.policy != "other"]
    assert len({labels.policy for labels in shown}) == MOST_POLICIES
    assert sum(amount.packets for amount in traffic.policies().values()) == 400_000
    metrics.counted(traffic, policies=False)
    assert b"hostward_policy_packets" not in metrics.text()


def test_interfaces_that_come_and_go_for_ever_are_bounded() -> None:
    traffic = Traffic()
    for number in range(12_000):
        traffic.take({f"drop cali{number} ingress no-policy": Growth(1, 1, 0, 0)}, {}, lambda: {"drop cali5 ingress no-policy"})
    assert Drop("cali5", "ingress", "no-policy") in traffic.drops
    assert len(traffic.drops) <= 10_000


def test_rules_without_a_meaning_are_not_kept() -> None:
    tally = Tally()
    tally.observe(FILTER, table(a=(Rule((), RETURN),)), counts(a=(7,)), [])
    assert set(tally.held()) == set()
