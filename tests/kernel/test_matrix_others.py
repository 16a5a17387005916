"""Our chains among those of others, by packets, v4 and v6: kube-proxy's services, marks, and foreign rules after ours.

`statements.md` kubernetes 6.1, 6.2; H-31, H-37, H-47; decision D11, D15.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab.cells import cells
from tests.lab.host import endpoint, policy, rule
from tests.lab.matrix import Matrix

pytestmark = pytest.mark.kernel

ETH1 = endpoint("eth1")
OPEN = policy("open", ingress=[rule()], egress=[rule()], applyOnForward=True)
SERVICES = {"node-port tcp 30080": True, "node-port udp 30053": True, "balancer tcp 80": True}
FORWARDING = pytest.mark.parametrize("forwarding", ["All", "ApplyOnForward"])


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    with Matrix() as matrix:
        yield matrix


def seen(matrix: Matrix, forwarding: str, *items: object) -> set[str]:
    """The clients that pods saw, all services being open."""
    outcomes = matrix.judge(list(items), SERVICES, host_forward_policy=forwarding)  # type: ignore[arg-type] # documents
    return {outcome.seen for outcome in outcomes.values()}


# --- kube-proxy ----------------------------------------------------------------------------------------------------------
@FORWARDING
def test_masquerading_works_with_policy_all_around(matrix: Matrix, forwarding: str) -> None:
    """kubernetes 6.2: mark 0x4000 goes through raw, mangle and filter untouched, so that pods see this host's address."""
    nodes = ("172.30.1.1", "fd00:172:30:1::1")
    assert seen(matrix, forwarding) == {*nodes}
    ports = rule("Allow", "TCP", [30080, 80, *range(1000, 1040, 2)])
    early = policy("early", preDNAT=True, order=1, ingress=[ports, rule("Allow", "UDP", [30053])])
    forwarded = policy(
        "p",
        ingress=[rule("Allow", "TCP", [8080, *range(1, 40, 2)]), rule("Allow", "UDP")],
        egress=[rule()],
        applyOnForward=True,
    )
    raw = policy("raw", selector="interface == 'eth1'", doNotTrack=True, ingress=[rule("Deny", "TCP", [443])], egress=[])
    both = [ETH1, endpoint("pods")]
    assert seen(matrix, forwarding, *both, forwarded) == {*nodes}
    assert seen(matrix, forwarding, *both, early, forwarded, raw) == {*nodes}
    assert seen(matrix, forwarding, endpoint("*"), early, forwarded) == {*nodes}


@FORWARDING
def test_shutting_node_ports_leaves_the_balancer_and_one_source(matrix: Matrix, forwarding: str) -> None:
    """NodePorts are shut, the load balancer's address is open: kubernetes 6.1."""
    node_ports = [rule("Deny", proto, ["30000:32767"]) for proto in ("TCP", "UDP")]
    items = [ETH1, OPEN, policy("deny-kube-node-port-services", order=1100, preDNAT=True, ingress=node_ports)]
    shut = {
        "node-port tcp 30080": False,
        "node-port udp 30053": False,
        "node-port-workload tcp 30081": False,
        "balancer tcp 80": True,
    }
    matrix.judge(items, {**shut, "to-pod tcp 8080": True}, host_forward_policy=forwarding)
    source = {"nets": ["203.0.113.6/32", "2001:db8:5::6/128"]}
    one = policy("one", order=500, preDNAT=True, ingress=[rule("Allow", "TCP", [30080], source=source)])
    opened = {"node-port tcp 30080 from=1": True, "node-port-workload tcp 30081 from=1": False}
    matrix.judge([*items, one], {**shut, **opened}, host_forward_policy=forwarding)


def test_kube_forward_does_not_open_what_policy_shuts(matrix: Matrix) -> None:
    """kubernetes 6.2: KUBE-FORWARD accepts what it marked, so ours must have been asked before."""
    matrix.judge(
        [ETH1, policy("p", ingress=[rule("Deny", "TCP", [8080])], applyOnForward=True)], dict.fromkeys(SERVICES, False)
    )


# --- marks ---------------------------------------------------------------------------------------------------------------
ANY_MARK = "mark=0xffffffff"


@pytest.mark.parametrize(
    "items",
    [
        [ETH1],
        [endpoint("*")],
        [ETH1, policy("raw", doNotTrack=True, ingress=[], egress=[rule("Allow", "TCP", [443])])],
        [ETH1, policy("p", egress=[rule("Allow", "TCP", [1]), rule("Deny", "TCP", [*range(2, 60, 2)])])],
    ],
    ids=["closed", "star", "raw", "policy"],
)
def test_a_mark_that_a_packet_brings_opens_nothing(matrix: Matrix, items: list[dict[str, object]]) -> None:
    """D15: our bits are cleared where packets enter."""
    expected = {f"out tcp 80 {ANY_MARK}": False, f"out udp 80 {ANY_MARK}": False, f"out-dnat tcp 8000 {ANY_MARK}": False}
    matrix.judge(items, {**expected, f"out udp 53 {ANY_MARK}": True, f"out-private tcp 80 {ANY_MARK}": "*" not in str(items)})


