"""How verdicts come about, by packets, v4 and v6: order, tiers, Pass, profiles, what is missing, and what every rule is behind.

statements.md enforcement 1.3-1.5 and 4.7, 4.8; decision D4..D8.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from hostward.model.failsafe import parse_failsafe_text
from hostward.render.ruleset import FAMILIES, Family, TableId
from tests.lab.host import Document, document, endpoint, isolated, load, policy, rule
from tests.lab.matrix import Matrix
from tests.lab.netns import Namespace
from tests.lab.probes import Listener, Probe

pytestmark = pytest.mark.kernel

ETH1 = endpoint("eth1")
PORTS = (80, 81, 443)


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    with Matrix() as matrix:
        yield matrix


def tcp(action: str, *ports: int) -> Document:
    return rule(action, "TCP", ports)


def tier(name: str, order: float | None, action: str = "Deny") -> Document:
    more: dict[str, Any] = {} if order is None else {"order": order}
    return document("Tier", name, defaultAction=action, **more)


def profile(name: str, ingress: Sequence[Document], egress: Sequence[Document] = ()) -> Document:
    return document("Profile", name, ingress=list(ingress), egress=list(egress))


def inbound(*ports: int) -> dict[str, bool]:
    """Which of three TCP ports are open inbound; all others of them are shut."""
    return {f"in tcp {port}": port in ports for port in PORTS}


# --- order ---------------------------------------------------------------------------------------------------------------
def test_policies_by_order_then_name_and_rules_as_written(matrix: Matrix) -> None:
    """M-26: without an order last; ties by name."""
    late, early = policy("a-late", order=20, ingress=[tcp("Deny", 80)]), policy("z-early", order=10, ingress=[tcp("Allow", 80)])
    matrix.judge([ETH1, late, early], inbound(80))
    last = policy("a-last", ingress=[tcp("Deny", 80, 81)])
    matrix.judge([ETH1, last, policy("z", order=1e9, ingress=[tcp("Allow", 80)])], inbound(80))
    matrix.judge(
        [ETH1, policy("b", order=5, ingress=[tcp("Allow", 80)]), policy("a", order=5, ingress=[tcp("Deny", 80)])], inbound()
    )
    matrix.judge(
        [ETH1, policy("b", order=5, ingress=[tcp("Deny", 80)]), policy("a", order=5, ingress=[tcp("Allow", 80)])], inbound(80)
    )
    matrix.judge([ETH1, policy("a", ingress=[tcp("Deny", 80), tcp("Allow", 80, 81), tcp("Deny", 81)])], inbound(81))


def test_tiers_pass_and_the_end_of_a_tier(matrix: Matrix) -> None:
    """M-25, M-28: the first tier passes 80, allows 81 and has no word on 443."""
    first = policy("a", tier="first", ingress=[tcp("Pass", 80), tcp("Allow", 81), tcp("Deny", 80)])
    second = policy("b", ingress=[tcp("Allow", 80, 443)])
    matrix.judge([ETH1, tier("first", 10), first, second], inbound(80, 81))
    matrix.judge([ETH1, tier("first", 10, "Pass"), first, second], inbound(80, 81, 443))
    # After the default tier it is not asked: the default tier ends in a deny.
    matrix.judge([ETH1, tier("first", 2e6), first, second], inbound(80, 443))
    matrix.judge([ETH1, tier("first", None), first, policy("b", ingress=[tcp("Pass", 80), tcp("Allow", 443)])], inbound(443))
    # A second policy of the tier isn't asked after a Pass, but it is where nothing was said.
    more = policy("more", tier="first", order=5, ingress=[tcp("Deny", 80), tcp("Allow", 443)])
    passing = policy("a", tier="first", order=1, ingress=[tcp("Pass", 80)])
    matrix.judge([ETH1, tier("first", 10), passing, more, second], inbound(80, 443))


def test_three_tiers_and_a_pass_that_only_leaves_its_own(matrix: Matrix) -> None:
    """The pass mark of a tier doesn't reach into the next one."""
    items = [
        ETH1,
        tier("one", 1),
        tier("two", 2),
        policy("p1", tier="one", ingress=[rule("Pass")]),
        policy("p2a", tier="two", order=1, ingress=[tcp("Pass", 80)]),
        policy("p2b", tier="two", order=2, ingress=[tcp("Allow", 81)]),
        policy("p3", ingress=[tcp("Allow", 80, 443)]),
    ]
    matrix.judge(items, inbound(80, 81))


