"""What a netlink conversation must notice: refusals, and lists that change while they are read."""

from __future__ import annotations

import errno
import sys

import pytest

from hostward.dataplane.netlink import NETLINK_ROUTE, NLM_F_ACK, InterruptedDumpError, Netlink, RefusedError, attributes
from tests.lab.netns import Namespace

pytestmark = pytest.mark.kernel
RTM_GETLINK, RTM_DELLINK = 18, 17


@pytest.fixture
def ns():
    namespace = Namespace("netlink")
    yield namespace
    namespace.close()


class Meddling:
    """A socket during whose reading somebody else changes what is listed, `times` over."""

    def __init__(self, socket, meddle, times):
        self._socket, self._meddle, self._times = socket, meddle, times

    def __getattr__(self, name):
        return getattr(self._socket, name)

    def recv(self, *arguments):
        data = self._socket.recv(*arguments)
        if self._times:
            self._times -= 1
            self._meddle(self._times)
        return data


def test_a_list_that_changes_while_it_is_read_is_read_again(ns):
    ns.run("ip", "-batch", "-", data="\n".join(f"link add a{n} type veth peer name b{n}" for n in range(60)))  # > 32 KiB
    with ns.entered(), Netlink(NETLINK_ROUTE) as netlink:
        plain = netlink._socket
        netlink._socket = Meddling(plain, lambda n: ns.run("ip", "link", "add", f"new{n}", "type", "veth"), 1)
        names = [dict(attributes(body, 16))[3].rstrip(b"\0").decode() for body in netlink.dump(RTM_GETLINK, bytes(16))]
        assert len(names) == len(set(names)) == 123
        assert "new0" in names
        netlink._socket = Meddling(plain, lambda n: ns.run("ip", "link", "del", "new0"), 1)
        with pytest.raises(InterruptedDumpError, match="changed while it was read, 1 times"):
            netlink.dump(RTM_GETLINK, bytes(16), attempts=1)
        netlink._socket = plain
        assert len(netlink.dump(RTM_GETLINK, bytes(16))) == 121


def test_a_refusal_has_the_kernels_code_and_the_conversation_goes_on(ns):
    with ns.entered(), Netlink(NETLINK_ROUTE) as netlink:
        for _ in range(2):
            with pytest.raises(RefusedError) as caught:
                netlink.request(RTM_DELLINK, bytes(4) + (99).to_bytes(4, sys.byteorder) + bytes(8))
            assert caught.value.code == errno.ENODEV
        assert len(netlink.dump(RTM_GETLINK, bytes(16))) == 1


def test_a_late_answer_is_not_taken_for_the_next_one(ns):
    with ns.entered(), Netlink(NETLINK_ROUTE) as netlink:
        assert netlink.request(
            RTM_GETLINK, bytes(4) + (1).to_bytes(4, sys.byteorder) + bytes(8), flags=NLM_F_ACK
        )  # an ack follows
        with pytest.raises(RefusedError):
            netlink.request(RTM_GETLINK, bytes(4) + (99).to_bytes(4, sys.byteorder) + bytes(8), flags=0)
