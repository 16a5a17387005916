"""Workload endpoints by packets, v4 and v6: what pods send and get, among each other, from outside, from and to their host.

statements.md H-32, H-39, H-46, H-48, H-52, H-70..H-74. Two pods of one host, behind `cali1` and `cali2`; what host endpoints
add is in test_matrix_traffic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from hostward.model.resources import DEFAULT_ALLOW_PROFILE, NamedPort
from hostward.render.ruleset import FAMILIES, Family, TableId, TableName
from tests.lab.cells import GATEWAY, SECOND, WORKLOAD
from tests.lab.host import NAMESPACE, Document, document, endpoint, in_namespace, isolated, policy, rule, workload
from tests.lab.matrix import PODS, Item, Matrix
from tests.lab.netns import Namespace
from tests.lab.probes import Outcome, Probe

pytestmark = pytest.mark.kernel

A = workload("cali1", WORKLOAD, labels={"app": "a"})
B = workload("cali2", SECOND, labels={"app": "b"})
BARE = workload("cali1", WORKLOAD, profiles=())
CLOSED = policy("closed", selector=f"has({NAMESPACE})", ingress=[], egress=[])
EVERY_WAY = (
    "workload-out tcp 80",
    "workload-out udp 53",
    "to-workload tcp 80",
    "to-workload icmp",
    "workload-in tcp 80",
    "pod-to-pod tcp 80",
    "pod-to-pod-back udp 80",
    "pod-service tcp 8003",
    "node-port-workload tcp 30081",
)
NOT_THE_PODS = {"in tcp 80": True, "routed tcp 80": True, "out tcp 80": True, "to-pod tcp 80": True, "loop tcp 80": True}
SNOOZE = 0.05


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    with Matrix() as matrix:
        yield matrix


def of(app: str) -> str:
    return f"app == '{app}'"


def tcp(*ports: int | str, **fields: Any) -> list[Document]:
    return [rule("Allow", "TCP", ports, **fields)]


# --- the interface -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("action", ["Drop", "Accept", "Return"])
def test_a_workload_interface_without_an_endpoint_is_cut_off(matrix: Matrix, action: str) -> None:
    """H-52: whatever it may send to the host otherwise; nobody else is touched."""
    shut = dict.fromkeys((*EVERY_WAY, "to-second tcp 80", "second-out udp 53", "second-in tcp 80"), False)
    matrix.judge([], {**shut, **NOT_THE_PODS}, pods=[], default_endpoint_to_host_action=action)
    # An endpoint of this interface elsewhere, or of another interface here, doesn't help it.
    elsewhere = [workload("cali1", WORKLOAD, node="another"), workload("cali1x", WORKLOAD), workload("cali", SECOND)]
    matrix.judge([], shut, pods=elsewhere, default_endpoint_to_host_action=action)


def test_an_endpoint_opens_its_own_interface_only(matrix: Matrix) -> None:
    open_ways = ("workload-out udp 53", "to-workload tcp 80", "workload-in tcp 80", "host-workload tcp 80")
    shut = dict.fromkeys(("pod-to-pod tcp 80", "pod-to-pod-back tcp 80", "second-out udp 53", "second-in tcp 80"), False)
    matrix.judge([], {**dict.fromkeys(open_ways, True), **shut}, pods=[A])


def test_among_many_interfaces_each_finds_its_own_chain(matrix: Matrix) -> None:
    """H-51: names that are beginnings of others; one without an endpoint is still cut off."""
    names = ["cali", *(f"cali{n}" for n in range(3, 30)), "cali1a", "cali1ab", "cali2z", "calico"]
    many = [workload(name, [f"10.245.0.{n}"], profiles=()) for n, name in enumerate(names)]
    served = policy("served", selector=of("b"), ingress=tcp(81))
    expected = {"to-second tcp 81": True, "to-second tcp 80": False, "to-workload tcp 80": True, "workload-out udp 53": True}
    matrix.judge([served], {**expected, "pod-to-pod tcp 81": True, "pod-to-pod tcp 80": False}, pods=[A, B, *many])
    shut = dict.fromkeys(("to-workload tcp 80", "workload-out udp 53", "workload-in tcp 80", "pod-to-pod tcp 81"), False)
    matrix.judge([served], {**shut, "to-second tcp 81": True, "second-out udp 53": True}, pods=[B, *many])


@pytest.mark.parametrize("index", [0, 1], ids=["v4", "v6"])
def test_an_endpoint_that_is_not_understood_is_shut_for_open_connections_too(matrix: Matrix, index: int) -> None:
    """D4, H-48."""
    shut = isolated(A)
    opened = policy("open", selector="all()", order=1, ingress=[rule()], egress=[rule()])
    matrix.judge([opened], {**dict.fromkeys(EVERY_WAY, False), "second-out udp 53": True}, pods=[shut, B])
    matrix.bring([opened], pods=[A, B])
    internet, pod = matrix.probers["internet"], matrix.probers["workload"]
    assert internet.hold("to", WORKLOAD[index], 80, 3) == pod.hold("from", matrix.lab.INTERNET[index], 80, 3) == "ok"
    matrix.bring([opened], pods=[shut, B])
    assert internet.still("to", 0.2) == pod.still("from", 0.2) == "timeout"


# --- policy --------------------------------------------------------------------------------------------------------------
def test_what_a_pod_gets_is_judged_by_ingress_and_what_it_sends_by_egress(matrix: Matrix) -> None:
    """From outside and to outside; what comes back needs no policy (H-70)."""
    matrix.judge(
        [policy("in", selector=of("a"), ingress=[*tcp(80), rule("Allow", "UDP", [67])])],
        {
            "to-workload tcp 80": True,
            "to-workload tcp 81": False,
            "to-workload udp 67": True,
            "to-workload icmp": False,
            "to-workload sctp 80": False,
            "to-workload 112": False,
            "workload-out tcp 81": True,
            "to-second tcp 81": True,
        },
        pods=[A, B],
    )
    matrix.judge(
        [policy("out", selector=of("a"), egress=[*tcp(80), rule("Allow", "ICMP"), rule("Allow", "ICMPv6")])],
        {
            "workload-out tcp 80": True,
            "workload-out tcp 81": False,
            "workload-out icmp": True,
            "workload-out udp 53": False,  # there are no failsafe ports (H-64)
            "workload-out 112": False,
            "to-workload tcp 81": True,
            "second-out tcp 81": True,
        },
        pods=[A, B],
    )


def test_between_pods_of_one_host_both_are_asked(matrix: Matrix) -> None:
    """M-30; after DNAT by the pod's own address and port."""
    out = policy("out", selector=of("a"), egress=tcp(80, 81))
    served = policy("in", selector=of("b"), ingress=tcp(81, 443))
    expected = {
        "pod-to-pod tcp 81": True,
        "pod-to-pod tcp 80": False,
        "pod-to-pod tcp 443": False,
        "pod-service tcp 8003": False,
    }
    matrix.judge([out, served], {**expected, "pod-to-pod-back tcp 22": True}, pods=[A, B])
    served = policy("in", selector=of("b"), ingress=tcp(80))
    matrix.judge(
        [out, served], {"pod-service tcp 8003": True, "pod-to-pod tcp 80": True, "pod-to-pod tcp 81": False}, pods=[A, B]
    )
    by_service = policy("in", selector=of("b"), ingress=tcp(8003))
    matrix.judge([out, by_service], {"pod-service tcp 8003": False}, pods=[A, B])


