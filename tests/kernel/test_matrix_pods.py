"""Pods and host endpoints together, by packets, v4 and v6: every cell of statements.md H-10 with a workload on a side.

`eth1` has an endpoint of its own, `*` is that of all other interfaces, the pods' among them where H-10 says so. Both meanings
of hostForwardPolicy come to the same here (decision D3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.cells import SECOND, WORKLOAD
from tests.lab.host import Document, endpoint, policy, rule, workload
from tests.lab.matrix import Matrix

pytestmark = pytest.mark.kernel

BOTH = pytest.mark.parametrize("forwarding", ["All", "ApplyOnForward"])
GUARDED = [endpoint("eth1"), endpoint("*")]
PODS = [workload("cali1", WORKLOAD, labels={"app": "a"}), workload("cali2", SECOND, labels={"app": "b"})]
ETH1, STAR, POD = "interface == 'eth1'", "interface == 'any'", "app == 'a'"
UNASKED = rule("Allow", "TCP", [1])  # a policy of this rule alone leaves everything here to the end of its tier

IN = {"node-port-workload tcp 30081", "to-workload tcp 80"}  # from outside to the pod
OUT = {"workload-out tcp 80", "workload-dnat tcp 8000"}  # from the pod to the outside
ACROSS = {"pod-to-pod tcp 80", "pod-service tcp 8003"}  # from the pod to another
BACK = {"pod-to-pod-back tcp 80"}  # from another to the pod
TO_HOST = {"workload-in tcp 80"}
FROM_HOST = {"host-workload tcp 80", "host-service tcp 8002"}
EVERYTHING = IN | OUT | ACROSS | BACK | TO_HOST | FROM_HOST

JUDGES: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    # whose policy, what kind of policy, and what it judges
    "eth1 preDNAT": (ETH1, {"preDNAT": True, "ingress": ()}, IN),
    "star preDNAT": (STAR, {"preDNAT": True, "ingress": ()}, OUT | ACROSS | BACK | TO_HOST),
    "eth1 normal ingress": (ETH1, {"ingress": ()}, set()),
    "eth1 normal egress": (ETH1, {"egress": ()}, set()),
    "star normal ingress": (STAR, {"ingress": ()}, set()),
    "star normal egress": (STAR, {"egress": ()}, set()),
    "eth1 applyOnForward ingress": (ETH1, {"applyOnForward": True, "ingress": ()}, IN),
    "eth1 applyOnForward egress": (ETH1, {"applyOnForward": True, "egress": ()}, OUT),
    "star applyOnForward ingress": (STAR, {"applyOnForward": True, "ingress": ()}, OUT | ACROSS | BACK),
    "star applyOnForward egress": (STAR, {"applyOnForward": True, "egress": ()}, IN | ACROSS | BACK),
    "pod ingress": (POD, {"ingress": ()}, IN | BACK),
    "pod egress": (POD, {"egress": ()}, OUT | ACROSS | TO_HOST),
}


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    with Matrix() as matrix:
        yield matrix


def shut(ways: set[str]) -> dict[str, bool]:
    """These are shut, and everything else works."""
    return {way: way not in ways for way in sorted(EVERYTHING)}


def with_rules(kind: dict[str, Any], rules: list[Document]) -> dict[str, Any]:
    return {field: rules if field in ("ingress", "egress") else value for field, value in kind.items()}


@BOTH
def test_closed_host_endpoints_alone_leave_pods_alone(matrix: Matrix, forwarding: str) -> None:
    """H-19, M-35: without a policy that applies on forward. What the pods may send to the host isn't theirs to say, either."""
    matrix.judge(GUARDED, {**shut(set()), "in tcp 80": False}, pods=PODS, host_forward_policy=forwarding)
    action = {"default_endpoint_to_host_action": "Drop", "host_forward_policy": forwarding}
    matrix.judge(GUARDED, shut(TO_HOST), pods=PODS, **action)
    opened = policy("open", order=1, ingress=[rule()], egress=[rule()], applyOnForward=True)
    matrix.judge([*GUARDED, opened], shut(TO_HOST), pods=PODS, **action)


@BOTH
@pytest.mark.parametrize("judge", JUDGES)
def test_who_judges_what(matrix: Matrix, judge: str, forwarding: str) -> None:
    """H-10: a Deny of this one alone shuts exactly what it judges, and so does the end of its tier (not of preDNAT: H-13)."""
    whose, kind, judged = JUDGES[judge]
    denies = policy("p", selector=whose, **with_rules(kind, [rule("Deny")]))
    matrix.judge([*GUARDED, denies], shut(judged), pods=PODS, host_forward_policy=forwarding)
    ends = policy("p", selector=whose, **with_rules(kind, [UNASKED]))
    matrix.judge([*GUARDED, ends], shut(set() if "preDNAT" in kind else judged), pods=PODS, host_forward_policy=forwarding)


@BOTH
def test_everybody_allows(matrix: Matrix, forwarding: str) -> None:
    """The other way round: all judges are there, and each allows."""
    allows = [
        policy(f"p{n}", selector=whose, **with_rules(kind, [rule()])) for n, (whose, kind, _) in enumerate(JUDGES.values())
    ]
    matrix.judge([*GUARDED, *allows], shut(set()), pods=PODS, host_forward_policy=forwarding)