def test_the_built_in_tiers(matrix: Matrix) -> None:
    """D5, M-3: kube-admin before and kube-baseline after the default tier, both passing on."""
    items = [ETH1, policy("admin", tier="kube-admin", ingress=[tcp("Deny", 80)])]
    baseline = policy("baseline", tier="kube-baseline", ingress=[tcp("Allow", 443)])
    matrix.judge([*items, baseline, policy("p", ingress=[tcp("Allow", 80, 81), tcp("Pass", 443)])], inbound(81, 443))
    matrix.judge([*items, baseline], inbound(443))


def test_a_tier_that_is_missing_comes_last_and_denies(matrix: Matrix) -> None:
    """D5."""
    lost = policy("lost", tier="absent", ingress=[tcp("Allow", 80, 81)])
    matrix.judge([ETH1, lost], inbound(80, 81))
    baseline = policy("b", tier="kube-baseline", ingress=[tcp("Deny", 81)])
    open_all = profile("open", [rule()])
    matrix.judge([endpoint("eth1", profiles=["open"]), open_all, lost, baseline], inbound(80))


def test_directions(matrix: Matrix) -> None:
    """M-23, M-24, M-29 c, d: only a direction that a policy has is judged by it, rules or not."""
    open_all = profile("open", [rule()], [rule()])
    items = [endpoint("eth1", profiles=["open"]), open_all]
    matrix.judge([*items, policy("p", ingress=[])], {**inbound(), "out tcp 80": True})
    matrix.judge([*items, policy("p", egress=[])], {**inbound(*PORTS), "out tcp 80": False})
    matrix.judge(
        [*items, policy("p", ingress=[], egress=[tcp("Allow", 81)])], {**inbound(), "out tcp 80": False, "out tcp 81": True}
    )


# --- profiles ------------------------------------------------------------------------------------------------------------
def test_profiles_decide_where_no_policy_does(matrix: Matrix) -> None:
    """M-28.4, M-29 a, e, f: in listed order; a Pass in a profile is no verdict, one in the last tier leads to them."""
    one = profile("one", [tcp("Pass", 80), tcp("Deny", 81)], [tcp("Allow", 80)])
    two = profile("two", [tcp("Allow", 80, 81)])
    both = endpoint("eth1", profiles=["one", "two"])
    matrix.judge([both, one, two], {**inbound(80), "out tcp 80": True, "out tcp 81": False})
    matrix.judge([endpoint("eth1", profiles=["two", "one"]), one, two], inbound(80, 81))
    matrix.judge([both, one, two, policy("p", ingress=[tcp("Pass", 80), tcp("Allow", 443)])], inbound(80, 443))


def test_a_profile_that_is_missing_denies(matrix: Matrix) -> None:
    """M-31, D5: also what a later profile would allow; the built-in one is always there."""
    two = profile("two", [tcp("Allow", 80)])
    matrix.judge([endpoint("eth1", profiles=["absent", "two"]), two], inbound())
    matrix.judge([endpoint("eth1", profiles=["two", "absent"]), two], inbound(80))
    allowed = endpoint("eth1", profiles=["projectcalico-default-allow"])
    matrix.judge([allowed], {**inbound(*PORTS), "out udp 80": True, "in 112": True, "in 6": False})