def test_no_policy_and_no_profile_is_closed(matrix: Matrix) -> None:
    """M-29 b, M-31: a profile that is missing denies, too."""
    for profiles in ((), ("absent", DEFAULT_ALLOW_PROFILE)):
        shut = workload("cali1", WORKLOAD, profiles=profiles)
        want = {
            "to-workload tcp 80": False,
            "workload-out udp 53": False,
            "workload-in tcp 80": False,
            "second-out udp 53": True,
        }
        matrix.judge([], {**want, "pod-to-pod-back tcp 80": False, "host-workload tcp 80": True}, pods=[shut, B])


def test_order_tiers_and_pass(matrix: Matrix) -> None:
    """M-25..M-28 hold for workloads as they do for hosts."""
    tier = document("Tier", "first", order=10.0, defaultAction="Deny")
    first = policy("a", selector=of("a"), tier="first", order=2, ingress=[rule("Pass", "TCP", [80]), *tcp(81)])
    stop = policy("b", selector=of("a"), tier="first", order=1, ingress=[rule("Deny", "TCP", [22])])
    second = policy("c", selector=of("a"), ingress=tcp(80, 22, 443))
    ports = {80: True, 81: True, 22: False, 443: False}
    expected = {f"to-workload tcp {port}": passes for port, passes in ports.items()}
    matrix.judge([tier, first, stop, second], {**expected, "workload-out tcp 443": True}, pods=[A, B])


