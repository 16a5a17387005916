"""The link watcher against what `ip` says, in namespaces of its own."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager

import pytest

from hostward.dataplane.links import LinkWatcher
from tests.lab.netns import Namespace

pytestmark = pytest.mark.kernel


@pytest.fixture
def ns():
    namespace = Namespace("links")
    yield namespace
    namespace.close()


class Watch:
    """A watcher in a thread inside a namespace, and every mapping that it published."""

    def __init__(self, ns, **options):
        self.watcher = LinkWatcher(**options)
        self.published = []
        self.hold = threading.Event()
        self.hold.set()
        self._news = threading.Condition()
        self._stop = threading.Event()
        self._error = None
        self._thread = threading.Thread(target=self._run, args=(ns,))

    def _run(self, ns):
        try:
            with ns.entered():
                self.watcher.run(self._publish, self._stop)
        except Exception as error:  # noqa: BLE001 # handed to the test, which fails with it
            self._error = error

    def _publish(self, links):
        with self._news:
            self.published.append(links)
            self._news.notify_all()
        self.hold.wait(30)

    def until(self, holds, seconds=10.0):
        """Waits until a published mapping satisfies `holds`; that mapping."""
        deadline = time.monotonic() + seconds
        with self._news:
            while not (self.published and holds(self.published[-1])):
                assert time.monotonic() < deadline, (self.published[-1:], self.watcher.failure)
                self._news.wait(0.1)
            return self.published[-1]

    @contextmanager
    def running(self):
        self._thread.start()
        try:
            yield self
        finally:
            self.hold.set()
            self._stop.set()
            self._thread.join(5)
        assert not self._thread.is_alive()
        assert self._error is None


@pytest.fixture
def watch(ns):
    with Watch(ns).running() as watch:
        yield watch


def truth(ns):
    """What `ip` knows: name to (index, running, addresses)."""
    found = {
        link["ifname"]: [link["ifindex"], link["operstate"] in ("UP", "UNKNOWN") and "UP" in link["flags"], set()]
        for link in json.loads(ns.run("ip", "-j", "link"))
    }
    for link in json.loads(ns.run("ip", "-j", "addr")):
        for address in link["addr_info"]:
            found[link["ifname"]][2].add(address["local"])
    for family in ("-4", "-6"):
        for route in json.loads(ns.run("ip", "-j", family, "route", "show", "table", "local", "type", "local")):
            if "/" not in route["dst"] and route["dev"] in found:
                found[route["dev"]][2].add(route["dst"])
    return {name: tuple(values) for name, values in found.items()}


def without_route(ns, address):
    """Takes the local route of an address away, so that only the address itself tells of it, as in a VRF."""
    ns.run("ip", "route", "del", "local", address, "dev", "a0", "table", "local")


def seen(links):
    assert all(name == link.name for name, link in links.items())
    return {name: (link.index, link.up, set(link.addresses)) for name, link in links.items()}


def test_the_first_list_has_everything(ns):
    ns.run("ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0")
    ns.run("ip", "link", "set", "a0", "up")
    ns.run("ip", "addr", "add", "192.0.2.1/24", "dev", "a0")
    without_route(ns, "192.0.2.1")
    for route in ("198.51.100.7", "2001:db8::7"):
        ns.run("ip", "route", "add", "local", route, "dev", "a0", "table", "local")
    with Watch(ns).running() as watch:
        watch.until(lambda links: True)
        links = watch.published[0]
        assert seen(links) == truth(ns)
        assert links["a0"].addresses == {"192.0.2.1", "198.51.100.7", "2001:db8::7"}
        assert "127.0.0.1" in links["lo"].addresses
        assert "127.0.0.0" not in links["lo"].addresses
        assert "::1" in links["lo"].addresses
        assert (links["lo"].up, links["a0"].up) == (True, False)


def test_interfaces_come_and_go_are_renamed_and_change_state(ns, watch):
    watch.until(lambda links: "lo" in links)
    ns.run("ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0")
    index = watch.until(lambda links: {"a0", "b0"} <= links.keys())["a0"].index
    ns.run("ip", "link", "set", "a0", "up")
    ns.run("ip", "link", "set", "b0", "up")
    watch.until(lambda links: links["a0"].up and links["b0"].up)
    ns.run("ip", "link", "set", "b0", "down")
    watch.until(lambda links: not links["a0"].up)  # no carrier: up, but not running
    ns.run("ip", "link", "set", "a0", "down")
    ns.run("ip", "link", "set", "a0", "name", "wan")
    links = watch.until(lambda links: "wan" in links)
    assert "a0" not in links
    assert links["wan"].index == index
    ns.run("ip", "link", "add", "a0", "type", "veth", "peer", "name", "c0")  # the name is free again
    assert watch.until(lambda links: "a0" in links)["a0"].index != index
    ns.run("ip", "link", "del", "wan")
    links = watch.until(lambda links: not {"wan", "b0"} & links.keys())
    watch.until(lambda links: seen(links) == truth(ns))
    assert watch.watcher.resyncs == 1, "events alone must have led here"


def test_addresses_of_both_families_come_and_go(ns, watch):
    ns.run("ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0")
    for link in ("a0", "b0"):
        ns.run("ip", "link", "set", link, "up")
    watch.until(lambda links: "a0" in links and any(a.startswith("fe80::") for a in links["a0"].addresses))
    for command in ("add", "del"):
        for address in ("192.0.2.1/24", "198.51.100.1/24", "2001:db8::1/64"):
            ns.run("ip", "addr", command, address, "dev", "a0")
            text = address.partition("/")[0]
            watch.until(lambda links, text=text, there=command == "add": (text in links["a0"].addresses) == there)
    ns.run("ip", "addr", "add", "192.0.2.1", "peer", "192.0.2.9/32", "dev", "a0")
    ns.run("ip", "addr", "add", "2001:db8::1", "peer", "2001:db8::9/128", "dev", "a0")
    links = watch.until(lambda links: {"192.0.2.1", "2001:db8::1"} <= links["a0"].addresses)
    assert not {"192.0.2.9", "2001:db8::9"} & links["a0"].addresses
    watch.until(lambda links: seen(links) == truth(ns))


def test_an_address_that_is_there_twice_goes_with_the_second(ns, watch):
    ns.run("ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0")
    ns.run("ip", "addr", "add", "192.0.2.1/24", "dev", "a0")
    ns.run("ip", "addr", "add", "192.0.2.1/25", "dev", "a0")
    without_route(ns, "192.0.2.1")
    watch.until(lambda links: "a0" in links and "192.0.2.1" in links["a0"].addresses)
    ns.run("ip", "addr", "del", "192.0.2.1/24", "dev", "a0")
    ns.run("ip", "addr", "add", "192.0.2.7/24", "dev", "a0")
    without_route(ns, "192.0.2.7")
    links = watch.until(lambda links: "192.0.2.7" in links["a0"].addresses)
    assert "192.0.2.1" in links["a0"].addresses
    ns.run("ip", "addr", "del", "192.0.2.1/25", "dev", "a0")
    watch.until(lambda links: links["a0"].addresses == {"192.0.2.7"})


def test_local_routes_count_as_addresses_as_long_as_the_kernel_keeps_them(ns, watch):
    ns.run("ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0")
    ns.run("ip", "link", "set", "a0", "up")
    ns.run("ip", "addr", "add", "192.0.2.1/24", "dev", "a0")
    for route in ("198.51.100.7", "203.0.113.0/24", "2001:db8::7"):  # a net is no address
        ns.run("ip", "route", "add", "local", route, "dev", "a0", "table", "local")
    ns.run("ip", "route", "add", "198.51.100.9", "dev", "a0", "table", "local")  # a neighbour's address
    watch.until(lambda links: "a0" in links and links["a0"].addresses == {"192.0.2.1", "198.51.100.7", "2001:db8::7"})
    ns.run("ip", "link", "set", "a0", "down")  # takes IPv6 routes, not IPv4 ones
    watch.until(lambda links: links["a0"].addresses == {"192.0.2.1", "198.51.100.7"})
    watch.until(lambda links: seen(links) == truth(ns))
    ns.run("ip", "route", "del", "local", "198.51.100.7", "dev", "a0", "table", "local")
    watch.until(lambda links: links["a0"].addresses == {"192.0.2.1"})
    assert watch.watcher.resyncs == 1


def test_an_ipv6_address_counts_before_it_is_proven_unique(ns, watch):
    ns.run("ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0")
    ns.run("ip", "addr", "add", "2001:db8::1/64", "dev", "a0")  # down: it stays tentative, without a local route
    links = watch.until(lambda links: "a0" in links and "2001:db8::1" in links["a0"].addresses)
    assert "2001:db8::1" not in ns.run("ip", "-6", "route", "show", "table", "local")
    assert not links["a0"].up


def test_a_port_that_leaves_its_bridge_is_still_there(ns, watch):
    ns.run("ip", "link", "add", "br0", "type", "bridge")
    ns.run("ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0", "address", "02:00:00:00:00:01")
    ns.run("ip", "addr", "add", "192.0.2.1/24", "dev", "a0")
    watch.until(lambda links: "a0" in links and "192.0.2.1" in links["a0"].addresses)
    ns.run("ip", "link", "set", "a0", "master", "br0")
    ns.run("ip", "link", "set", "a0", "nomaster")
    ns.run("ip", "link", "set", "b0", "name", "last")
    links = watch.until(lambda links: "last" in links)
    assert links["a0"].addresses == {"192.0.2.1"}


def test_a_change_that_no_link_value_shows_is_not_published(ns, watch):
    ns.run("ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0")
    watch.until(lambda links: {"a0", "b0"} <= links.keys())
    before, events = len(watch.published), watch.watcher.events
    for mtu in range(1400, 1420):
        ns.run("ip", "link", "set", "a0", "mtu", str(mtu))
    ns.run("ip", "link", "set", "a0", "name", "last")
    watch.until(lambda links: "last" in links)
    assert watch.watcher.events > events + 20
    assert len(watch.published) == before + 1


def test_routes_of_other_tables_never_reach_the_watcher(ns, watch):
    ns.run("ip", "link", "set", "lo", "up")
    watch.until(lambda links: "lo" in links)
    before = watch.watcher.events
    routes = "\n".join(f"route add 10.{n >> 8}.{n & 255}.0/24 dev lo" for n in range(500))
    ns.run("ip", "-batch", "-", data=routes)
    ns.run("ip", "-6", "route", "add", "2001:db8::/64", "dev", "lo")
    ns.run("ip", "addr", "add", "192.0.2.1/32", "dev", "lo")
    watch.until(lambda links: "192.0.2.1" in links["lo"].addresses)
    assert watch.watcher.events - before < 10


def test_a_flood_that_overruns_the_socket_ends_in_the_truth(ns):
    pairs = range(200)
    ns.run("ip", "-batch", "-", data="\n".join(f"link add a{n} type veth peer name b{n}" for n in pairs))
    with Watch(ns, receive_buffer=4096).running() as watch:
        watch.until(lambda links: len(links) == 401)
        watch.hold.clear()  # the watcher is kept in its next publication while the kernel drops events
        ns.run("ip", "link", "set", "lo", "down")
        watch.until(lambda links: not links["lo"].up)
        flood = [f"link set {side}{n} {state}" for state in ("up", "down", "up") for n in pairs for side in "ab"]
        ns.run("ip", "-batch", "-", data="\n".join(flood))
        ns.run("ip", "-batch", "-", data="\n".join(f"link del a{n}" for n in range(100)))
        ns.run("ip", "-batch", "-", data="\n".join(f"addr add 10.0.{n}.1/24 dev b{n}" for n in range(100, 200)))
        ns.run("ip", "link", "set", "a150", "down")
        ns.run("ip", "link", "set", "a150", "name", "wan")
        resyncs, publications = watch.watcher.resyncs, len(watch.published)
        watch.hold.set()
        links = watch.until(lambda links: seen(links) == truth(ns), 30)
        assert len(links) == 201
        assert watch.watcher.overruns >= 1
        assert watch.watcher.resyncs > resyncs
        # One list per overrun and a few for link-local addresses that come later: not one per event, and no spinning.
        assert watch.watcher.resyncs - resyncs < 20
        assert len(watch.published) - publications < 200


def test_a_list_is_read_again_at_intervals(ns):
    with Watch(ns, refresh_interval=0.05).running() as watch:
        watch.until(lambda links: "lo" in links)
        deadline = time.monotonic() + 10
        while watch.watcher.resyncs < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert watch.watcher.resyncs >= 4
        assert len(watch.published) == 1, "nothing changed, nothing to say"


def test_what_the_receiver_raises_is_not_swallowed(ns):
    class BugError(Exception):
        pass

    def publish(links):
        raise BugError

    with ns.entered(), pytest.raises(BugError):
        LinkWatcher().run(publish, threading.Event())
