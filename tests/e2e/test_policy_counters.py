"""Packets by policy, exactly: whatever becomes of the rules that counted them, of the agent, and of others' rules."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e import documents as d
from tests.e2e.conftest import Site

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
ALLOWED, DENIED, MANY, REST, UNTRACKED = 7001, 7002, 7003, 7004, 7005
PAYLOAD = b"0123456789"
SIZES = (20 + 8 + len(PAYLOAD), 40 + 8 + len(PAYLOAD))
"""Of a datagram with its headers, by IP version."""


class Counted:
    """A site, how many packets each policy should have seen, and how many bytes."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.packets: dict[tuple[str, str], int] = {}
        self.octets: dict[tuple[str, str], int] = {}

    def send(self, port: int, number: int, policy: str, action: str, version: int = 0) -> None:
        """So many datagrams, each a new connection, to a port that a policy decides about."""
        with self.site.hosts["client0"].entered(), ExitStack() as stack:
            for _ in range(number):
                sock = stack.enter_context(socket.socket((socket.AF_INET, socket.AF_INET6)[version], socket.SOCK_DGRAM))
                sock.sendto(PAYLOAD, (self.site.WORKER[0][version], port))
        self.packets[policy, action] = self.packets.get((policy, action), 0) + number
        self.octets[policy, action] = self.octets.get((policy, action), 0) + number * SIZES[version]

    def shown(self, what: str) -> dict[tuple[str, str], int]:
        """The series of the policies that packets were sent for."""
        found = {}
        for family in text_string_to_metric_families(self.site.agent.metrics()):
            for sample in family.samples:
                if sample.name == f"hostward_policy_{what}_total":
                    assert sample.labels.keys() == {"tier", "policy", "direction", "action"}
                    assert (sample.labels["tier"], sample.labels["direction"]) == ("default", "ingress")
                    place = sample.labels["policy"], sample.labels["action"]
                    if place in self.packets:
                        found[place] = int(sample.value)
        return found

    def check(self, what: str) -> None:
        """Waits until all packets are shown; more must never be."""
        deadline_seen = []

        def all_shown() -> bool:
            found = self.shown("packets")
            deadline_seen.append(found)
            over = {place: n for place, n in found.items() if n > self.packets[place]}
            assert not over, f"{what}: more than was sent: {over}, of {self.packets}"
            return found == self.packets

        try:
            self.site.until(f"all packets are shown: {what}", all_shown)
        except AssertionError as error:
            raise AssertionError(f"{what}: shown {deadline_seen[-1:]}, sent {self.packets}") from error
        assert self.shown("bytes") == self.octets


def write(site: Site, name: str, order: float, rules: list[d.Document], **spec: object) -> None:
    site.agent.wait_applied(site.etcd.put(d.policy_key(name), d.policy(name, order, rules, **spec)))


@pytest.fixture
def counted(site: Site) -> Counted:
    site.etcd.put(d.CLUSTER, d.cluster())
    site.etcd.put(d.policy_key("allow"), d.policy("allow", 10, [d.to_ports("Allow", [ALLOWED])]))
    site.etcd.put(d.policy_key("deny"), d.policy("deny", 20, [d.to_ports("Deny", [DENIED])]))
    many = [d.to_ports("Log", [9]), d.to_ports("Allow", [MANY]), d.to_ports("Log", [10]), d.to_ports("Deny", [REST])]
    site.etcd.put(d.policy_key("many"), d.policy("many", 30, many))  # so long that it has a chain of its own
    revision = site.etcd.put(d.endpoint_key("w0"), d.endpoint("w0", "eth0"))
    site.agent.start()
    site.agent.wait_applied(revision)
    return Counted(site)


def burst(counted: Counted) -> None:
    """Some packets for each rule, of both IP versions."""
    for version in (0, 1):
        counted.send(ALLOWED, 3 + version, "gnp/allow", "allow", version)
        counted.send(DENIED, 5, "gnp/deny", "deny", version)
        counted.send(MANY, 7, "gnp/many", "allow", version)
        counted.send(REST, 11, "gnp/many", "deny", version)