def test_labels_of_profiles_select_pods_and_their_peers(matrix: Matrix) -> None:
    """M-11: as the label of a namespace reaches its pods."""
    open_rules: dict[str, Any] = {"ingress": [rule()], "egress": [rule()]}
    red = document("Profile", "kns.red", labelsToApply={"pcns.team": "red"}, **open_rules)
    blue = document("Profile", "kns.blue", labelsToApply={"pcns.team": "blue"}, **open_rules)
    a, b = (
        workload(*where, profiles=[name]) for *where, name in (("cali1", WORKLOAD, "kns.red"), ("cali2", SECOND, "kns.blue"))
    )
    served = policy("p", selector="pcns.team == 'blue'", ingress=tcp(80, source={"selector": "pcns.team == 'red'"}))
    expected = {
        "pod-to-pod tcp 80": True,
        "pod-to-pod tcp 81": False,
        "to-second tcp 80": False,
        "pod-to-pod-back tcp 81": True,
    }
    matrix.judge([red, blue, served], expected, pods=[a, b])
    pale = document("Profile", "kns.red", labelsToApply={"pcns.team": "pink"}, **open_rules)
    matrix.judge([pale, blue, served], {**expected, "pod-to-pod tcp 80": False}, pods=[a, b])
    # The label of the pod itself wins over that of its profile.
    own = workload("cali1", WORKLOAD, profiles=["kns.red"], labels={"pcns.team": "green"})
    matrix.judge([red, blue, served], {**expected, "pod-to-pod tcp 80": False}, pods=[own, b])


def test_one_name_of_a_port_and_different_numbers(matrix: Matrix) -> None:
    """R-25: by pod and protocol, into pods and out of one."""
    a = workload("cali1", WORKLOAD, labels={"app": "a"}, ports=(NamedPort("web", 6, 80), NamedPort("web", 17, 53)))
    b = workload("cali2", SECOND, labels={"app": "b"}, ports=(NamedPort("web", 6, 81),))
    served = policy("in", selector="has(app)", ingress=tcp("web"))
    expected = {"to-workload tcp 80": True, "to-workload tcp 81": False, "to-second tcp 81": True, "to-second tcp 80": False}
    matrix.judge([served], {**expected, "to-workload udp 53": False}, pods=[a, b])
    out = policy("out", selector=of("a"), egress=tcp("web", destination={"selector": of("b")}))
    expected = {"pod-to-pod tcp 81": True, "pod-to-pod tcp 80": False, "workload-out tcp 81": False}
    matrix.judge([out], expected, pods=[a, b])


def test_a_policy_of_one_namespace_is_none_of_anothers(matrix: Matrix) -> None:
    """M-14: nor of a host endpoint's, whatever label it claims."""
    a = workload("cali1", WORKLOAD, namespace="red", labels={"app": "web"})
    b = workload("cali2", SECOND, namespace="blue", labels={"app": "web"})
    closed = in_namespace("red", policy("p", selector="all()", ingress=[], egress=[]))
    claims = endpoint("eth1", labels={NAMESPACE: "red", "app": "web"}, profiles=[DEFAULT_ALLOW_PROFILE])
    expected = {"to-workload tcp 80": False, "workload-out tcp 80": False, "to-second tcp 80": True, "second-out tcp 80": True}
    matrix.judge([closed, claims], {**expected, "in tcp 80": True, "out tcp 80": True}, pods=[a, b])
    # Two of one name, each in its own namespace.
    red = in_namespace("red", policy("p", selector="app == 'web'", ingress=tcp(80)))
    blue = in_namespace("blue", policy("p", selector="app == 'web'", ingress=tcp(81)))
    ports = {80: (True, False), 81: (False, True)}
    cells = {f"to-{pod} tcp {port}": got[n] for port, got in ports.items() for n, pod in enumerate(("workload", "second"))}
    matrix.judge([red, blue], cells, pods=[a, b])


