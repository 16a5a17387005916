"""Which policies judge which traffic, by packets: each cell of statements.md H-10 as decision D3 changes it, v4 and v6."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hostward.model.failsafe import parse_failsafe_text
from tests.lab.cells import PUBLIC
from tests.lab.host import Document, endpoint, policy, rule
from tests.lab.matrix import Matrix

pytestmark = pytest.mark.kernel

BOTH = pytest.mark.parametrize("forwarding", ["All", "ApplyOnForward"])
ETH1 = endpoint("eth1")
CLOSED = policy("closed", ingress=[], egress=[], order=1000)


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    with Matrix() as matrix:
        yield matrix


def on(interface: str) -> str:
    return f"interface == '{interface}'"


def allow(protocol: str, *ports: int) -> list[Document]:
    return [rule("Allow", protocol, ports)]


def deny(protocol: str, *ports: int) -> list[Document]:
    return [rule("Deny", protocol, ports)]


def test_without_an_endpoint_nothing_is_touched(matrix: Matrix) -> None:
    """H-70: policies alone guard nothing."""
    cells = ("in tcp 80", "out udp 53", "routed tcp 80", "node-port tcp 30080", "loop tcp 80", "in 6", "workload-in tcp 80")
    matrix.judge([CLOSED], dict.fromkeys(cells, True))


@BOTH
def test_an_endpoint_alone_closes_its_interface(matrix: Matrix, forwarding: str) -> None:
    """M-29 b. Other interfaces, loopback and traffic between host and workload stay as they are (H-17, H-19, H-74)."""
    forwards = forwarding == "ApplyOnForward"
    matrix.judge(
        [ETH1],
        {
            "in tcp 80": False,
            "in udp 53": False,
            "in icmp": False,
            "in 112": False,
            "in sctp 80": False,
            "out tcp 80": False,
            "out icmp": False,
            "out-dnat tcp 8000": False,
            "node-port tcp 30080": forwards,
            "node-port udp 30053": forwards,
            "dnat-routed tcp 30090": forwards,
            "routed tcp 80": forwards,
            "routed tcp 22": forwards,  # forward chains have no failsafes (H-64)
            "routed-out tcp 80": forwards,
            "to-pod tcp 80": forwards,
            "node-port-workload tcp 30081": True,
            "workload-out udp 53": True,
            "to-workload tcp 80": True,
            "workload-in tcp 80": True,
            "host-workload tcp 80": True,
            "in-private tcp 80": True,
            "out-private tcp 80": True,
            "loop tcp 80": True,
            "in tcp 22": True,
            "out udp 53": True,
        },
        host_forward_policy=forwarding,
    )


def test_remote_to_local_is_judged_by_normal_ingress(matrix: Matrix) -> None:
    items = [ETH1, policy("in", ingress=allow("TCP", 80))]
    matrix.judge(items, {"in tcp 80": True, "in tcp 81": False, "out tcp 80": False, "in-private tcp 81": True})
    matrix.judge([ETH1, policy("in", ingress=[*deny("TCP", 80), rule()])], {"in tcp 80": False, "in tcp 81": True})


def test_local_to_remote_is_judged_by_normal_egress(matrix: Matrix) -> None:
    """Its answers need no policy (H-70): nothing is allowed inbound."""
    items = [ETH1, policy("out", egress=allow("TCP", 80))]
    matrix.judge(items, {"out tcp 80": True, "out tcp 81": False, "in tcp 80": False, "out-private tcp 81": True})


def test_local_to_remote_with_a_changed_destination_is_judged_after_the_change(matrix: Matrix) -> None:
    """H-10 row 3, in mangle POSTROUTING: port 8000 of a service address becomes port 80 of a server."""
    matrix.judge([ETH1, policy("out", egress=allow("TCP", 8000))], {"out-dnat tcp 8000": False})
    matrix.judge([ETH1, policy("out", egress=allow("TCP", 80))], {"out-dnat tcp 8000": True, "out tcp 81": False})
    matrix.judge([ETH1, policy("out", egress=[*deny("TCP", 80), rule()])], {"out-dnat tcp 8000": False, "out tcp 81": True})
    matrix.judge(
        [ETH1],
        {"out-dnat tcp 8000": True, "out tcp 81": False},
        failsafe_outbound_host_ports=(parse_failsafe_text("tcp:80"),),
    )
    # It is the interface that the packet really leaves by whose policy counts, not the one it was first routed to.
    matrix.judge([ETH1], {"out-dnat-private tcp 8001": True, "out tcp 81": False})
    only = [endpoint("eth0"), policy("out", egress=allow("TCP", 80))]
    matrix.judge(only, {"out-dnat-private tcp 8001": True, "out-private tcp 81": False, "out-dnat tcp 8000": True})
    matrix.judge([endpoint("eth0")], {"out-dnat-private tcp 8001": False, "out-dnat tcp 8000": True})


@BOTH
@pytest.mark.parametrize("applies", [True, False])
def test_forwarded_between_host_interfaces(matrix: Matrix, forwarding: str, applies: bool) -> None:
    """D3: under All every normal policy judges, entering and leaving; under ApplyOnForward only those that say so."""
    judged = forwarding == "All" or applies
    items = [
        ETH1,
        endpoint("eth0"),
        policy("one", selector=on("eth1"), ingress=allow("TCP", 80, 8080), egress=allow("TCP", 443), applyOnForward=applies),
        policy("two", selector=on("eth0"), egress=allow("TCP", 80), ingress=allow("TCP", 443, 81), applyOnForward=applies),
    ]
    matrix.judge(
        items,
        {
            "routed tcp 80": True,  # both sides allow
            "routed tcp 8080": not judged,  # only eth1's ingress allows
            "routed tcp 443": not judged,  # only the other direction's policies allow
            "routed-out tcp 443": True,
            "routed-out tcp 81": not judged,  # only eth0's ingress allows
            "routed-out tcp 80": not judged,
            "to-pod tcp 80": True,  # nobody guards `pods`
            "to-pod tcp 81": not judged,
            "dnat-routed tcp 30090": not judged,
        },
        host_forward_policy=forwarding,
    )


@BOTH
def test_a_direction_without_forward_policies(matrix: Matrix, forwarding: str) -> None:
    """M-35: only an egress policy applies on forward, so what enters by eth1 is left alone, unless all policies judge."""
    items = [ETH1, policy("out", egress=allow("TCP", 80), applyOnForward=True)]
    alone = forwarding == "ApplyOnForward"
    expected = {"routed tcp 81": alone, "routed-out tcp 80": True, "routed-out tcp 81": False}
    matrix.judge(items, expected, host_forward_policy=forwarding)
    # Nor is it judged after all, by normal policy, where mangle looks at what nat has changed.
    normal = policy("normal", selector=on("eth0"), order=1, egress=[rule("Deny")])
    applied = policy("applied", selector=on("eth0"), ingress=allow("TCP", 443), applyOnForward=True)
    expected = {"dnat-routed tcp 30090": alone, "routed-out tcp 443": True, "routed-out tcp 81": False}
    matrix.judge([endpoint("eth0"), normal, applied], expected, host_forward_policy=forwarding)


@BOTH
def test_profiles_judge_forwarded_traffic_only_under_all(matrix: Matrix, forwarding: str) -> None:
    profile = {"kind": "Profile", "metadata": {"name": "web"}, "spec": {"ingress": allow("TCP", 80), "egress": []}}
    items = [endpoint("eth1", profiles=["web"]), profile]
    alone = forwarding == "ApplyOnForward"
    expected = {
        "routed tcp 80": True,
        "routed tcp 81": alone,
        "routed-out tcp 80": alone,
        "in tcp 80": True,
        "in tcp 81": False,
    }
    matrix.judge(items, expected, host_forward_policy=forwarding)


@BOTH
def test_service_traffic_to_a_pod_elsewhere_is_judged_after_nat(matrix: Matrix, forwarding: str) -> None:
    """H-10 row 4, H-11: a normal policy sees the pod's address and port, never the NodePort."""
    by_node_port = policy("np", ingress=allow("TCP", 30080, 30090), applyOnForward=True)
    by_pod_port = policy("pp", ingress=allow("TCP", 8080, 8090), applyOnForward=True)
    shut = {"node-port tcp 30080": False, "dnat-routed tcp 30090": False}
    matrix.judge([ETH1, by_node_port], shut, host_forward_policy=forwarding)
    matrix.judge([ETH1, by_pod_port], dict.fromkeys(shut, True), host_forward_policy=forwarding)


