"""What the benchmarks' floor and emulated peer write follows from what the kernel held before and after."""

from __future__ import annotations

import pytest
from benchmarks import dumps
from benchmarks.floor_edits import ends

BEFORE = """\
# a comment
*filter
:INPUT ACCEPT [0:0]
:one - [0:0]
:two - [0:0]
-A INPUT -j one
-A one -p udp -j DROP
-A two -j ACCEPT
COMMIT
"""
AFTER = BEFORE.replace("-A one -p udp -j DROP", "-A one -p udp -j ACCEPT\n-A one").replace(":two - [0:0]\n", ":new - [0:0]\n")
AFTER = AFTER.replace("-A two -j ACCEPT", "-A new -j DROP")


def test_the_chains_that_differ_are_written_whole() -> None:
    changed = dumps.differences(BEFORE, AFTER)
    assert changed["filter"].chains == {"one": ["-p udp -j ACCEPT", ""], "new": ["-j DROP"], "two": None}
    assert dumps.differences(BEFORE, BEFORE) == {}
    assert dumps.script(changed).splitlines() == [
        "*filter",
        ":one - [0:0]",
        ":new - [0:0]",
        "-A one -p udp -j ACCEPT",
        "-A one ",
        "-A new -j DROP",
        "-F two",
        "-X two",
        "COMMIT",
    ]
    assert dumps.rules(AFTER) == 4


def test_members_that_differ() -> None:
    old = "create a hash:net family inet\nadd a 10.0.0.1\nadd a 10.0.0.2\ncreate b hash:net family inet6\n"
    new = "create a hash:net family inet\nadd a 10.0.0.1\nadd a 10.0.0.3\n"
    assert dumps.set_script(old, new) == "add a 10.0.0.3\ndel a 10.0.0.2\n"


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [("", "", (0, 0)), ("abc", "abc", (3, 0)), ("abc", "abxc", (2, 1)), ("aa", "aaa", (2, 0)), ("ab", "cd", (0, 0))],
)
def test_what_is_the_same_at_both_ends(old: str, new: str, same: tuple[int, int]) -> None:
    assert ends([*map(str.encode, old)], [*map(str.encode, new)]) == same
