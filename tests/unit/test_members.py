"""A set that is cheap to change says what a plain set says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostward.model.members import Members

NAMES = st.frozensets(st.sampled_from([f"m{number}" for number in range(40)]))
CHANGES = st.lists(st.tuples(NAMES, NAMES), max_size=12)


@given(NAMES, CHANGES)
def test_changes_are_those_of_a_plain_set(first: frozenset[str], changes: list[tuple[frozenset[str], frozenset[str]]]) -> None:
    plain, members = set(first), Members(first)
    before, old = frozenset(first), members
    for add, remove in changes:
        plain = (plain - remove) | add
        newer = members.changed(add, remove)
        for since, was in ((old, before), (members, members.whole())):
            assert newer.since(since) == (plain - was, was - plain)
            assert newer.since(was) == (plain - was, was - plain)
        members = newer
        assert members == plain
        assert plain == members
        assert members == Members(plain)
        assert hash(members) == hash(Members(plain)) == hash(frozenset(plain))
        assert len(members) == len(plain)
        assert set(members) == plain
        assert all((name in members) == (name in plain) for name in (*plain, *first, "other"))
        assert (members | {"x"}, members - {"m1"}, members & {"m1"}) == (plain | {"x"}, plain - {"m1"}, plain & {"m1"})
    assert old == first


def test_a_change_of_a_large_set_copies_nothing() -> None:
    large = Members(str(number) for number in range(10_000))
    one = large.changed(frozenset({"x"}), frozenset({"7"}))
    assert one._base is large._base
    assert one.since(large) == ({"x"}, {"7"})
    assert one.changed(frozenset({"7"}), frozenset({"x"})) == large
    assert large != one