def test_the_rest_of_a_mark_stays(matrix: Matrix) -> None:
    """D15: writes are masked, through port blocks, Pass, Allow and untracked policy."""
    first = rule("Pass", "TCP", [*range(1, 60, 2)], source={"ports": [*range(1000, 1060, 2)]})
    allow = rule("Allow", "TCP", [80, *range(1001, 1060, 2)])
    items = [
        ETH1,
        policy("p", egress=[first, rule("Log", "TCP", [80]), allow]),
        policy("raw", doNotTrack=True, ingress=[], egress=[rule("Deny", "TCP", [443])]),
    ]
    text = "out tcp 80 mark=0xff123456"
    matrix.judge(items, {text: True})
    check = ("POSTROUTING", "-o", "eth1", "-p", "tcp", "--dport", "80", "-m", "mark", "!", "--mark", "0x123456/0xffffff")
    with matrix.foreign("mangle", *check, "-j", "DROP"):
        matrix.compare(dict.fromkeys(cells(text), True))
        matrix.compare(dict.fromkeys(cells("out tcp 80 mark=0xff123457"), False), oracle=False)


# --- foreign rules after ours --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("setting", "goes_on"), [("Accept", False), ("Return", True)])
def test_what_follows_an_allow_in_the_filter_table(matrix: Matrix, setting: str, goes_on: bool) -> None:
    """H-31, H-47: with Return the rules after ours have the last word on what policy allows; with Accept they have none.

    In FORWARD they always have it, except the chain's policy: our accept there comes last.
    """
    raw = policy(
        "raw", doNotTrack=True, ingress=[rule("Allow", "UDP", [80])], egress=[rule("Allow", "UDP", source={"ports": [80]})]
    )
    items = [ETH1, OPEN, raw]
    expected = {
        "in tcp 81": not goes_on,
        "in tcp 80": True,
        "out tcp 81": not goes_on,
        "out tcp 80": True,
        "in udp 80": not goes_on,
    }
    matrix.judge(items, dict.fromkeys((*expected, "routed tcp 81"), True))
    drop = ("--dport", "81", "-j", "DROP")
    with (
        matrix.foreign("filter", "INPUT", "-p", "tcp", *drop),
        matrix.foreign("filter", "INPUT", "-p", "udp", "--dport", "80", "-j", "DROP"),
        matrix.foreign("filter", "OUTPUT", "-p", "tcp", *drop),
        matrix.foreign("filter", "FORWARD", "-p", "tcp", *drop),
    ):
        matrix.judge(items, {**expected, "routed tcp 81": False}, oracle=False, iptables_filter_allow_action=setting)


@FORWARDING
@pytest.mark.parametrize(("setting", "accepts"), [("Accept", True), ("Return", False)])
def test_what_policy_allows_through_passes_a_forward_chain_that_drops(
    matrix: Matrix, setting: str, accepts: bool, forwarding: str
) -> None:
    """H-31: hosts with Docker have FORWARD DROP. Policy's accept stands there, unless allows are to Return."""
    items = [ETH1, endpoint("eth0"), OPEN]
    expected = dict.fromkeys(("routed tcp 80", "routed-out udp 53", "to-workload tcp 80", "pod-to-pod tcp 80"), True)
    matrix.judge(items, expected, host_forward_policy=forwarding)
    settings: dict[str, Any] = {"host_forward_policy": forwarding, "iptables_filter_allow_action": setting}
    with forward_drops(matrix):
        matrix.judge(items, dict.fromkeys(expected, accepts), oracle=False, **settings)


@contextmanager
def forward_drops(matrix: Matrix) -> Iterator[None]:
    """FORWARD's policy is DROP, in both families."""
    tools = ("iptables-legacy", "ip6tables-legacy")
    for tool in tools:
        matrix.lab.worker.run(tool, "-w", "-P", "FORWARD", "DROP")
    try:
        yield
    finally:
        for tool in tools:
            matrix.lab.worker.run(tool, "-w", "-P", "FORWARD", "ACCEPT")


@pytest.mark.parametrize(("setting", "goes_on"), [("Accept", False), ("Return", True)])
def test_what_follows_an_allow_before_nat(matrix: Matrix, setting: str, goes_on: bool) -> None:
    """H-34: the same for preDNAT policy in mangle."""
    items = [ETH1, OPEN, policy("early", preDNAT=True, ingress=[rule("Allow", "TCP", [81])])]
    matrix.judge(items, {"in tcp 81": True, "in tcp 80": True})
    with matrix.foreign("mangle", "PREROUTING", "-p", "tcp", "--dport", "81", "-j", "DROP"):
        matrix.judge(items, {"in tcp 81": not goes_on, "in tcp 80": True}, oracle=False, iptables_mangle_allow_action=setting)


def test_foreign_rules_cannot_open_what_policy_shuts(matrix: Matrix) -> None:
    """D11: ours come first."""
    items = [ETH1]
    matrix.open(dict.fromkeys((c for text in ("in tcp 80", "out tcp 80", "routed tcp 80") for c in cells(text)), True))
    with matrix.foreign("filter", "INPUT", "-j", "ACCEPT"), matrix.foreign("filter", "FORWARD", "-j", "ACCEPT"):
        matrix.judge(items, {"in tcp 80": False, "out tcp 80": False, "routed tcp 80": False})