@BOTH
def test_a_workload_on_one_side_meets_only_forward_policies(matrix: Matrix, forwarding: str) -> None:
    """D3, under both settings: the host's side is judged by applyOnForward policies; normal ones leave it alone."""
    normal = [ETH1, policy("normal", ingress=deny("TCP", 80), egress=[rule("Deny")])]
    crossing = ("workload-out udp 53", "workload-dnat tcp 8000", "to-workload tcp 80", "node-port-workload tcp 30081")
    matrix.judge(normal, dict.fromkeys(crossing, True), host_forward_policy=forwarding)
    applied = [ETH1, policy("applied", ingress=allow("TCP", 81), egress=allow("UDP", 67), applyOnForward=True)]
    matrix.judge(
        applied,
        {
            **dict.fromkeys(crossing, False),
            "to-workload tcp 81": True,
            "workload-out udp 67": True,
            "workload-in tcp 80": True,
            "host-workload tcp 80": True,
        },
        host_forward_policy=forwarding,
    )


@BOTH
def test_every_interface_of_a_star_endpoint_but_loopback(matrix: Matrix, forwarding: str) -> None:
    """H-17 and D7: all interfaces without their own endpoint; never lo, never between host and workload."""
    forwards = forwarding == "ApplyOnForward"
    matrix.judge(
        [endpoint("*")],
        {
            "in tcp 80": False,
            "in-private tcp 80": False,
            "out tcp 80": False,
            "out-private tcp 80": False,
            "out-dnat tcp 8000": False,
            "routed tcp 80": forwards,
            "node-port tcp 30080": forwards,
            "to-pod tcp 80": forwards,
            "loop tcp 80": True,
            "loop icmp": True,
            "workload-in tcp 80": True,
            "host-workload tcp 80": True,
            "to-workload tcp 80": True,
            "in tcp 22": True,
        },
        host_forward_policy=forwarding,
    )