def test_labels_of_a_profile_select_the_endpoint(matrix: Matrix) -> None:
    """M-11."""
    with_label = document("Profile", "labels", labelsToApply={"role": "web"})
    items = [endpoint("eth1", profiles=["labels"]), policy("p", selector="role == 'web'", ingress=[tcp("Allow", 80)])]
    matrix.judge([*items, with_label], inbound(80))
    matrix.judge(items, inbound())
    # Its own label wins, then that of the profile that is listed first.
    own = endpoint("eth1", profiles=["labels"], labels={"role": "db"})
    matrix.judge([own, items[1], with_label], inbound())
    other = document("Profile", "other", labelsToApply={"role": "db"})
    for first, second, port in (("labels", "other", 80), ("other", "labels", 81)):
        listed = endpoint("eth1", profiles=[first, second])
        for_db = policy("db", selector="role == 'db'", ingress=[tcp("Allow", 81)])
        matrix.judge([listed, items[1], for_db, with_label, other], inbound(port))


def test_an_endpoint_that_is_not_understood_is_shut_but_for_failsafes(matrix: Matrix) -> None:
    """D4."""
    shut = isolated(load(endpoint("eth1", profiles=["projectcalico-default-allow"]))[1])
    opened = [policy("p", ingress=[rule()], egress=[rule()], applyOnForward=True), policy("e", preDNAT=True, ingress=[rule()])]
    cells = {"in tcp 22": True, "in tcp 80": False, "out udp 53": True, "out tcp 80": False, "routed tcp 80": False}
    matrix.judge(
        [shut, *opened], {**cells, "node-port tcp 30080": False, "in-private tcp 80": True, "out-dnat tcp 8000": False}
    )


# --- actions -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", [4, 6])
def test_log_counts_and_goes_on(matrix: Matrix, family: int) -> None:
    """R-50, R-51, R-54: a packet that another criterion excludes uses nothing of the rate."""
    logged = policy("logged", ingress=[tcp("Log", 80), tcp("Allow", 80, 81)], tier="default")
    limited = {"log_action_rate_limit": "1/minute", "log_action_rate_limit_burst": 1}
    for limit, counts in (({}, 3), (limited, 1)):
        settings: dict[str, Any] = {"log_prefix": "%t %k %n", **limit}
        matrix.judge([ETH1, logged], {"in tcp 443": False, f"in tcp 81 v{family}": True}, **settings)
        for _ in range(3):
            cells = {f"in tcp {port} v{family}": True for port in (81, 80)}
            matrix.judge([ETH1, logged], cells, **settings)
        tool = "iptables-legacy-save" if family == 4 else "ip6tables-legacy-save"
        lines = matrix.lab.worker.run(tool, "-c", "-t", "filter").splitlines()
        (line,) = [line for line in lines if "-A hw-pi-logged" in line and "LOG" in line]
        assert line.startswith(f"[{counts}:"), line
        assert '--log-prefix "default gnp logged: "' in line
        matrix.judge([ETH1], {"in tcp 80": False})


def test_reject_answers_and_drop_is_silent(matrix: Matrix) -> None:
    """R-38: only the filter table can answer."""
    items = [ETH1, policy("early", preDNAT=True, ingress=[tcp("Deny", 443)]), policy("p", ingress=[rule("Deny", "UDP", [81])])]
    cells = {"in udp 80": False, "in udp 81": False, "routed udp 80": False, "out udp 80": False, "in tcp 443": False}
    for action, word in (("Reject", "refused"), ("Drop", "timeout")):
        outcomes = matrix.judge(items, cells, iptables_filter_deny_action=action)
        results = {where: outcome.result for where, outcome in outcomes.items()}
        for family in (4, 6):
            assert results.pop(("in tcp 443", family)) == "timeout"
            assert results.pop(("out udp 80", family)) in ("refused", "denied")
        assert set(results.values()) == {word}, results
    # TCP over IPv6 takes no notice of the first refusal: it comes while `connect` still holds the socket.
    matrix.bring(items, iptables_filter_deny_action="Reject")
    refused = matrix.probers["internet"].probe(Probe(address, 80, timeout=3) for address in matrix.lab.PUBLIC)
    assert [outcome.result for outcome in refused] == ["refused", "refused"]