@BOTH
@pytest.mark.parametrize(
    ("later", "stops"),
    [
        ("eth1 applyOnForward ingress", False),
        ("star applyOnForward egress", True),
        ("pod ingress", True),
    ],
)
def test_accept_before_nat_bypasses_only_this_endpoints_ingress(
    matrix: Matrix, later: str, stops: bool, forwarding: str
) -> None:
    """H-12: a NodePort that preDNAT policy lets in still has to please the pod's own policy and the way out of the host."""
    whose, kind, _ = JUDGES[later]
    early = policy("early", selector=ETH1, preDNAT=True, ingress=[rule("Allow", "TCP", [30081, 80])])
    denies = policy("late", selector=whose, **with_rules(kind, [rule("Deny")]))
    judged = dict.fromkeys(IN, not stops)
    matrix.judge([*GUARDED, early, denies], {**judged, "workload-in tcp 80": True}, pods=PODS, host_forward_policy=forwarding)


@BOTH
@pytest.mark.parametrize(
    ("later", "stops"),
    [
        ("star applyOnForward ingress", set()),
        ("eth1 applyOnForward egress", OUT),
        ("star applyOnForward egress", ACROSS),
        ("pod egress", OUT | ACROSS | TO_HOST),
    ],
)
def test_accept_before_nat_of_what_pods_send(matrix: Matrix, later: str, stops: set[str], forwarding: str) -> None:
    """H-12 for preDNAT policy of `*`: it opens neither the pod's egress nor the way out, nor what pods may send to the host."""
    whose, kind, _ = JUDGES[later]
    early = policy("early", selector=STAR, preDNAT=True, ingress=[rule()])
    denies = policy("late", selector=whose, **with_rules(kind, [rule("Deny")]))
    judged = {way: way not in stops for way in OUT | ACROSS | TO_HOST}
    matrix.judge([*GUARDED, early, denies], judged, pods=PODS, host_forward_policy=forwarding)
    judged["workload-in tcp 80"] = False
    matrix.judge(
        [*GUARDED, early, denies], judged, pods=PODS, host_forward_policy=forwarding, default_endpoint_to_host_action="Drop"
    )


def test_preDNAT_policy_knows_the_node_port_and_pod_policy_the_pods(matrix: Matrix) -> None:  # noqa: N802 # the field's name
    """H-11: a NodePort to a pod of this host."""
    other = {"to-workload tcp 8080": True, "to-workload tcp 80": True}
    for ports, passes in (([30081], False), ([8080], True)):
        early = policy("early", selector=ETH1, preDNAT=True, ingress=[rule("Deny", "TCP", ports)])
        matrix.judge([*GUARDED, early], {"node-port-workload tcp 30081": passes}, pods=PODS)
    for ports, passes in (([30081], False), ([8080], True)):
        served = policy("served", selector=POD, ingress=[rule("Allow", "TCP", ports)])
        expected = {"node-port-workload tcp 30081": passes, "to-workload tcp 8080": passes, "to-workload tcp 80": False}
        matrix.judge([*GUARDED, served], expected, pods=PODS)
    matrix.judge(GUARDED, {"node-port-workload tcp 30081": True, **other}, pods=PODS)


def test_untracked_policy_and_pods(matrix: Matrix) -> None:
    """H-10, H-12, H-16: it judges what comes in by eth1, never what a pod sends; its allow doesn't open a pod."""
    web = [rule("Deny", "TCP", [80, 30081])]
    early = policy("raw", selector=ETH1, doNotTrack=True, ingress=web, egress=web)
    matrix.judge([*GUARDED, early], shut(IN), pods=PODS)
    star = policy("raw", selector=STAR, doNotTrack=True, ingress=[rule("Deny")], egress=[rule("Deny")])
    matrix.judge([*GUARDED, star], shut(set()), pods=PODS)
    allow = policy("raw", selector=ETH1, doNotTrack=True, ingress=[rule("Allow", "UDP", [80])], egress=[])
    stop = policy("stop", selector=ETH1, ingress=[rule("Deny", "UDP")], egress=[rule()], applyOnForward=True)
    matrix.judge([*GUARDED, allow, stop], {"to-workload udp 80": True, "to-workload udp 81": False}, pods=PODS)
    closed = policy("closed", selector=POD, ingress=[UNASKED])
    matrix.judge([*GUARDED, allow, closed], {"to-workload udp 80": False, "to-second udp 80": True}, pods=PODS)


@pytest.mark.parametrize("kind", [{"preDNAT": True}, {"doNotTrack": True, "egress": [rule("Deny", "TCP", [80])]}])
def test_policy_before_nat_or_tracking_means_nothing_to_a_pod_that_it_selects(matrix: Matrix, kind: dict[str, Any]) -> None:
    """M-33: it judges at the host's interface, for which it is meant, and nowhere else."""
    early = policy("early", selector="all()", ingress=[rule("Deny", "TCP", [80, 30081])], **kind)
    matrix.judge([endpoint("eth1"), early], shut(IN), pods=PODS)


def test_a_guarded_interface_does_not_judge_what_its_pods_say_to_the_host(matrix: Matrix) -> None:
    """H-2, H-19: an endpoint that names a pod's interface governs nothing."""
    named = endpoint("cali1")
    everything = [policy("p", selector="all()", ingress=[rule("Deny")], egress=[rule("Deny")])]
    matrix.judge([named], shut(set()), pods=PODS)
    matrix.judge([named, endpoint("eth1")], {"workload-in tcp 80": True, "in tcp 80": False}, pods=PODS)
    # all() selects pods as well as hosts (M-15).
    matrix.judge([endpoint("eth1"), *everything], {**shut(EVERYTHING - FROM_HOST), "in tcp 80": False}, pods=PODS)