@pytest.mark.parametrize("index", [0, 1], ids=["v4", "v6"])
def test_open_connections_survive_a_new_deny(matrix: Matrix, index: int) -> None:
    """H-70, H-71: into a pod, out of one, between two, by a service, from and to the host; new ones don't get through."""
    probers, lab = matrix.probers, matrix.lab
    ways = {
        "to": ("internet", WORKLOAD, 80),
        "from": ("workload", lab.INTERNET, 81),
        "between": ("workload", SECOND, 443),
        "node-port": ("internet", lab.PUBLIC, 30081),
        "to-host": ("workload", GATEWAY, 80),
    }
    matrix.bring([])
    for name, (sender, pair, port) in {**ways, "from-host": ("worker", WORKLOAD, 81)}.items():
        assert probers[sender].hold(f"{name}-{index}", pair[index], port, 3) == "ok", name
    matrix.bring([CLOSED], default_endpoint_to_host_action="Drop")
    for name, (sender, pair, port) in ways.items():
        assert probers[sender].still(f"{name}-{index}", 3) == "ok", name
        assert not probers[sender].can_connect(pair[index], port, timeout=0.15), name
    assert probers["worker"].still(f"from-host-{index}", 3) == "ok"


@pytest.mark.parametrize("path", ["workload-out", "to-workload", "pod-to-pod", "workload-in"])
def test_broken_packets_are_dropped_before_policy(matrix: Matrix, path: str) -> None:
    """H-46.1, H-72."""
    opened = policy("open", selector="all()", ingress=[rule()], egress=[rule()])
    matrix.judge([opened], {f"{path} 6": False, f"{path} tcp 80": True}, pods=[A, B])
    matrix.judge([opened], {f"{path} 6": True}, pods=[A, B], oracle=False, disable_conntrack_invalid_check=True)
    matrix.judge([CLOSED], {f"{path} 6": False}, pods=[A, B], disable_conntrack_invalid_check=True)


# --- the host ------------------------------------------------------------------------------------------------------------
@contextmanager
def input_policy(matrix: Matrix, verdict: str) -> Iterator[None]:
    """The policy of the kernel's INPUT chain, in both families."""
    for tool in ("iptables-legacy", "ip6tables-legacy"):
        matrix.lab.worker.run(tool, "-w", "-P", "INPUT", verdict)
    try:
        yield
    finally:
        for tool in ("iptables-legacy", "ip6tables-legacy"):
            matrix.lab.worker.run(tool, "-w", "-P", "INPUT", "ACCEPT")


@pytest.mark.parametrize("kernel", ["ACCEPT", "DROP"])
@pytest.mark.parametrize(("action", "passes"), [("Drop", ()), ("Accept", ("ACCEPT", "DROP")), ("Return", ("ACCEPT",))])
def test_what_pods_may_send_to_their_host(matrix: Matrix, action: str, passes: Sequence[str], kernel: str) -> None:
    """H-39: egress policy first, then the setting, then whatever the host has. Answers to the host pass under all."""
    setting = {"default_endpoint_to_host_action": action}
    asked = {"workload-in tcp 80": True, "workload-in udp 53": True, "workload-in icmp": True}
    both = {"host-workload tcp 80": True, "host-service tcp 8002": True}
    matrix.judge([], {**asked, **both})
    out = policy("out", selector=of("a"), egress=tcp(80))
    with input_policy(matrix, kernel):
        got = dict.fromkeys(asked, kernel in passes)
        matrix.judge([], {**got, **both}, pods=[A, B], oracle=kernel == "ACCEPT", **setting)
        got = {text: passed and text.endswith("80") for text, passed in got.items()}
        matrix.judge([out], {**got, **both}, pods=[A, B], oracle=kernel == "ACCEPT", **setting)
        matrix.judge([CLOSED], {**dict.fromkeys(asked, False), **both}, pods=[A, B], oracle=kernel == "ACCEPT", **setting)