# --- before any policy ---------------------------------------------------------------------------------------------------
SHUT = [policy("shut", ingress=[rule("Deny")], egress=[rule("Deny")])]
SHUT_RAW = [policy("raw", doNotTrack=True, ingress=[rule("Deny")], egress=[rule("Deny")])]
SHUT_EARLY = [policy("early", preDNAT=True, ingress=[rule("Deny")])]
ALL_SHUT = pytest.mark.parametrize(
    "shut", [SHUT, SHUT_RAW, SHUT_EARLY, [*SHUT, *SHUT_RAW, *SHUT_EARLY]], ids=["n", "u", "p", "all"]
)


@ALL_SHUT
def test_failsafe_ports_by_default(matrix: Matrix, shut: list[Document]) -> None:
    """H-60..H-66: in and out with their answers, also past raw; nothing beside them."""
    expected = {
        "in tcp 22": True,
        "in tcp 2379": True,
        "in udp 68": True,
        "out udp 53": True,
        "out udp 67": True,
        "out tcp 2379": True,
        "in tcp 80": False,
        "in udp 53": False,
        "in udp 67": False,
        "out udp 68": False,
        "out tcp 22": False,
        "out tcp 80": False,
    }
    matrix.judge([ETH1, *shut], expected)


@ALL_SHUT
def test_failsafe_ports_of_some_nets(matrix: Matrix, shut: list[Document]) -> None:
    """H-63: an entry with a net belongs to that net's family."""
    settings: dict[str, Any] = {
        "failsafe_inbound_host_ports": failsafe("tcp:203.0.113.5/32:443", "tcp:[2001:db8:5::5/128]:81", "udp:80"),
        "failsafe_outbound_host_ports": failsafe("tcp:203.0.113.6/32:80", "tcp:[2001:db8:5::6/128]:81"),
    }
    expected = {
        "in tcp 443 v4": True,
        "in tcp 443 from=1 v4": False,
        "in tcp 443 v6": False,
        "in tcp 81 v6": True,
        "in tcp 81 v4": False,
        "in tcp 81 from=1 v6": False,
        "in udp 80": True,
        "in tcp 22": False,
        "out tcp 80 to=1 v4": True,
        "out tcp 80 v4": False,
        "out tcp 81 to=1 v6": True,
        "out tcp 81 v6": False,
        "out tcp 80 to=1 v6": False,
        "out udp 53": False,
    }
    matrix.judge([ETH1, *shut], expected, **settings)


def test_no_failsafe_ports(matrix: Matrix) -> None:
    nothing: dict[str, Any] = {"failsafe_inbound_host_ports": (), "failsafe_outbound_host_ports": ()}
    matrix.judge([ETH1], {"in tcp 22": False, "in udp 68": False, "out udp 53": False, "out tcp 2379": False}, **nothing)


# Link-local addresses need a scope, which probes don't know.
ASK = """
import socket, sys
address, port, link = sys.argv[1:]
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
    sock.settimeout(0.4)
    try:
        sock.sendto(b"asked", (address, int(port), 0, socket.if_nametoindex(link)))
        print(sock.recv(100).decode())
    except OSError as error:
        print("no answer:", error)
"""


@pytest.mark.parametrize("shut", [SHUT, [*SHUT, *SHUT_RAW, *SHUT_EARLY]], ids=["normal", "all"])
def test_dhcpv6_on_the_link(matrix: Matrix, shut: list[Document]) -> None:
    """D8: to port 546 and from 547, answers too, with link-local addresses only."""
    worker, router = matrix.lab.worker, matrix.lab.public_router
    ours, theirs = link_local(worker, "eth1"), link_local(router, "to-worker")

    def answers(namespace: Namespace, address: str, port: int, link: str) -> bool:
        worker.forget_flows()
        return namespace.run(sys.executable, "-S", "-c", ASK, address, str(port), link).startswith("asked")

    ways = [(router, ours, 546, "to-worker"), (worker, theirs, 547, "eth1")]
    others = [(router, ours, 547, "to-worker"), (worker, theirs, 546, "eth1"), (worker, "2001:db8:2::1", 547, "eth1")]
    with Listener(router, udp=[546, 547]):
        matrix.bring([])
        assert all(answers(*way) for way in (*ways, *others))
        matrix.bring([ETH1, *shut])
        assert all(answers(*way) for way in ways)
        assert not any(answers(*way) for way in others)
    matrix.judge([ETH1, *shut], {"in udp 546": False, "in udp 547": False})


