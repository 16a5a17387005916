"""Which addresses a rule's nets and selectors match, by packets, v4 and v6 (statements.md R-7, R-20..R-32; decision D9)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.lab.cells import INTERNET, PUBLIC, addresses
from tests.lab.host import Document, document, endpoint, policy
from tests.lab.matrix import Matrix, short

pytestmark = pytest.mark.kernel

Cells = Mapping[str, bool]


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    with Matrix() as matrix:
        yield matrix


# --- nets ----------------------------------------------------------------------------------------------------------------
EVEN = list(range(7000, 7040, 2))  # 20 single ports: more than one multiport match holds
EVEN_SOURCES = list(range(7100, 7142, 2))
FROM_0, FROM_1, FROM_2, FROM_3 = (f"in tcp 80 from={n}" for n in range(4))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"source": {"nets": addresses(INTERNET, 0)}}, {FROM_0: True, FROM_1: False}),
        ({"source": {"nets": ["203.0.113.5/32"]}}, {f"{FROM_0} v4": True, f"{FROM_1} v4": False, f"{FROM_0} v6": False}),
        (
            {"source": {"nets": ["203.0.113.4/31", "2001:db8:5::6/127"]}},
            {f"{FROM_0} v4": True, f"{FROM_1} v4": False, f"{FROM_1} v6": True, f"{FROM_2} v6": True, f"{FROM_0} v6": False},
        ),
        ({"source": {"nets": addresses(INTERNET, 0, 2)}}, {FROM_0: True, FROM_1: False, FROM_2: True, FROM_3: False}),
        ({"source": {"notNets": addresses(INTERNET, 0)}}, {FROM_0: False, FROM_1: True}),
        ({"source": {"notNets": addresses(INTERNET, 0, 2)}}, {FROM_0: False, FROM_1: True, FROM_2: False, FROM_3: True}),
        (
            {"source": {"notNets": ["203.0.113.5/32"]}},
            {f"{FROM_0} v4": False, f"{FROM_1} v4": True, f"{FROM_1} v6": False},
        ),
        (
            {"source": {"nets": ["203.0.113.0/24", "2001:db8:5::/64"], "notNets": addresses(INTERNET, 1)}},
            {FROM_0: True, FROM_1: False},
        ),
        ({"source": {"nets": ["0.0.0.0/0", "::/0"]}}, {FROM_0: True, FROM_3: True}),
        ({"source": {"nets": ["0.0.0.0/0", "10.0.0.0/8", "::/0", "fd00::/8"]}}, {FROM_0: True, FROM_3: True}),  # I-6
        (
            {
                "source": {"nets": addresses(INTERNET, 0, 1), "notNets": addresses(INTERNET, 1, 2)},
                "destination": {"nets": addresses(PUBLIC, 0, 1), "notNets": addresses(PUBLIC, 1, 2)},
            },
            {
                "in tcp 80": True,
                "in tcp 80 from=1": False,
                "in tcp 80 to=1": False,
                "in tcp 80 from=3": False,
                "in tcp 80 to=2": False,
            },
        ),
        (
            {"source": {"nets": addresses(INTERNET, 0, 1)}, "destination": {"nets": addresses(PUBLIC, 0, 1)}},
            {
                "in tcp 80": True,
                "in tcp 80 from=1 to=1": True,
                "in tcp 80 to=2": False,
                "in tcp 80 from=3": False,
                "in tcp 80 from=2 to=2": False,
            },
        ),
    ],
    ids=short,
)
def test_nets(matrix: Matrix, rule: Document, expected: Cells) -> None:
    """R-7, R-30, R-32."""
    matrix.shows(rule, expected)


def test_many_ports_and_several_nets_on_both_sides_at_once(matrix: Matrix) -> None:
    """R-46, Felix's bug that must not be ours: udp, 16 and more ports, two source nets, two destination nets."""
    rule = {
        "protocol": "UDP",
        "source": {"nets": addresses(INTERNET, 0, 1)},
        "destination": {"nets": addresses(PUBLIC, 0, 1), "ports": EVEN},
    }
    expected = {
        "in udp 7000": True,
        "in udp 7038 from=1 to=1": True,
        "in udp 7000 from=2": False,
        "in udp 7038 to=2": False,
        "in udp 7038 from=3 to=2": False,
        "in udp 7001": False,
        "in udp 7039 from=1 to=1": False,
    }
    matrix.shows(rule, expected)
    with_sources = {**rule, "source": {**rule["source"], "ports": EVEN_SOURCES}}  # type: ignore[dict-item] # a rule's fields
    matrix.shows(
        with_sources,
        {
            "in udp 7000 sport=7100": True,
            "in udp 7038 from=1 to=1 sport=7140": True,
            "in udp 7000 sport=7101": False,
            "in udp 7001 sport=7100": False,
            "in udp 7000 from=2 sport=7100": False,
            "in udp 7000 to=2 sport=7100": False,
        },
    )


