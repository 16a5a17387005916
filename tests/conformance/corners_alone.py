"""Corners of Kubernetes' own NetworkPolicies: families, blocks, ICMP, labels."""

from __future__ import annotations

from tests.conformance.corner_cluster import (
    API,
    API6,
    BY_API,
    BY_DB,
    DB,
    DB6,
    FROM_API,
    NEW6,
    OLD,
    OUT,
    OUT6,
    WEB,
    WEB6,
    Case,
    app,
    every_way,
    expression,
    in_blocks,
    ping,
    policy,
    tcp,
    udp,
)

FAMILIES = [
    Case(
        "no policy",
        [],
        [
            *every_way(API, WEB),
            *every_way(DB6, WEB6),
            *every_way(OUT, WEB),
            *every_way(WEB6, OUT6),
            tcp(OLD, DB),
            tcp(NEW6, WEB6),
        ],
    ),
    Case(
        "peers by both addresses",
        [FROM_API],
        [*every_way(API, WEB), *every_way(API6, WEB6)],
        [*every_way(DB, WEB), *every_way(DB6, WEB6), tcp(OLD, WEB), tcp(NEW6, WEB6), tcp(OUT, WEB), tcp(OUT6, WEB6)],
    ),
    Case(
        "peers of one family",
        [policy([{"from": [app("old"), app("new")]}])],
        [tcp(OLD, WEB), tcp(NEW6, WEB6)],
        [tcp(API, WEB), tcp(API6, WEB6)],
    ),
    Case(
        "policies for pods of one family",
        [policy([{"from": [app("api")]}], app="old"), policy([{"from": [app("api")]}], app="new", name="q")],
        [tcp(API, OLD), tcp(API6, NEW6)],
        [tcp(DB, OLD), tcp(DB6, NEW6)],
    ),
    Case(
        "egress of both families",
        [policy([{"to": [app("api")]}], "egress")],
        [*every_way(WEB, API), *every_way(WEB6, API6), tcp(API, WEB), tcp(API6, WEB6)],
        [*every_way(WEB, DB), *every_way(WEB6, DB6), tcp(WEB, OUT), tcp(WEB6, OUT6)],
    ),
]
BLOCKS = [
    Case(
        "a block of IPv4 says nothing of IPv6",
        [policy(in_blocks({"cidr": "0.0.0.0/0"}))],
        [tcp(OUT, WEB), tcp(API, WEB)],
        [tcp(OUT6, WEB6), tcp(API6, WEB6)],
    ),
    Case(
        "a block of IPv6 says nothing of IPv4",
        [policy(in_blocks({"cidr": "::/0"}))],
        [tcp(OUT6, WEB6), tcp(API6, WEB6)],
        [tcp(OUT, WEB), tcp(API, WEB)],
    ),
    Case(
        "blocks of both families with exceptions",
        [
            policy(
                in_blocks(
                    {"cidr": "2001:db8::/32", "except": ["2001:db8:f::/64"]},
                    {"cidr": "0.0.0.0/0", "except": ["10.244.0.0/16"]},
                )
            )
        ],
        [tcp(API6, WEB6), tcp(DB6, WEB6), tcp(OUT, WEB)],
        [tcp(OUT6, WEB6), tcp(API, WEB), tcp(DB, WEB)],
    ),
    Case(
        "exceptions overlap",
        [policy(in_blocks({"cidr": "10.244.0.0/16", "except": ["10.244.1.0/25", "10.244.1.16/28", "10.244.1.0/28"]}))],
        [tcp(DB, WEB), tcp(OLD, WEB)],
        [tcp(API, WEB), tcp(OUT, WEB)],
    ),
    Case(
        "exceptions overlap, IPv6",
        [policy(in_blocks({"cidr": "2001:db8::/32", "except": ["2001:db8:1:2::/64", "2001:db8:1::/49", "2001:db8:f::/48"]}))],
        [tcp(DB6, WEB6)],
        [tcp(API6, WEB6), tcp(NEW6, WEB6), tcp(OUT6, WEB6)],
    ),
    Case(
        "exceptions overlap on the way out",
        [policy([{"to": [{"ipBlock": {"cidr": "10.244.0.0/16", "except": ["10.244.1.0/24", "10.244.1.0/26"]}}]}], "egress")],
        [tcp(WEB, DB)],
        [tcp(WEB, API), tcp(WEB, OLD), tcp(WEB, OUT)],
    ),
    Case(
        "what one block excepts another one allows",
        [policy(in_blocks({"cidr": "10.244.0.0/16", "except": ["10.244.1.0/24"]}, {"cidr": "10.244.1.16/28"}))],
        [tcp(DB, WEB), tcp(API, WEB)],
        [tcp(OLD, WEB)],
    ),
    Case(
        "everything is excepted",
        [policy(in_blocks({"cidr": "10.244.0.0/16", "except": ["10.244.0.0/17", "10.244.128.0/17"]}))],
        [],
        [tcp(DB, WEB), tcp(API, WEB)],
    ),
    Case(
        "host bits in a block",
        [policy(in_blocks({"cidr": "10.244.1.99/24"}, {"cidr": "2001:db8:1::9/48"}))],
        [tcp(API, WEB), tcp(OLD, WEB), tcp(API6, WEB6)],
        [tcp(DB, WEB), tcp(DB6, WEB6)],
    ),
]
PINGS = [
    Case(
        "ICMP through a rule without ports",
        [FROM_API],
        [ping(API, WEB), ping(API6, WEB6)],
        [ping(DB, WEB), ping(DB6, WEB6)],
    ),
    Case(
        "ICMP not through one with ports",
        [policy([{"ports": [{}]}])],
        [tcp(DB, WEB), tcp(DB6, WEB6)],
        [ping(DB, WEB), ping(DB6, WEB6), udp(DB, WEB)],
    ),
    Case(
        "ICMP not past a default deny",
        [policy([], app=None)],
        [ping(WEB, DB), ping(WEB6, DB6)],
        [ping(DB, WEB), ping(DB6, WEB6), ping(OUT, API)],
    ),
    Case(
        "ICMP not out past a default deny",
        [policy([], "egress")],
        [ping(DB, WEB), ping(OUT6, WEB6)],
        [ping(WEB, DB), ping(WEB6, DB6), ping(WEB, OUT)],
    ),
]
LEDGER, TIER, EMPTY = "app.kubernetes.io/part-of", "corp.example.com/tier.name", "app.kubernetes.io/empty"
LABELS = [
    Case(
        "a label with prefix and dots",
        [policy([{"from": [expression(LEDGER, "In", "ledger.v2_x") | {"namespaceSelector": {}}]}])],
        BY_DB,
        BY_API,
    ),
    Case(
        "a namespace's label with prefix and dots",
        [policy([{"from": [expression(TIER, "In", "a", "b_1.x", of="namespaceSelector")]}])],
        BY_DB,
        BY_API,
    ),
    Case(
        "NotIn where a namespace has no such key",
        [policy([{"from": [expression(TIER, "NotIn", "b_1.x", of="namespaceSelector")]}])],
        [*BY_API, tcp(OLD, WEB)],
        BY_DB,
    ),
    Case(
        "NotIn where a pod has no such key",
        [policy([{"from": [expression(EMPTY, "NotIn", "a", "b")]}])],
        [*BY_API, tcp(OLD, WEB), tcp(NEW6, WEB6)],
        [*BY_DB, tcp(OUT, WEB)],
    ),
    Case(
        "NotIn where it has that value",
        [policy([{"from": [expression("app", "NotIn", "api", "new")]}])],
        [tcp(OLD, WEB)],
        [*BY_API, tcp(NEW6, WEB6), *BY_DB],
    ),
    *(
        Case(name, [policy([{"from": [choice]}])], BY_API, [tcp(OLD, WEB), tcp(NEW6, WEB6), *BY_DB])
        for name, choice in (
            ("an empty value is a value", expression(EMPTY, "Exists")),
            ("the empty value is chosen", expression(EMPTY, "In", "")),
        )
    ),
    Case(
        "no such key",
        [policy([{"from": [expression(EMPTY, "DoesNotExist")]}])],
        [tcp(OLD, WEB), tcp(NEW6, WEB6)],
        [*BY_API, *BY_DB],
    ),
]