@pytest.mark.parametrize(("setting", "goes_on"), [("Accept", False), ("Return", True)])
def test_what_follows_an_accept_in_input(matrix: Matrix, setting: str, goes_on: bool) -> None:
    """H-39, H-47: what a pod may send to the host is accepted the way that everything in INPUT is."""
    cells = {"workload-in tcp 80": True, "workload-in tcp 81": True}
    matrix.judge([], cells, default_endpoint_to_host_action="Accept")
    with matrix.foreign("filter", "INPUT", "-p", "tcp", "--dport", "81", "-j", "DROP"):
        matrix.judge(
            [],
            {**cells, "workload-in tcp 81": not goes_on},
            oracle=False,
            default_endpoint_to_host_action="Accept",
            iptables_filter_allow_action=setting,
        )


HOSTS_CLOSED = [
    [],
    [endpoint("eth1")],
    [endpoint("*")],
    [endpoint("*"), policy("shut", order=1, ingress=[rule("Deny")], egress=[rule("Deny")], applyOnForward=True)],
]


@pytest.mark.parametrize("guarded", HOSTS_CLOSED, ids=["none", "eth1", "star", "star-forward"])
def test_a_host_always_reaches_its_own_pods(matrix: Matrix, guarded: list[Document]) -> None:
    """H-74: by their addresses, and by a service's that OUTPUT's DNAT turns into one; nobody's policy is asked."""
    cells = dict.fromkeys(("host-workload tcp 80", "host-workload udp 53", "host-workload icmp", "host-second tcp 81"), True)
    settings: dict[str, Any] = {"failsafe_inbound_host_ports": (), "failsafe_outbound_host_ports": ()}
    cells = {**cells, "host-service tcp 8002": True, "workload-in tcp 80": False, "pod-to-pod tcp 80": False}
    matrix.judge([*guarded, CLOSED], cells, pods=[A, B], default_endpoint_to_host_action="Drop", **settings)


def known(host: Namespace, address: str) -> bool:
    """Whether a host has learnt the link address of a neighbour."""
    return "lladdr" in host.run("ip", "-6", "neigh", "show", address)


@pytest.mark.parametrize("pods", [[A, B], []], ids=["closed", "unknown"])
def test_neighbour_discovery_towards_the_host(matrix: Matrix, pods: list[Item]) -> None:
    """H-39, H-75: a closed pod, and an unknown one, still has a link; an echo request is no neighbour discovery."""
    worker, pod = matrix.lab.worker, matrix.lab.workload
    matrix.judge([CLOSED], {"workload-in icmp v6": False}, pods=pods, default_endpoint_to_host_action="Drop")
    for asker, link, address, prober in (
        (worker, "cali1", WORKLOAD[1], matrix.probers["worker"]),
        (pod, "eth0", GATEWAY[1], matrix.probers["workload"]),
    ):
        for host, device in ((worker, "cali1"), (pod, "eth0")):
            host.run("ip", "-6", "neigh", "flush", "dev", device)
        assert not known(asker, address), link
        got = prober.can_connect(address, 80, timeout=3 if pods and asker is worker else 0.3)
        assert got is (bool(pods) and asker is worker)
        assert known(asker, address), link


# --- what a workload may not claim ---------------------------------------------------------------------------------------
SPOOFED = ("10.66.0.9", "fd66::9")  # routed back to the internet, not to the pod
RANGES = ("10.66.0.0/24", "fd66::/64")


