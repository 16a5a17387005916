"""Members as bytes and back: the fast reader, the slow one, and what cannot be packed."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostward.dataplane import ipset_wire as wire
from hostward.dataplane.netlink import NESTED, NET_BYTEORDER, attribute, attributes, messages


@st.composite
def nets(draw, family):
    bits = 32 if family == 4 else 128
    length = draw(st.integers(1, bits))
    value = draw(st.integers(0, 2**bits - 1)) >> (bits - length) << (bits - length)
    kind = ipaddress.IPv4Network if family == 4 else ipaddress.IPv6Network
    return kind((value, length))


def canonical(net):
    """As the kernel's tools print it; `ipaddress` writes mapped addresses in hex where inet_ntop has dots."""
    text = str(net)
    if net.version == 6 and (net.network_address.ipv4_mapped or not int(net.network_address) >> 32):
        return None
    return text.removesuffix("/32" if net.version == 4 else "/128")


def as_dumped(entry, family):
    """What the kernel's dump makes of a packed member: the length always there, the address without its order bit."""
    found = dict(attributes(dict(attributes(entry))[7]))
    address = attributes(found[1])[0][1]
    kind = 1 if family == 4 else 2
    tail = attribute(3, found.get(3, bytes([len(address) * 8])))
    if 4 in found:
        tail = attribute(4 | NET_BYTEORDER, found[4]) + attribute(7, found[7])
    return attribute(7 | NESTED, attribute(1 | NESTED, attribute(kind, address)) + tail)


def dump_of(entries, extra=b""):
    return bytes(4) + attribute(1, b"\7") + attribute(2, b"hw4-x\0") + attribute(8 | NESTED, b"".join(entries) + extra)


@pytest.mark.parametrize("family", [4, 6])
@given(data=st.data())
def test_nets_come_back_as_they_were_packed(family, data):
    members = {text for net in data.draw(st.lists(nets(family), max_size=20)) if (text := canonical(net))}
    entries = wire.packed("hash:net", family, members)
    assert set(wire.members(dump_of([as_dumped(entry, family) for entry in entries]), family)) == members


@pytest.mark.parametrize("family", [4, 6])
@given(data=st.data())
def test_ports_come_back_as_they_were_packed(family, data):
    hosts = data.draw(st.lists(nets(family), max_size=20))
    members = {
        f"{text},{data.draw(st.sampled_from(['tcp', 'udp', 'sctp', '47']))}:{data.draw(st.integers(0, 65535))}"
        for net in hosts
        if (text := canonical(net)) and "/" not in text
    }
    entries = wire.packed("hash:ip,port", family, members)
    assert set(wire.members(dump_of([as_dumped(entry, family) for entry in entries]), family)) == members


def test_a_member_with_an_option_is_read_with_it_and_spoils_no_other():
    plain = as_dumped(wire.packed("hash:net", 4, ["10.0.0.0/8"])[0], 4)
    body = dict(attributes(as_dumped(wire.packed("hash:net", 4, ["10.1.0.0/16"])[0], 4)))[7]
    odd = attribute(7 | NESTED, body + attribute(8 | NET_BYTEORDER, struct.pack(">I", 4)))
    assert wire.members(dump_of([plain, odd]), 4) == ["10.0.0.0/8", "10.1.0.0/16 nomatch"]


@pytest.mark.parametrize(
    ("kind", "family", "member", "says"),
    [
        ("hash:net", 4, "0.0.0.0/0", "two halves"),
        ("hash:net", 6, "::/0", "two halves"),
        ("hash:net", 4, "10.0.0.0/33", "1 to 32"),
        ("hash:net", 4, "10.0.0.0/", "1 to 32"),
        ("hash:net", 6, "2001:db8::/129", "1 to 128"),
        ("hash:net", 4, "2001:db8::/32", "no IPv4 network"),
        ("hash:net", 6, "10.0.0.0/8", "no IPv6 network"),
        ("hash:net", 4, "", "no IPv4 network"),
        ("hash:net", 4, "10.0.0.1\0", "no IPv4 network"),
        ("hash:net", 4, "10.0.0.\ud800", "no IPv4 network"),
        ("hash:ip,port", 4, "10.0.0.1", "no IPv4 address,protocol:port"),
        ("hash:ip,port", 4, "10.0.0.1,tcp", "no IPv4 address,protocol:port"),
        ("hash:ip,port", 4, "10.0.0.1,tcp:65536", "no IPv4 address,protocol:port"),
        ("hash:ip,port", 4, "10.0.0.1,tcp:-1", "no IPv4 address,protocol:port"),
        ("hash:ip,port", 4, "10.0.0.1,256:1", "no IPv4 address,protocol:port"),
        ("hash:ip,port", 6, "10.0.0.1,tcp:1", "no IPv6 address,protocol:port"),
    ],
)
def test_what_no_set_can_hold_is_refused_with_a_reason(kind, family, member, says):
    with pytest.raises(wire.MemberError, match=says):
        wire.packed(kind, family, ["10.0.0.1,tcp:1" if family == 4 and "," in kind else member, member])


def test_batches_hold_every_member_once():
    entries = wire.packed("hash:net", 4, [f"10.0.{n >> 8}.{n & 255}" for n in range(2 * wire.MEMBERS_PER_MESSAGE + 1)])
    bodies = list(wire.batches("hw4-x", entries))
    assert len(bodies) == 3
    assert [value for body in bodies for _, value in attributes(dict(attributes(body, 4))[8])] == [
        entry[4:] for entry in entries
    ]
    assert list(wire.batches("hw4-x", [])) == []


@given(st.binary(max_size=200))
def test_garbage_ends_the_reading_and_nothing_else(data):
    messages(data)
    attributes(data)
