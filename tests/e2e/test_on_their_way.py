"""A packet on its way while a set changes may have looked at it, and look again: it meets it as it was, or as it will be."""

from __future__ import annotations

import pytest

from tests.e2e import documents as d
from tests.e2e.conftest import Site
from tests.lab.probes import Stream, StreamClass

pytestmark = [pytest.mark.kernel, pytest.mark.etcd]
PORT = 7002
BETWEEN = 700  # rules: so many that half of the packets are between the two looks at a given moment
TIMES = 25


def set_of(site: Site, *, with_client: bool) -> int:
    nets = ["10.9.0.0/16", "fd99::/16", *(site.CLIENT[0] if with_client else ())]
    return site.etcd.put(d.set_key("friends"), d.network_set("friends", {"who": "friend"}, nets))


@pytest.mark.parametrize("version", [0, 1])
def test_who_joins_a_set_that_denies_and_allows_is_not_let_through(site: Site, version: int) -> None:
    """Friends may do everything but use this port, strangers may do nothing: for neither is it ever open."""
    friend = {"selector": "who == 'friend'"}
    others = [d.to_ports("Deny" if number % 2 else "Allow", [10_000 + number]) for number in range(BETWEEN)]
    rules = [d.to_ports("Deny", [PORT], **friend), *others, {"action": "Allow", "source": friend}]
    site.etcd.put(d.CLUSTER, d.cluster())
    site.etcd.put(d.policy_key("friends"), d.policy("friends", 10, rules))
    set_of(site, with_client=False)
    site.agent.start()
    classes = [StreamClass("barred", site.WORKER[0][version], PORT)]
    with Stream(site.hosts["client0"], classes, {site.worker: [PORT]}) as open_to_all:
        open_to_all.start(0.2)
        assert open_to_all.finish(wait=True)["barred"].arrived  # where nothing guards
    site.agent.wait_applied(site.etcd.put(d.endpoint_key("w0"), d.endpoint("w0", "eth0")))
    with Stream(site.hosts["client0"], classes, {site.worker: [PORT]}, rate=20_000) as stream:
        stream.start(fresh=False)
        for _ in range(TIMES):
            for with_client in (True, False):
                site.agent.wait_applied(set_of(site, with_client=with_client))
        report = stream.finish()["barred"]
    assert report.sent > 1000
    assert not report.arrived