@pytest.fixture
def claims(matrix: Matrix) -> Iterator[Callable[..., bool]]:
    """Whether a datagram from an address that isn't the pod's arrives at an address."""
    pod = matrix.lab.workload
    own = [f"address {{}} {address} dev eth0{flag}" for address, flag in zip(SPOOFED, ("", " nodad"), strict=True)]
    pod.ip(*(command.format("add") for command in own))

    def arrives(server: str, to: str, source: str, *, expected: bool) -> bool:
        matrix.lab.worker.forget_flows()
        (outcome,) = matrix.probers["workload"].probe([Probe(to, 80, "udp", source=source, timeout=0.2)])
        deadline = time.monotonic() + (5 if expected else 0)
        while outcome.token not in matrix.servers[server].heard():
            if time.monotonic() > deadline:
                return False
            time.sleep(SNOOZE)
        return True

    yield arrives
    pod.ip(*(command.format("del").removesuffix(" nodad") for command in own))


def test_no_pod_sends_from_an_address_that_is_not_its_own(matrix: Matrix, claims: Callable[..., bool]) -> None:
    """H-32, H-73: to the outside, to another pod and to the host; only setting and endpoint together allow it."""
    free = workload("cali1", WORKLOAD, labels={"app": "a"}, spoofable=RANGES)
    other = workload("cali1", WORKLOAD, labels={"app": "a"}, spoofable=("10.67.0.0/24", "fd67::/64"))
    ways = {"internet": matrix.lab.INTERNET, "second": SECOND, "worker": GATEWAY}

    def all_arrive(pod: Item, *, passes: bool, setting: str, items: Sequence[Item] = (), beside: Item = B) -> None:
        matrix.bring(items, pods=[pod, beside], workload_source_spoofing=setting)
        for server, pair in ways.items():
            for to, source, own in zip(pair, SPOOFED, WORKLOAD, strict=True):
                assert claims(server, to, source, expected=passes) is passes, (server, to, setting)
                assert claims(server, to, own, expected=not items) is not items, (server, to, setting)

    all_arrive(A, passes=False, setting="Disabled")
    all_arrive(A, passes=False, setting="Any")
    all_arrive(free, passes=False, setting="Disabled")
    all_arrive(other, passes=False, setting="Any")
    all_arrive(A, passes=False, setting="Any", beside=workload("cali2", SECOND, spoofable=RANGES))
    all_arrive(free, passes=True, setting="Any")
    # Policy judges it all the same, and an endpoint that isn't understood is allowed nothing.
    all_arrive(free, passes=False, setting="Any", items=[CLOSED])
    matrix.bring([], pods=[isolated(free), B], workload_source_spoofing="Any")
    assert not any(
        claims("internet", to, source, expected=False) for to, source in zip(matrix.lab.INTERNET, SPOOFED, strict=True)
    )


def test_nobody_takes_another_pods_address(matrix: Matrix) -> None:
    """H-73: also where that address is allowed to reach what this one isn't."""
    served = policy("in", selector=of("b"), ingress=[rule(source={"nets": ["10.244.2.5/32", "fd00:244:2::5/128"]})])
    pod = matrix.lab.workload
    pod.ip(f"address add {SECOND[0]}/32 dev lo", f"address add {SECOND[1]}/128 dev lo nodad")
    try:
        matrix.bring([served], pods=[A, B])
        before = set(matrix.servers["worker"].heard())
        probes = [Probe(to, 80, "udp", source=source, timeout=0.3) for to, source in zip(GATEWAY, SECOND, strict=True)]
        assert not any(matrix.probers["workload"].probe(probes))
        assert set(matrix.servers["worker"].heard()) == before
    finally:
        pod.ip(f"address del {SECOND[0]}/32 dev lo", f"address del {SECOND[1]}/128 dev lo")