def link_local(host: Namespace, link: str) -> str:
    found = json.loads(host.run("ip", "-j", "-6", "address", "show", "dev", link, "scope", "link"))
    (address,) = (str(item["local"]) for entry in found for item in entry.get("addr_info", ()) if item)
    return address


def failsafe(*texts: str) -> tuple[object, ...]:
    return tuple(map(parse_failsafe_text, texts))


@ALL_SHUT
@pytest.mark.parametrize("interface", ["eth1", "*"])
def test_neighbour_discovery_under_a_closed_endpoint(matrix: Matrix, shut: list[Document], interface: str) -> None:
    """D6, H-75, H-76: nobody knows anybody's link address, and failsafe ports still work both ways."""
    cells = {"in tcp 22": True, "out udp 53": True, "in tcp 80": False}
    matrix.judge([endpoint(interface), *shut], cells)
    for host, link in ((matrix.lab.worker, "eth1"), (matrix.lab.public_router, "to-worker")):
        host.run("ip", "neigh", "flush", "dev", link)
        assert "lladdr" not in host.run("ip", "-6", "neigh", "show", "dev", link)
    matrix.judge([endpoint(interface), *shut], cells)
    assert "lladdr" in matrix.lab.worker.run("ip", "-6", "neigh", "show", "dev", "eth1")


def test_only_those_messages_of_icmpv6_pass(matrix: Matrix) -> None:
    """D6: an echo request is no neighbour discovery."""
    matrix.judge([ETH1], {"in icmp v6": False, "out icmp v6": False, "in tcp 22 v6": True})


@pytest.mark.parametrize(
    "opened",
    [[policy("open", ingress=[rule()], egress=[rule()])], [policy("early", preDNAT=True, ingress=[rule()])]],
    ids=["normal", "preDNAT"],
)
def test_broken_packets_are_dropped_before_policy(matrix: Matrix, opened: list[Document]) -> None:
    """H-72: conntrack state INVALID; the setting leaves them to policy."""
    early = "preDNAT" in opened[0]["spec"]
    matrix.judge(
        [ETH1, *opened], {"in 6": False, "routed 6": False, "in tcp 80": True, "out 6": False, "out tcp 80": not early}
    )
    # A policy is asked then: it allows them here, and no policy at all still shuts them out.
    left = {"in 6": True, "routed 6": True, "out 6": not early}
    matrix.judge([ETH1, *opened], left, oracle=False, disable_conntrack_invalid_check=True)
    matrix.judge([ETH1], dict.fromkeys(left, False), disable_conntrack_invalid_check=True)


@pytest.mark.parametrize(
    ("items", "text", "reason"),
    [
        ([ETH1], "in udp 80", "no-policy"),
        ([ETH1, policy("p", ingress=[])], "in udp 80", "end-of-tier"),
        ([ETH1], "in 6", "invalid"),
        ([isolated(load(ETH1)[1])], "in udp 80", "isolated"),
    ],
)
def test_each_drop_is_counted_under_its_reason(matrix: Matrix, items: list[Document], text: str, reason: str) -> None:
    """What reports read: the rule that dropped a packet says why, and counts it."""
    matrix.judge(items, {text: False})

    def drops(family: Family) -> dict[str, int]:
        found = matrix.host.counted(TableId(family, "filter"), "hw-fh-eth1")
        return {rule.counter: packets for rule, packets in found if rule.counter}

    before = {family: drops(family) for family in FAMILIES}
    matrix.judge(items, {text: False})
    for family in FAMILIES:
        more = {name: packets - before[family][name] for name, packets in drops(family).items()}
        assert {name: packets for name, packets in more.items() if packets} == {f"drop eth1 ingress {reason}": 1}