def test_an_interface_of_its_own_wins_over_the_star(matrix: Matrix) -> None:
    items = [
        endpoint("*"),
        endpoint("eth0"),
        policy("one", selector=on("eth0"), ingress=allow("TCP", 81)),
        policy("any", selector=on("any"), ingress=allow("TCP", 80)),
    ]
    cells = {"in tcp 80": True, "in tcp 81": False, "in-private tcp 80": False, "in-private tcp 81": True, "loop tcp 443": True}
    matrix.judge(items, cells)
    # Also for preDNAT policy, of which eth0's endpoint has none (H-7, H-10): its NodePorts and workloads are not the star's.
    early = policy("early", selector=on("any"), preDNAT=True, ingress=[rule("Deny")])
    shut = {"in tcp 80": False, "node-port tcp 30080": False, "workload-in tcp 80": False, "workload-out udp 53": False}
    matrix.judge([*items, early], {**shut, "in-private tcp 81": True, "in-private tcp 80": False, "loop tcp 80": True})


@BOTH
def test_star_policies_judge_what_workloads_forward_but_not_what_they_say_to_the_host(matrix: Matrix, forwarding: str) -> None:
    """H-10 rows 5 and 6, H-18; preDNAT policy of `*` sees packets of workloads to the host too."""
    items = [endpoint("*"), policy("applied", ingress=allow("UDP", 53), egress=allow("UDP", 53), applyOnForward=True)]
    cells = {
        "workload-out udp 53": True,
        "workload-out udp 67": False,
        "workload-in tcp 80": True,
        "host-workload tcp 80": True,
    }
    matrix.judge(items, cells, host_forward_policy=forwarding)
    items = [endpoint("*"), policy("early", preDNAT=True, ingress=deny("TCP", 80))]
    cells = {"workload-in tcp 80": False, "workload-in tcp 81": True, "host-workload tcp 80": True, "loop tcp 80": True}
    matrix.judge(items, cells, host_forward_policy=forwarding)