def test_no_pod_speaks_into_the_clusters_tunnels(matrix: Matrix) -> None:
    """H-46.4: VXLAN by its port and IPIP by its number, unless a setting allows it; then policy judges as ever."""
    opened = policy("open", selector="all()", ingress=[rule()], egress=[rule()])
    vxlan = ("workload-out udp 4789", "workload-in udp 4789", "pod-to-pod udp 4789")
    ipip = ("workload-out 4", "workload-in 4", "pod-to-pod 4")
    other = {"workload-out udp 80": True, "workload-out 112": True, "workload-out tcp 80": True, "to-workload udp 4789": True}
    other |= {"host-workload udp 4789": True, "to-second 4": True, "out udp 4789": True, "routed 4": True}
    shut, passed = dict.fromkeys((*vxlan, *ipip), False), dict.fromkeys((*vxlan, *ipip), True)
    matrix.judge([opened], {**shut, **other}, pods=[A, B])
    matrix.judge(
        [opened], {**shut, **dict.fromkeys(vxlan, True), **other}, pods=[A, B], allow_vxlan_packets_from_workloads=True
    )
    matrix.judge([opened], {**shut, **dict.fromkeys(ipip, True), **other}, pods=[A, B], allow_ipip_packets_from_workloads=True)
    both: dict[str, Any] = {"allow_vxlan_packets_from_workloads": True, "allow_ipip_packets_from_workloads": True}
    matrix.judge([opened], {**passed, **other}, pods=[A, B], **both)
    matrix.judge([CLOSED], shut, pods=[A, B], **both)
    elsewhere = {"workload-out udp 7000": False, "workload-out udp 4789": True, "workload-out 4": False}
    matrix.judge([opened], elsewhere, pods=[A, B], vxlan_port=7000)


# --- how it is denied ----------------------------------------------------------------------------------------------------
def test_reject_answers_pods_too(matrix: Matrix) -> None:
    """R-38, H-52: by policy and for want of an endpoint. What only the host refuses is dropped (H-39)."""
    shut = dict.fromkeys(("to-workload udp 80", "workload-out udp 80", "pod-to-pod udp 80", "workload-in udp 80"), False)

    def results(items: Sequence[Item], pods: Sequence[Item], action: str, cells: dict[str, bool]) -> set[str]:
        outcomes: dict[Any, Outcome] = matrix.judge(
            items, cells, pods=pods, iptables_filter_deny_action=action, default_endpoint_to_host_action="Drop"
        )
        return {outcome.result for outcome in outcomes.values()}

    for items, pods in (([CLOSED], [A, B]), ([], []), ([], [isolated(A), isolated(B)])):
        assert results(items, pods, "Reject", shut) == {"refused"}, (items, pods)
        assert results(items, pods, "Drop", shut) == {"timeout"}, (items, pods)
    assert results([], [A, B], "Reject", {"workload-in udp 80": False}) == {"timeout"}


@pytest.mark.parametrize(
    ("items", "pods", "text", "place", "reason"),
    [
        ([], [], "workload-out udp 80", ("filter", "hw-from-wl"), "drop * egress unknown-workload"),
        ([], [], "to-workload udp 80", ("filter", "hw-to-wl"), "drop * ingress unknown-workload"),
        ([], PODS, "workload-in udp 80", ("filter", "hw-wl-to-host"), "drop * egress to-host"),
        ([CLOSED], PODS, "workload-out udp 80", ("filter", "hw-fw-cali1"), "drop cali1 egress end-of-tier"),
        ([CLOSED], PODS, "to-workload udp 80", ("filter", "hw-tw-cali1"), "drop cali1 ingress end-of-tier"),
        ([], PODS, "workload-out 6", ("filter", "hw-fw-cali1"), "drop cali1 egress invalid"),
        ([], PODS, "workload-out udp 4789", ("filter", "hw-fw-cali1"), "drop cali1 egress tunnel"),
        ([], [isolated(A)], "workload-out udp 80", ("filter", "hw-fw-cali1"), "drop cali1 egress isolated"),
        ([], [BARE], "to-workload udp 80", ("filter", "hw-tw-cali1"), "drop cali1 ingress no-policy"),
    ],
)  # fmt: skip
def test_each_drop_is_counted_under_its_reason(
    matrix: Matrix, items: list[Item], pods: list[Item], text: str, place: tuple[TableName, str], reason: str
) -> None:
    """What reports read: the rule that dropped a packet says why, and counts it."""

    def dropped(family: Family) -> int:
        return sum(
            packets for each, packets in matrix.host.counted(TableId(family, place[0]), place[1]) if each.counter == reason
        )

    matrix.judge(items, {text: False}, pods=pods, default_endpoint_to_host_action="Drop")
    before = {family: dropped(family) for family in FAMILIES}
    matrix.judge(items, {text: False}, pods=pods, default_endpoint_to_host_action="Drop")
    assert all(dropped(family) > before[family] for family in FAMILIES)