def test_every_packet_is_counted_once_whatever_is_edited(counted: Counted) -> None:
    site = counted.site
    burst(counted)
    counted.check("at first")
    # What follows is edited at once, so that what the rules had counted was never read before they went.
    burst(counted)
    write(site, "deny", 20, [d.to_ports("Deny", [DENIED, 7777])])  # its own rule, in a chain that it shares
    burst(counted)
    write(site, "many", 30, [d.to_ports("Allow", [MANY]), d.to_ports("Deny", [REST])])  # now it is inlined, too
    burst(counted)
    write(site, "another", 15, [d.to_ports("Allow", [9999])])  # another group: all of the old one goes
    burst(counted)
    write(site, "deny", 20, [d.to_ports("Deny", [DENIED])], preDNAT=True, applyOnForward=True)  # two tables, in two steps
    counted.send(DENIED, 5, "gnp/deny", "deny")
    counted.send(ALLOWED, 5, "gnp/allow", "allow")
    site.agent.wait_applied(site.etcd.delete(d.policy_key("another")))
    write(site, "untracked", 5, [d.to_ports("Allow", [UNTRACKED])], doNotTrack=True, applyOnForward=True)  # in raw
    counted.send(UNTRACKED, 6, "gnp/untracked", "allow")
    counted.send(MANY, 2, "gnp/many", "allow", 1)
    counted.check("after edits")
    assert site.agent.metric("hostward_dropped_packets_total", interface="*", direction="ingress", reason="policy") == sum(
        number for (_, action), number in counted.packets.items() if action == "deny"
    )


def test_counts_go_on_when_the_agent_starts_again(counted: Counted) -> None:
    site = counted.site
    burst(counted)
    write(site, "allow", 10, [d.to_ports("Allow", [ALLOWED, 7777])])
    burst(counted)
    counted.check("before")
    site.agent.kill()
    burst(counted)  # nobody is there to read
    site.agent.start()
    site.until("it answers", lambda: site.agent.status().get("appliedRevision", 0) > 0)
    counted.check("killed and started again")
    site.agent.stop()
    site.etcd.put(d.policy_key("allow"), d.policy("allow", 10, [d.to_ports("Allow", [ALLOWED])]))
    site.agent.start()
    site.agent.wait_applied(site.etcd.revision())
    counted.check("stopped, edited and started again")  # rules went that the new process never knew
    counted.send(DENIED, 2, "gnp/deny", "deny")
    counted.check("and then")


def test_what_others_do_makes_no_total_go_down(counted: Counted) -> None:
    site = counted.site
    for _ in range(3):
        burst(counted)
    counted.check("before")
    site.agent.iptables("-Z")  # who then sees more than there was before can't know what was missed; fewer are exact
    counted.send(ALLOWED, 2, "gnp/allow", "allow")
    counted.send(REST, 2, "gnp/many", "deny")
    counted.check("set to zero by somebody")
    site.agent.iptables("-F")
    site.until("it is repaired", lambda: site.agent.metric("hostward_repairs_total") > 0)
    counted.send(ALLOWED, 1, "gnp/allow", "allow")
    counted.check("flushed by somebody")
    assert 0 < site.agent.metric("hostward_exposure_seconds_total") < 60  # at most since the last look


def test_policies_are_shown_or_not(counted: Counted) -> None:
    site = counted.site
    site.until("series are there before the first packet", lambda: "hostward_policy_packets_total{" in site.agent.metrics())
    key = f"{d.ROOT}felixconfigurations/default"
    document = {"kind": "FelixConfiguration", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "default"}}
    site.etcd.put(key, document | {"spec": {"policyCountersEnabled": False}})
    site.until("they are gone", lambda: "hostward_policy_packets" not in site.agent.metrics())
    assert "hostward_dropped_packets_total{" in site.agent.metrics()
