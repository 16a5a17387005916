"""Corners of ports in NetworkPolicies: names that are other numbers elsewhere, more ports than a kernel's rule holds."""

from __future__ import annotations

from tests.conformance.corner_cluster import (
    API,
    API6,
    DB,
    DB6,
    ODD,
    OLD,
    OUT,
    OUT6,
    WEB,
    WEB6,
    Case,
    Object,
    app,
    ping,
    policy,
    tcp,
    udp,
)
from tests.lab.pod_model import Packet


def numbered(first: int | str, last: int | None = None, protocol: str = "TCP") -> Object:
    """An entry of a rule's `ports`."""
    return {"port": first, "protocol": protocol} | ({} if last is None else {"endPort": last})


MANY = [
    *(numbered(first, first + 1) for first in range(7000, 7042, 3)),
    numbered("http"),
    *(numbered(number, protocol="UDP") for number in (*range(2, 81, 4), 53)),
    {"protocol": "SCTP"},
]
EVEN, UNEVEN = ([numbered(number) for number in range(first, 7040, 2)] for first in (7000, 7001))
BY_NAME, OTHERS = [numbered("http"), numbered(9000)], [numbered("nowhere"), numbered(81), numbered(8080)]
TEAM_Y = {"matchLabels": {"team": "y"}}
PORTS = [
    Case(
        "a name is each pod's own number",
        [policy([{"ports": [{"port": "http"}]}], app=None)],
        [tcp(DB, WEB, 80), tcp(DB, API, 8080), tcp(DB6, WEB6, 80), tcp(DB6, API6, 8080)],
        [tcp(DB, WEB, 8080), tcp(DB, API, 80), tcp(DB6, WEB6, 8080), tcp(DB6, API6, 80), tcp(DB, OLD, 80), udp(DB, WEB)],
    ),
    Case(
        "a name on the way out is the peer's number",
        [policy([{"ports": [{"port": "http"}]}], "egress")],
        [tcp(WEB, API, 8080), tcp(WEB, DB, 81), tcp(WEB6, API6, 8080), tcp(WEB6, DB6, 81)],
        [tcp(WEB, API, 80), tcp(WEB, DB, 80), tcp(WEB, DB, 8080), tcp(WEB, OUT, 80), tcp(WEB6, OUT6, 80)],
    ),
    Case(
        "a name among the peers only",
        [policy([{"to": [app("api")], "ports": [{"port": "http"}]}], "egress")],
        [tcp(WEB, API, 8080), tcp(WEB6, API6, 8080)],
        [tcp(WEB, DB, 81), tcp(WEB, API, 81), tcp(WEB6, DB6, 81)],
    ),
    Case(
        "a name is of the rule's protocol, UDP",
        [policy([{"ports": [{"port": "dns", "protocol": "UDP"}]}], app=None)],
        [udp(DB, WEB, 53)],
        [tcp(DB, API, 81), udp(DB, API, 81), tcp(DB, WEB, 81)],
    ),
    Case(
        "a name is of the rule's protocol, TCP",
        [policy([{"ports": [{"port": "dns"}]}], app=None)],
        [tcp(DB, API, 81), tcp(DB6, API6, 81)],
        [udp(DB, WEB, 53), udp(DB, API, 81)],
    ),
    Case(
        "names and numbers",
        [
            policy(
                [{"from": [app("api")], "ports": [*(numbered(one) for one in ("http", 9000, "nowhere")), numbered(7001, 7003)]}]
            )
        ],
        [tcp(API, WEB, 80), tcp(API, WEB, 9000), tcp(API, WEB, 7001), tcp(API6, WEB6, 7003), tcp(API6, WEB6, 80)],
        [tcp(API, WEB, 81), tcp(API, WEB, 7000), tcp(API, WEB, 7004), tcp(DB, WEB, 80), tcp(DB6, WEB6, 9000)],
    ),
    Case(
        "twenty ports that don't touch",
        [policy([{"ports": [{"port": number} for number in reversed(ODD)]}])],
        [*(tcp(DB, WEB, number) for number in ODD), *(tcp(DB6, WEB6, number) for number in ODD[::5])],
        [*(tcp(DB, WEB, number - 1) for number in ODD), tcp(DB, WEB, 7042), tcp(DB6, WEB6, 7004), udp(DB, WEB)],
    ),
    Case(
        "many ports, ranges and names, from peers, in three protocols",
        [policy([{"from": [app("api"), {"ipBlock": {"cidr": "2001:db8:2::/48"}}], "ports": MANY}])],
        [
            *(tcp(API, WEB, number) for number in (80, 7000, 7040)),
            *(udp(API, WEB, 53), Packet(API, WEB, "SCTP", 80), tcp(DB6, WEB6)),
        ],
        [
            *(tcp(API, WEB, number) for number in (81, 7002, 7041)),
            *(udp(API, WEB), tcp(DB, WEB), udp(DB, WEB, 53), ping(API, WEB), ping(DB6, WEB6)),
        ],
    ),
    Case(
        "many ports of one peer aren't another one's",
        [policy([{"from": [app("api")], "ports": EVEN}, {"from": [{"namespaceSelector": TEAM_Y}], "ports": UNEVEN}])],
        [tcp(API, WEB, 7000), tcp(API6, WEB6, 7038), tcp(DB, WEB, 7001), tcp(DB6, WEB6, 7039)],
        [tcp(API, WEB, 7001), tcp(API6, WEB6, 7039), tcp(DB, WEB, 7000), tcp(DB6, WEB6, 7038)],
    ),
    Case(
        "a port's name of one peer isn't another one's",
        [policy([{"from": [app("api")], "ports": BY_NAME}, {"from": [{"namespaceSelector": TEAM_Y}], "ports": OTHERS}])],
        [tcp(API, WEB, 80), tcp(API6, WEB6, 9000), tcp(DB, WEB, 81), tcp(DB6, WEB6, 8080)],
        [tcp(API, WEB, 81), tcp(API6, WEB6, 8080), tcp(DB, WEB, 80), tcp(DB6, WEB6, 9000)],
    ),
    Case(
        "sixty ports, more than a stored rule holds",
        [policy([{"ports": [{"port": number} for number in range(6921, 7041, 2)]}])],
        [*(tcp(DB, WEB, number) for number in ODD)],
        [tcp(DB, WEB, 7000), tcp(DB, WEB, 7041), tcp(DB, WEB, 80)],
    ),
]
