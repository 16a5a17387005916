"""What surrounds the policies of workloads: this host, an endpoint that isn't there, spoofed sources, the cluster's tunnels."""

from __future__ import annotations

from typing import Final

import pytest
from msgspec.structs import replace

from hostward.model.keys import ResourceKey
from hostward.model.resources import WorkloadEndpoint
from hostward.model.settings import BUILT_IN
from hostward.render.evaluate import ConnState, Packet, evaluate
from hostward.render.ruleset import TableId
from tests.unit.traffic import BEHIND, FAR, POD, TABLE, rules, world

FLOWS: Final[tuple[ConnState, ...]] = ("NEW", "ESTABLISHED")


@pytest.mark.parametrize(("action", "passes"), [("Drop", False), ("Accept", True), ("Return", True)])
def test_what_a_workload_may_send_to_this_host_is_then_the_settings_to_say(action: str, passes: bool) -> None:
    """H-39; Return leaves it to the chain's own policy, and answers to this host's questions always come in."""
    state = rules(replace(BUILT_IN, default_endpoint_to_host_action=action), world({}))
    shut = replace(state, policies=frozenset({(TableId(4, "filter"), "INPUT")}))
    new = TABLE["pod to local process"].packet
    assert evaluate(new, state).accepted is passes
    assert evaluate(new, shut).accepted is (action == "Accept")
    assert evaluate(replace(new, state="ESTABLISHED"), shut).accepted


@pytest.mark.parametrize("isolated", [True, False])
@pytest.mark.parametrize("state", ["NEW", "ESTABLISHED", "RELATED", "UNTRACKED"])
def test_a_workload_that_nobody_knows_or_understands_is_cut_off(isolated: bool, state: ConnState) -> None:
    """H-48, H-52: from all but this host itself, and what the link needs."""
    resources = world({})
    key = ResourceKey("WorkloadEndpoint", "default", "cali1")
    pod = resources.pop(key)
    assert isinstance(pod, WorkloadEndpoint)
    if isolated:
        resources[key] = replace(pod, isolated=True)
    ruled = rules(replace(BUILT_IN, default_endpoint_to_host_action="Accept"), resources)
    cut = {name for name, row in TABLE.items() if not evaluate(replace(row.packet, state=state), ruled).accepted}
    assert cut == {name for name, row in TABLE.items() if "workload cali1" in row.judges}
    solicits = Packet(6, "input", "fe80::5", "ff02::1:ff00:1", 58, in_interface="cali1", icmp_type=135)
    assert evaluate(solicits, ruled).accepted
    assert not evaluate(replace(solicits, path="forward", out_interface="cali2"), ruled).accepted


@pytest.mark.parametrize("setting", ["Disabled", "Any"])
@pytest.mark.parametrize("name", ["pod to remote", "pod to pod", "pod to local process"])
def test_only_a_workload_that_may_sends_from_addresses_that_are_not_its_own(setting: str, name: str) -> None:
    """H-32, H-73: and only from those that its own endpoint lists; what is tracked already is no exception."""
    resources = world({})
    for interface, lent in (("cali1", (f"{FAR}/32",)), ("cali2", (f"{BEHIND}/32", "2001:db8::/32"))):
        key = ResourceKey("WorkloadEndpoint", "default", interface)
        pod = resources[key]
        assert isinstance(pod, WorkloadEndpoint)
        resources[key] = replace(pod, spoofable=lent)
    choice = replace(BUILT_IN, workload_source_spoofing=setting, default_endpoint_to_host_action="Accept")
    state, original = rules(choice, resources), TABLE[name].packet
    found = {
        (source, flow): evaluate(replace(original, source=source, spoofed=True, state=flow), state).dropped_in
        for source in (POD, FAR, BEHIND)
        for flow in FLOWS
    }
    lent_too = {(FAR, flow) for flow in FLOWS if setting == "Any"}
    assert {key for key, place in found.items() if not place} == lent_too
    assert {place for place in found.values() if place} == {"raw PREROUTING"}
    assert evaluate(original, state).accepted
    assert evaluate(replace(TABLE["eth0 to eth1 routed"].packet, spoofed=True), state).accepted, "no business of ours"
    resources[key] = replace(pod, spoofable=lent, isolated=True)
    solicits = Packet(6, "input", "2001:db8::5", "ff02::1:ff00:1", 58, in_interface="cali2", icmp_type=135, spoofed=True)
    assert not evaluate(solicits, rules(choice, resources)).accepted, "nothing is lent to what isn't understood"


@pytest.mark.parametrize("port", [4789, 8472])
@pytest.mark.parametrize("vxlan", [False, True])
@pytest.mark.parametrize("ipip", [False, True])
def test_a_workload_sends_nothing_into_the_tunnels(port: int, vxlan: bool, ipip: bool) -> None:
    """H-46.4: to this host or any other, before its policy and after nat; what it is sent is not meant, nor what is open."""
    choice = replace(
        BUILT_IN,
        default_endpoint_to_host_action="Accept",
        vxlan_port=port,
        allow_vxlan_packets_from_workloads=vxlan,
        allow_ipip_packets_from_workloads=ipip,
    )
    state = rules(choice, world({}))
    into = {
        "vxlan": (17, port, vxlan),
        "other vxlan": (17, 4789 + 8472 - port, True),
        "tcp": (6, port, True),
        "ipip": (4, 0, ipip),
    }
    for protocol, number, passes in into.values():
        for name in ("pod to remote", "pod to pod", "pod to local process"):
            found = replace(TABLE[name].packet, protocol=protocol, source_port=number and 40000, destination_port=number)
            assert evaluate(found, state).accepted is passes
            assert evaluate(replace(found, state="ESTABLISHED"), state).accepted
            if number:
                translated = replace(found, destination_port=80, dnat=(found.destination, number))
                assert evaluate(translated, state).accepted is passes
        assert evaluate(replace(TABLE["remote to pod"].packet, protocol=protocol, destination_port=number), state).accepted