def test_nets_outbound(matrix: Matrix) -> None:
    rule = {"protocol": "TCP", "destination": {"nets": addresses(INTERNET, 0, 2), "ports": [80]}}
    expected = {"out tcp 80": True, "out tcp 80 to=2": True, "out tcp 80 to=1": False, "out tcp 81": False}
    matrix.shows(rule, expected, egress=True)
    rule = {"source": {"notNets": addresses(PUBLIC, 1)}, "destination": {"notNets": addresses(INTERNET, 0, 2)}}
    expected = {"out tcp 80": False, "out tcp 80 to=1": True, "out tcp 80 from=1 to=1": False, "out tcp 80 to=2": False}
    matrix.shows(rule, expected, egress=True)


# --- selectors -----------------------------------------------------------------------------------------------------------
SETS = [
    document("GlobalNetworkSet", "good", labels={"kind": "good", "zone": "a"}, nets=addresses(INTERNET, 0)),
    document("GlobalNetworkSet", "both", labels={"kind": "good"}, nets=["203.0.113.6/31", "2001:db8:5::6/127"]),
    document("GlobalNetworkSet", "bad", labels={"kind": "bad"}, nets=addresses(INTERNET, 2)),
    document("GlobalNetworkSet", "server", labels={"kind": "server"}, nets=addresses(PUBLIC, 0)),
    document("GlobalNetworkSet", "none", labels={"kind": "none"}, nets=[]),
    document("GlobalNetworkSet", "world", labels={"kind": "world"}, nets=["0.0.0.0/0", "::/0"]),
]
THERE = document(
    "HostEndpoint", "there", labels={"role": "client"}, node="elsewhere", interfaceName="eth7", expectedIPs=list(INTERNET[0])
)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"source": {"selector": "kind == 'good'"}}, {FROM_0: True, FROM_1: True, FROM_2: True, FROM_3: False}),
        ({"source": {"selector": "zone == 'a'"}}, {FROM_0: True, FROM_1: False}),
        ({"source": {"selector": "kind == 'good' && !has(zone)"}}, {FROM_0: False, FROM_1: True, FROM_3: False}),
        (
            {"source": {"selector": "kind == 'good'", "notSelector": "kind == 'bad'"}},
            {FROM_0: True, FROM_2: True, FROM_3: False},
        ),
        ({"source": {"selector": "kind == 'good'", "notSelector": "has(zone)"}}, {FROM_0: False, FROM_1: True, FROM_3: False}),
        ({"source": {"notSelector": "kind == 'bad'"}}, {FROM_0: True, FROM_2: False, FROM_3: True}),  # unknown ones too
        ({"source": {"selector": "kind == 'none'"}}, {FROM_0: False, FROM_3: False}),
        ({"source": {"notSelector": "kind == 'none'"}}, {FROM_0: True, FROM_3: True}),
        ({"source": {"selector": "kind == 'absent'"}}, {FROM_0: False}),
        ({"source": {"selector": "kind == 'world'"}}, {FROM_0: True, FROM_3: True}),
        ({"source": {"selector": "kind in {'bad', 'server'}"}}, {FROM_0: False, FROM_2: True}),
        ({"source": {"selector": "role == 'client'"}}, {FROM_0: True, FROM_1: False}),  # an endpoint of another node (M-44)
        ({"destination": {"selector": "kind == 'server'"}}, {"in tcp 80": True, "in tcp 80 to=1": False}),
        ({"destination": {"notSelector": "kind == 'server'"}}, {"in tcp 80": False, "in tcp 80 to=1": True}),
        (
            {
                "source": {"selector": "kind == 'good'", "nets": addresses(INTERNET, 0, 3)},
                "destination": {"selector": "kind == 'server'", "notNets": addresses(PUBLIC, 1)},
            },
            {FROM_0: True, FROM_1: False, FROM_3: False, "in tcp 80 to=1": False, "in tcp 80 to=2": False},
        ),
    ],
    ids=short,
)
def test_selectors(matrix: Matrix, rule: Document, expected: Cells) -> None:
    """R-20..R-25."""
    matrix.shows(rule, expected, [endpoint("eth1"), *SETS, THERE])


def test_ten_thousand_members(matrix: Matrix) -> None:
    """The first, the last, and none of 10,000 members per family; and one that is taken out again."""
    v4 = [INTERNET[0][0], *(f"10.{n >> 8 & 255}.{n & 255}.0/28" for n in range(9_998)), INTERNET[2][0]]
    v6 = [INTERNET[0][1], *(f"fd00:{n:x}::/48" for n in range(9_998)), INTERNET[2][1]]
    few = {"protocol": "TCP", "source": {"selector": "size == 'big'"}}
    big = document("GlobalNetworkSet", "big", labels={"size": "big"}, nets=[*v4, *v6])
    matrix.shows(few, {FROM_0: True, FROM_1: False, FROM_2: True, FROM_3: False}, [endpoint("eth1"), big])
    assert {len(found.members) for found in matrix.host.ruleset.sets.values()} == {10_000}
    less = document("GlobalNetworkSet", "big", labels={"size": "big"}, nets=[*v4[1:], *v6[1:]])
    allow = policy("p", ingress=[{**few, "action": "Allow"}])
    matrix.judge([endpoint("eth1"), less, allow], {FROM_0: False, FROM_2: True})
    matrix.judge([endpoint("eth1"), big, allow], {FROM_0: True, FROM_2: True})
