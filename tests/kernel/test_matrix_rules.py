"""What each criterion of a rule matches, by packets, v4 and v6 (enforcement 3.1-3.3 as decision D9 and D10 change them).

Every case is shown twice: the rule allows what it matches where nothing else is allowed, and denies it where all else is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.lab.cells import INTERNET, PUBLIC
from tests.lab.host import Document, document, endpoint, policy
from tests.lab.matrix import Matrix, short

pytestmark = pytest.mark.kernel

Cells = Mapping[str, bool]


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    with Matrix() as matrix:
        yield matrix


def only(proto: str, *also: str) -> Cells:
    cells = ("in tcp 80", "in udp 80", "in icmp v4", "in icmp v6", "in sctp 80", "in 112")
    return {cell: cell.split()[1] == proto or cell in also for cell in cells}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"protocol": "TCP"}, only("tcp")),
        ({"protocol": 6}, only("tcp")),
        ({"protocol": "UDP"}, only("udp")),
        ({"protocol": 17}, only("udp")),
        ({"protocol": "SCTP"}, only("sctp")),
        ({"protocol": 132}, only("sctp")),
        ({"protocol": 112}, only("112")),
        ({"protocol": "ICMP"}, only("", "in icmp v4")),  # the names go with one version
        ({"protocol": "ICMPv6"}, only("", "in icmp v6")),
        ({"protocol": 1}, only("", "in icmp v4")),
        ({"protocol": 58}, only("", "in icmp v6")),
        ({"protocol": "UDPLite"}, only("")),
        ({"notProtocol": "TCP"}, {**only(""), **dict.fromkeys(only(""), True), "in tcp 80": False}),
        ({"notProtocol": 112}, {**dict.fromkeys(only(""), True), "in 112": False}),
        ({"protocol": "TCP", "notProtocol": "UDP"}, only("tcp")),
        ({}, dict.fromkeys(only(""), True)),
    ],
    ids=short,
)
def test_protocols(matrix: Matrix, rule: Document, expected: Cells) -> None:
    """R-3, R-4."""
    matrix.shows(rule, expected)


@pytest.mark.parametrize("version", [4, 6])
def test_ip_version(matrix: Matrix, version: int) -> None:
    """R-3."""
    expected = {"in tcp 80 v4": version == 4, "in tcp 80 v6": version == 6, "in icmp v6": version == 6}
    matrix.shows({"ipVersion": version}, expected)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"protocol": "ICMP", "icmp": {"type": 8}}, {"in icmp v4": True, "in icmp type=13 v4": False, "in icmp v6": False}),
        ({"protocol": "ICMP", "icmp": {"type": 13}}, {"in icmp v4": False, "in icmp type=13 v4": True}),
        ({"protocol": "ICMP", "icmp": {"type": 8, "code": 0}}, {"in icmp v4": True, "in icmp type=13 v4": False}),
        ({"protocol": "ICMP", "icmp": {"type": 8, "code": 1}}, {"in icmp v4": False}),
        ({"protocol": "ICMP", "notICMP": {"type": 8}}, {"in icmp v4": False, "in icmp type=13 v4": True, "in tcp 80": False}),
        ({"protocol": 1, "notICMP": {"type": 8, "code": 1}}, {"in icmp v4": True, "in icmp type=13 v4": True}),
        ({"protocol": "ICMPv6", "icmp": {"type": 128}}, {"in icmp v6": True, "in icmp v4": False}),
        ({"protocol": "ICMPv6", "icmp": {"type": 129}}, {"in icmp v6": False}),
        ({"protocol": "ICMPv6", "icmp": {"type": 128, "code": 0}}, {"in icmp v6": True}),
        ({"protocol": "ICMPv6", "icmp": {"type": 128, "code": 1}}, {"in icmp v6": False}),
        ({"protocol": 58, "notICMP": {"type": 128}}, {"in icmp v6": False}),
        ({"protocol": 58, "notICMP": {"type": 129}}, {"in icmp v6": True, "in tcp 80": False}),
    ],
    ids=short,
)
def test_icmp(matrix: Matrix, rule: Document, expected: Cells) -> None:
    """R-5."""
    matrix.shows(rule, expected)


# --- ports ---------------------------------------------------------------------------------------------------------------
EVEN = list(range(7000, 7040, 2))  # 20 single ports: more than one multiport match holds
EVEN_SOURCES = list(range(7100, 7142, 2))
SEVEN_RANGES = [f"{first}:{first + 1}" for first in range(7000, 7035, 5)]  # 14 of 15 slots


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"protocol": "TCP", "destination": {"ports": [80]}}, {"in tcp 80": True, "in tcp 81": False, "in udp 80": False}),
        ({"protocol": "TCP", "destination": {"ports": ["80:81"]}}, {"in tcp 80": True, "in tcp 81": True, "in tcp 443": False}),
        ({"protocol": "SCTP", "destination": {"ports": [80]}}, {"in sctp 80": True, "in sctp 81": False, "in tcp 80": False}),
        (
            {"protocol": "TCP", "destination": {"notPorts": [80, "8080:8090"]}},
            {"in tcp 80": False, "in tcp 8080": False, "in tcp 443": True, "in udp 81": False},
        ),
        ({"protocol": "UDP", "source": {"ports": [7100]}}, {"in udp 80 sport=7100": True, "in udp 80 sport=7101": False}),
        ({"protocol": "UDP", "source": {"notPorts": [7100]}}, {"in udp 80 sport=7100": False, "in udp 80 sport=7101": True}),
        (
            {"protocol": "UDP", "destination": {"ports": ["7000:7039"], "notPorts": EVEN}},
            {
                "in udp 7000": False,
                "in udp 7030": False,
                "in udp 7038": False,
                "in udp 7001": True,
                "in udp 7039": True,
                "in udp 80": False,
            },
        ),
        (
            {"protocol": "UDP", "destination": {"ports": [*SEVEN_RANGES, 80, "7036:7037", 7039]}},
            {
                "in udp 7000": True,
                "in udp 7031": True,
                "in udp 80": True,
                "in udp 7037": True,
                "in udp 7039": True,
                "in udp 7032": False,
                "in udp 7038": False,
            },
        ),
        (
            {"protocol": "UDP", "source": {"ports": EVEN_SOURCES}, "destination": {"ports": EVEN}},
            {
                "in udp 7000 sport=7100": True,
                "in udp 7038 sport=7100": True,
                "in udp 7000 sport=7140": True,
                "in udp 7038 sport=7140": True,
                "in udp 7001 sport=7100": False,
                "in udp 7039 sport=7140": False,
                "in udp 7000 sport=7101": False,
                "in udp 7038 sport=7141": False,
            },
        ),
        (
            {
                "protocol": "UDP",
                "source": {"ports": EVEN_SOURCES, "notPorts": [7100]},
                "destination": {"ports": EVEN, "notPorts": [7038]},
            },
            {
                "in udp 7000 sport=7102": True,
                "in udp 7036 sport=7140": True,
                "in udp 7038 sport=7102": False,
                "in udp 7000 sport=7100": False,
            },
        ),
    ],
    ids=short,
)
def test_ports(matrix: Matrix, rule: Document, expected: Cells) -> None:
    """R-6, R-31."""
    matrix.shows(rule, expected)


def test_a_block_of_an_earlier_rule_does_not_stand_in_for_a_later_one(matrix: Matrix) -> None:
    """D9: every scratch bit is cleared before its block. The first rule's block matches, its main rule doesn't."""
    first = {
        "action": "Deny",
        "protocol": "UDP",
        "source": {"ports": [7999]},
        "destination": {"ports": ["7000:7039", *range(1, 60, 2)]},
    }
    second = {"action": "Allow", "protocol": "UDP", "destination": {"ports": [*EVEN, 7039]}}
    cells = {"in udp 7000": True, "in udp 7001": False, "in udp 7039": True, "in udp 7037": False}
    matrix.judge([endpoint("eth1"), policy("p", ingress=[first, second])], cells)


HERE = document(
    "HostEndpoint",
    "here",
    labels={"role": "server"},
    node="worker",
    interfaceName="eth1",
    expectedIPs=list(PUBLIC[0]),
    ports=[
        {"name": "web", "protocol": "TCP", "port": 80},
        {"name": "web", "protocol": "UDP", "port": 81},
        {"name": "admin", "protocol": "TCP", "port": 8080},
        {"name": "web", "protocol": "SCTP", "port": 443},
    ],
)
THERE = document(
    "HostEndpoint",
    "there",
    labels={"role": "client"},
    node="elsewhere",
    interfaceName="eth7",
    expectedIPs=list(INTERNET[0]),
    ports=[{"name": "from", "protocol": "UDP", "port": 7100}, {"name": "web", "protocol": "TCP", "port": 81}],
)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            {"protocol": "TCP", "destination": {"ports": ["web"]}},
            {"in tcp 80": True, "in tcp 80 to=1": False, "in tcp 81": False, "in udp 81": False, "in sctp 443": False},
        ),
        (
            {"protocol": "UDP", "destination": {"ports": ["web"]}},
            {"in udp 81": True, "in udp 80": False, "in tcp 80": False},
        ),
        (
            {"protocol": "SCTP", "destination": {"ports": ["web"]}},
            {"in sctp 443": True, "in sctp 80": False, "in tcp 443": False},
        ),
        (
            {"destination": {"ports": ["web"]}},  # any protocol that the endpoint declares it for (M-41)
            {"in tcp 80": True, "in udp 81": True, "in sctp 443": True, "in udp 80": False, "in tcp 443": False},
        ),
        (
            {"protocol": "TCP", "destination": {"ports": [443, "web", "admin"]}},
            {
                "in tcp 443": True,
                "in tcp 443 to=1": True,
                "in tcp 80": True,
                "in tcp 8080": True,
                "in tcp 8080 to=1": False,
                "in tcp 81": False,
            },
        ),
        (
            {"protocol": "TCP", "destination": {"ports": ["web", 443], "selector": "role == 'server'"}},
            {"in tcp 443": True, "in tcp 443 to=1": False, "in tcp 80": True},
        ),
        (
            {"protocol": "TCP", "destination": {"ports": ["web"], "selector": "role == 'client'"}},
            {"in tcp 80": False, "in tcp 81": False},
        ),
        ({"protocol": "TCP", "destination": {"ports": ["nobody"]}}, {"in tcp 80": False, "in tcp 81": False}),
        (
            {"protocol": "TCP", "destination": {"notPorts": ["web", 8090]}},
            {"in tcp 80": False, "in tcp 80 to=1": True, "in tcp 81": True, "in tcp 8090": False},
        ),
        (
            {"protocol": "UDP", "source": {"ports": ["from"]}},
            {"in udp 80 sport=7100": True, "in udp 80 sport=7101": False, "in udp 80 sport=7100 from=1": False},
        ),
        (
            {"protocol": "UDP", "source": {"ports": ["from", *range(7200, 7240, 2)]}, "destination": {"ports": ["web", *EVEN]}},
            {
                "in udp 81 sport=7100": True,
                "in udp 7000 sport=7100": True,
                "in udp 7038 sport=7238": True,
                "in udp 81 sport=7200": True,
                "in udp 81 to=1 sport=7200": False,
                "in udp 7038 sport=7100 from=1": False,
                "in udp 7001 sport=7200": False,
                "in udp 7000 sport=7201": False,
            },
        ),
    ],
    ids=short,
)
def test_named_ports(matrix: Matrix, rule: Document, expected: Cells) -> None:
    """M-40..M-44."""
    matrix.shows(rule, expected, [HERE, THERE])


def test_named_ports_of_others_outbound(matrix: Matrix) -> None:
    rule = {"protocol": "TCP", "destination": {"ports": ["web"], "selector": "role == 'client'"}}
    matrix.shows(rule, {"out tcp 81": True, "out tcp 80": False, "out tcp 81 to=1": False}, [HERE, THERE], egress=True)
