"""Interfaces come, go, are renamed and change addresses while the agent runs."""

from __future__ import annotations

import time

import pytest

from tests.e2e import documents as d
from tests.e2e.conftest import ALL_OPEN, GUARDED, PORTS, Site

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
CLOSED = {"v4": (22,), "v6": (22,)}


def governed(site: Site) -> dict[str, str]:
    """Interface to endpoint, as the agent's status says."""
    return {interface["name"]: interface["endpoint"] for interface in site.agent.status().get("interfaces", [])}


def test_renamed_and_back(guarded: Site) -> None:
    assert governed(guarded) == {"eth0": "w0"}
    guarded.worker.ip("link set eth0 down", "link set eth0 name public0", "link set public0 up")
    for address in guarded.WORKER[0]:
        guarded.worker.run("ip", "address", "replace", f"{address}/{64 if ':' in address else 24}", "dev", "public0", "nodad")
    # The endpoint names eth0, which has gone: what now carries its address is another interface.
    guarded.until("nothing governs public0", lambda: "public0" not in governed(guarded))
    guarded.etcd.put(d.endpoint_key("w1"), d.endpoint("w1", "public0"))
    guarded.until("w1 governs it", lambda: governed(guarded).get("public0") == "w1")
    guarded.agent.wait_applied(guarded.etcd.revision())
    guarded.settle()
    assert guarded.reached() == GUARDED


def test_an_endpoint_by_address_moves_with_it(site: Site) -> None:
    """expectedIPs: the interface that has the address is governed, wherever the address goes."""
    address4 = site.WORKER[0][0]
    site.guard()
    site.etcd.delete(d.endpoint_key("w0"))
    revision = site.etcd.put(d.endpoint_key("moving"), d.endpoint("moving", None, expectedIPs=[address4]))
    site.agent.start()
    site.agent.wait_applied(revision)
    assert governed(site) == {"eth0": "moving"}
    assert (site.reached(0), site.reached(1)) == (GUARDED, ALL_OPEN)
    site.worker.ip(f"address del {address4}/24 dev eth0", f"address add {address4}/32 dev eth1")
    site.until("it governs eth1", lambda: governed(site) == {"eth1": "moving"})
    assert site.reached(1) == {"v4": (22, 80), "v6": (22, 80)}  # the other client is not among the friends
    assert site.reached(0)["v6"] == PORTS
    site.worker.ip(f"address del {address4}/32 dev eth1", f"address add {address4}/24 dev eth0")
    site.until("it governs eth0 again", lambda: governed(site) == {"eth0": "moving"})
    assert (site.reached(0), site.reached(1)) == (GUARDED, ALL_OPEN)


def test_an_interface_that_comes_is_guarded(guarded: Site) -> None:
    """What an endpoint names is guarded before it exists, from its first packet on, and again when it comes back."""
    guarded.etcd.put(d.endpoint_key("late"), d.endpoint("late", "late0"))
    guarded.agent.wait_applied(guarded.etcd.revision())
    before = guarded.everything()
    client, prober = guarded.hosts["client1"], guarded.probers[1]
    for _ in range(2):
        guarded.link(guarded.worker, "late0", ["10.50.0.1/24"], client, "late1", ["10.50.0.2/24"])
        assert not prober.can_connect("10.50.0.1", 81)
        assert prober.can_connect("10.50.0.1", 80)
        guarded.worker.ip("link del late0")
    assert guarded.reached() == GUARDED
    assert guarded.everything() == before


def test_every_interface_but_loopback(guarded: Site) -> None:
    revision = guarded.etcd.put(d.endpoint_key("all"), d.endpoint("all", "*"))
    guarded.agent.wait_applied(revision)
    assert guarded.reached(1) == {"v4": (22, 80), "v6": (22, 80)}
    assert guarded.agent.metric("hostward_applied_revision") == revision  # over the loopback, as etcd is
    revision = guarded.etcd.delete(d.endpoint_key("all"))
    guarded.agent.wait_applied(revision)
    assert guarded.reached(1) == ALL_OPEN


def test_what_changed_while_the_store_was_in_doubt_is_caught_up(guarded: Site) -> None:
    """An address moved while the kernel state was frozen; nothing else will ever say so again."""
    guarded.etcd.put(d.endpoint_key("moving"), d.endpoint("moving", None, expectedIPs=["198.51.100.77"]))
    guarded.agent.wait_applied(guarded.etcd.revision())
    assert guarded.reached(1) == ALL_OPEN
    guarded.agent.wait_received(guarded.etcd.delete(d.CLUSTER))
    guarded.until("it is frozen", lambda: bool(guarded.agent.status()["frozen"]))
    guarded.worker.ip("address add 198.51.100.77/32 dev eth1")
    # Nothing tells when the agent has taken it in, as nothing comes of it: a change that another agent would show by now.
    time.sleep(1)
    assert guarded.reached(1) == ALL_OPEN
    revision = guarded.etcd.put(d.CLUSTER, d.cluster())
    guarded.agent.wait_applied(revision)
    guarded.until("eth1 is governed", lambda: guarded.reached(1) == {"v4": (22, 80), "v6": (22, 80)})


def test_a_port_of_a_bridge_is_told_of(guarded: Site) -> None:
    """The kernel says that its packets come in by the bridge: what guards the port alone guards nothing."""
    event = "packets of a port come in its master's name, which has no host endpoint"
    assert not [warning for warning in guarded.agent.status()["warnings"] if "port" in warning]
    guarded.worker.ip("link add br0 type bridge", "link set br0 up", "link set eth0 master br0")
    guarded.worker.run("ip", "address", "flush", "dev", "eth0")
    for address in guarded.WORKER[0]:
        guarded.worker.run("ip", "address", "add", f"{address}/{64 if ':' in address else 24}", "dev", "br0", "nodad")
    guarded.until(
        "status warns", lambda: any("w0: eth0 is a port of br0" in text for text in guarded.agent.status()["warnings"])
    )
    assert [line["interfaces"] for line in guarded.agent.log_lines(event)] == [["eth0"]]
    guarded.until("it is a way in", lambda: guarded.reached() != GUARDED)
    guarded.agent.wait_applied(guarded.etcd.put(d.endpoint_key("w1"), d.endpoint("w1", "br0")))
    guarded.settle()
    guarded.until("the bridge is guarded", lambda: guarded.reached() == GUARDED)
    guarded.until("no warning", lambda: not any("port of" in text for text in guarded.agent.status()["warnings"]))