# --- preDNAT -------------------------------------------------------------------------------------------------------------
@BOTH
def test_predndat_sees_the_original_destination(matrix: Matrix, forwarding: str) -> None:
    """H-11, H-13: NodePorts are shut, a pinhole works by node port and not by pod port; the rest goes on to normal policy."""
    nodes = rule("Deny", "TCP", ["30000:32767"])
    shut = policy("shut", preDNAT=True, order=20, ingress=[nodes])
    everything = policy("all", ingress=[rule()], egress=[rule()])
    expected = {"node-port tcp 30080": False, "dnat-routed tcp 30090": False, "in tcp 80": True, "node-port udp 30053": True}
    matrix.judge([ETH1, everything, shut], expected, host_forward_policy=forwarding)
    by_node_port = policy("hole", preDNAT=True, order=10, ingress=allow("TCP", 30080))
    expected["node-port tcp 30080"] = True
    matrix.judge([ETH1, everything, shut, by_node_port], expected, host_forward_policy=forwarding)
    by_pod_port = policy("hole", preDNAT=True, order=10, ingress=allow("TCP", 8080))
    expected["node-port tcp 30080"] = False
    matrix.judge([ETH1, everything, shut, by_pod_port], expected, host_forward_policy=forwarding)
    to_one = policy("one", preDNAT=True, ingress=[rule("Deny", "TCP", [80], destination={"nets": [f"{PUBLIC[1][0]}/32"]})])
    cells = {"in tcp 80 to=1 v4": False, "in tcp 80 to=1 v6": True, "in tcp 80 to=2": True}
    matrix.judge([ETH1, everything, to_one], cells, host_forward_policy=forwarding)


@BOTH
def test_accept_before_nat_bypasses_this_endpoints_ingress_only(matrix: Matrix, forwarding: str) -> None:
    """H-12: neither the normal nor the forward ingress of eth1 is asked again, but eth0's egress is."""
    early = policy("early", preDNAT=True, ingress=allow("TCP", 80, 30090, 30080, 30081))
    stop = policy("stop", selector=on("eth1"), ingress=[rule("Deny")], egress=[rule()], applyOnForward=True)
    items = [ETH1, endpoint("eth0"), early, stop]
    shut = policy("other", selector=on("eth0"), egress=deny("TCP", 80, 8090), applyOnForward=True)
    opened = policy("other", selector=on("eth0"), egress=allow("TCP", 80, 8090), applyOnForward=True)
    cells = {"in tcp 80": True, "in tcp 81": False, "node-port tcp 30080": True, "node-port udp 30053": False}
    cells |= {"node-port-workload tcp 30081": True, "to-workload tcp 81": False}
    both = {"routed tcp 80": False, "dnat-routed tcp 30090": False}
    matrix.judge([*items, shut], {**cells, **both}, host_forward_policy=forwarding)
    matrix.judge([*items, opened], {**cells, **dict.fromkeys(both, True)}, host_forward_policy=forwarding)


def test_deny_before_nat_never_hits_answers_or_failsafes(matrix: Matrix) -> None:
    """H-14, H-64: preDNAT policy sees only what begins here."""
    items = [ETH1, policy("early", preDNAT=True, ingress=[rule("Deny")]), policy("out", egress=[rule()])]
    cells = {"out tcp 80": True, "out icmp": True, "out-dnat tcp 8000": True, "in tcp 80": False, "in tcp 22": True}
    matrix.judge(items, {**cells, "routed-out tcp 80": True, "node-port tcp 30080": False, "workload-out udp 53": True})


# --- untracked -----------------------------------------------------------------------------------------------------------
def test_untracked_traffic_needs_both_directions(matrix: Matrix) -> None:
    """H-15: an untracked allow of questions alone stops the flow; a normal policy that allows all doesn't help the answers."""
    questions, answers = rule("Allow", "UDP", [53]), rule("Allow", "UDP", source={"ports": [53]})
    web, from_web = rule("Allow", "TCP", [80]), rule("Allow", "TCP", source={"ports": [80]})
    one = policy("raw", doNotTrack=True, ingress=[questions, web], egress=[])
    two = policy("raw", doNotTrack=True, ingress=[questions, web], egress=[answers, from_web])
    outward = policy("raw", doNotTrack=True, ingress=[answers, from_web], egress=[questions, web])
    back = policy("raw", doNotTrack=True, ingress=[], egress=[questions, web])
    inbound = {"in udp 53": True, "in tcp 80": True, "in udp 67": False, "in tcp 81": False}
    matrix.judge([ETH1, two], inbound)
    matrix.judge([ETH1, one], dict.fromkeys(inbound, False))
    matrix.judge([ETH1, outward], {"out tcp 80": True, "out tcp 81": False, "in tcp 80": False})
    # Failsafe ports are tracked as ever, whatever untracked policy says.
    matrix.judge([ETH1, back], {"out tcp 80": False, "out udp 67": True, "in tcp 22": True})


def test_untracked_deny_is_final_and_what_it_leaves_open_is_judged_later(matrix: Matrix) -> None:
    """H-13, H-14, M-34."""
    items = [
        ETH1,
        policy("raw", doNotTrack=True, ingress=deny("TCP", 80), egress=deny("UDP", 80)),
        policy("open", ingress=[rule()], egress=[rule()]),
    ]
    expected = {
        "in tcp 80": False,
        "in tcp 81": True,
        "out udp 80": False,
        "out tcp 80": True,
        "in icmp": True,
        "in tcp 22": True,
    }
    matrix.judge([*items], expected)
    matrix.judge([*items[:2]], {**dict.fromkeys(expected, False), "in tcp 22": True})


def test_untracked_deny_stops_what_is_forwarded_and_a_star_endpoint_has_none(matrix: Matrix) -> None:
    """H-10 last row, H-16."""
    raw = policy("raw", doNotTrack=True, ingress=deny("TCP", 80, 30080), egress=[])
    items = [raw, policy("open", ingress=[rule()], egress=[rule()])]
    cells = {"routed tcp 80": False, "node-port tcp 30080": False, "routed tcp 81": True, "routed-out tcp 443": True}
    matrix.judge([ETH1, *items], {**cells, "in-private tcp 80": True})
    matrix.judge([endpoint("*"), *items], {**dict.fromkeys(cells, True), "in tcp 80": True})


def test_untracked_allow_skips_this_endpoints_policies_on_forward(matrix: Matrix) -> None:
    """H-12: routed without tracking, both ways by untracked policy of both interfaces."""
    there, back = rule("Allow", "UDP", [80]), rule("Allow", "UDP", source={"ports": [80]})
    items = [
        ETH1,
        endpoint("eth0"),
        policy("raw1", selector=on("eth1"), doNotTrack=True, ingress=[there], egress=[]),
        policy("raw0", selector=on("eth0"), doNotTrack=True, ingress=[back], egress=[]),
        policy("shut", selector=on("eth1"), ingress=[rule("Deny")], egress=[back]),
    ]
    out0 = policy("out0", selector=on("eth0"), ingress=[rule("Deny")], egress=[there])
    matrix.judge([*items, out0], {"routed udp 80": True, "routed udp 81": False})
    matrix.judge([*items, policy("out0", selector=on("eth0"), egress=[rule("Deny")])], {"routed udp 80": False})


# --- open connections ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("index", [0, 1], ids=["v4", "v6"])
def test_open_connections_survive_a_new_deny(matrix: Matrix, index: int) -> None:
    """H-71: in, out, routed, and through a NodePort; new ones don't get through. Only untracked policy cuts them."""
    lab, internet, worker = matrix.lab, matrix.probers["internet"], matrix.probers["worker"]
    matrix.bring([ETH1, policy("open", ingress=[rule()], egress=[rule()])])
    ways = {
        "in": (internet, lab.PUBLIC, 80),
        "node-port": (internet, lab.PUBLIC, 30080),
        "routed": (internet, lab.PEER, 443),
        "out": (worker, lab.INTERNET, 81),
    }
    for name, (prober, pair, port) in ways.items():
        assert prober.hold(f"{name}-{index}", pair[index], port) == "ok"
    early = policy("early", preDNAT=True, ingress=[rule("Deny")])
    matrix.bring([ETH1, early, policy("shut", ingress=[rule("Deny")], egress=[rule("Deny")], applyOnForward=True)])
    for name, (prober, pair, port) in ways.items():
        assert prober.still(f"{name}-{index}", timeout=2) == "ok", name
        assert not prober.can_connect(pair[index], port, timeout=0.15), name
    matrix.bring([ETH1, policy("raw", doNotTrack=True, ingress=[rule("Deny")], egress=[])])
    for name, (prober, _, _) in ways.items():
        assert prober.still(f"{name}-{index}", timeout=0.15) == "timeout", name
