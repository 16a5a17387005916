"""Decoding under any bytes, any JSON, and any damage to a good document (`docs/reliability.md` C1).

Damage is something that few fields accept, put anywhere. Whatever it hits, no Allow or Pass may come to match more, no Deny
less, and what remains must be something that a kernel accepts.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from hostward.model.decode import Decoded, decode
from hostward.model.keys import API_VERSION, KINDS, ResourceKey
from hostward.model.nets import parse_address, parse_net
from hostward.model.resources import EndpointSlice, HostEndpoint, NetworkSet, Policy, Profile, Tier, WorkloadEndpoint
from hostward.model.rules import PORT_PROTOCOLS, Action, Entity, Rule
from hostward.model.selector_scope import NAMESPACE
from hostward.model.selectors import canonical, parse
from tests.unit.test_decode_workload import SLICE, WHOLE

KEYS = [ResourceKey(kind.name, "n" if kind.namespaced else "", "default") for kind in KINDS.values()]
POLICY = ResourceKey("GlobalNetworkPolicy", "", "x")
NAMESPACED = ResourceKey("NetworkPolicy", "n", "x")

# --- values of fields: mostly good, some doubtful, some nonsense --------------------------------------------------------
NETS = st.sampled_from(["10.0.0.0/8", "10.1.2.3", "192.0.2.9/24", "fd00::/8", "2001:db8::1", "0.0.0.0/0", "::/0"])
PORTS = st.sampled_from([80, "443", "1000:2000", "http", 0, "0:65535"])
TEXTS = st.sampled_from(["has(a)", "a == 'b'", "!has(b)", "all()", "global()", ""])
GOOD = {
    "action": st.sampled_from(["Allow", "Deny", "Log", "Pass", "allow", "next-tier"]),
    "ipVersion": st.sampled_from([4, 6]),
    "protocol": st.sampled_from(["TCP", "udp", "ICMP", "ICMPv6", 1, 58, 6, "132", 47]),
    "notProtocol": st.sampled_from(["TCP", "ICMP", 58, 47]),
    "icmp": st.fixed_dictionaries({"type": st.integers(0, 254)}, optional={"code": st.integers(0, 255)}),
    "notICMP": st.fixed_dictionaries({"type": st.integers(0, 254)}),
    "metadata": st.just({"annotations": {"a": "b"}}),
}
SIDE = {
    "nets": st.lists(NETS, max_size=3),
    "notNets": st.lists(NETS, max_size=2),
    "ports": st.lists(PORTS, max_size=3),
    "notPorts": st.lists(PORTS, max_size=2),
    "selector": TEXTS,
    "notSelector": TEXTS,
    "namespaceSelector": TEXTS,
    "serviceAccounts": st.sampled_from([{"names": ["n"], "selector": "has(s)"}, {"names": ["n"]}, {}]),
}
SERVICES = st.sampled_from([{"name": "s", "namespace": "m"}, {"name": "s"}])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def some_of(known: dict[str, Any], **more: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={**known, **more})


# Beside a service hardly anything may stand, so that most sides with both would contradict themselves.
SIDES = some_of(SIDE) | some_of(SIDE) | st.fixed_dictionaries({"services": SERVICES}, optional={"ports": SIDE["ports"]})
RULE = st.builds(
    lambda action, rest: {"action": action, **rest}, GOOD["action"], some_of(GOOD, source=SIDES, destination=SIDES)
)
RULES = st.lists(RULE, max_size=3)
IN_A_NAMESPACE = some_of(
    {
        "tier": st.sampled_from(["default", "t"]),
        "order": st.integers(0, 2000) | st.floats(0, 9),
        "selector": st.sampled_from(["", "has(a)"]),
        "types": st.lists(st.sampled_from(["Ingress", "egress"]), unique=True, max_size=2),
        "ingress": RULES,
        "egress": RULES,
    }
)
FLAGS = ("preDNAT", "doNotTrack", "applyOnForward")
SPECS = st.builds(dict.__or__, IN_A_NAMESPACE, some_of(dict.fromkeys(FLAGS, st.booleans())))
POLICIES = st.tuples(st.just(POLICY), SPECS) | st.tuples(st.just(NAMESPACED), IN_A_NAMESPACE)


def decoded_of(key: ResourceKey, spec: object) -> Decoded:
    document = {"kind": key.kind, "apiVersion": API_VERSION, "metadata": {"name": key.name}, "spec": spec}
    return decode(key, json.dumps(document).encode())


def rules_of(value: object) -> tuple[Rule, ...]:
    return (*value.ingress_rules, *value.egress_rules) if isinstance(value, Policy | Profile) else ()


# --- what a kernel accepts ----------------------------------------------------------------------------------------------
def check_entity(entity: Entity, protocol: int | None) -> None:
    for net in (*entity.nets, *entity.not_nets):
        assert parse_net(net, bare=False) == net
    for ports in (entity.ports, entity.not_ports):
        assert all(0 <= r.first <= r.last <= 65535 for r in ports.ranges)
        assert all(ports.names)
        assert not ports.ranges or protocol in PORT_PROTOCOLS
        assert not ports.names or protocol is None or protocol in PORT_PROTOCOLS
    assert entity.selector is None or entity.not_selector is None
    for text in (entity.selector, entity.not_selector):
        assert text is None or canonical(text) == text
    if entity.service is not None:
        assert entity.service.namespace
        assert entity.service.name
        assert (entity.selector, entity.not_selector, entity.nets, entity.not_nets) == (None, None, (), ())
        assert not entity.service.ports or not (entity.ports or entity.not_ports)


def check_rule(rule: Rule) -> None:
    if rule.never:
        assert rule == Rule(rule.action, never=True)
    if rule.icmp or rule.not_icmp:
        assert (rule.protocol, rule.ip_version) in ((1, 4), (58, 6))
    assert rule.ip_version in (None, 4, 6)
    assert all(number is None or 1 <= number <= 255 for number in (rule.protocol, rule.not_protocol))
    check_entity(rule.source, rule.protocol)
    check_entity(rule.destination, rule.protocol)
    assert rule.source.service is None or not rule.source.service.ports
    assert rule.destination.service is None or rule.destination.service.ports


def check_addresses(addresses: tuple[str, ...]) -> None:
    assert len(set(addresses)) == len(addresses)
    assert all(parse_address(address) == address for address in addresses)


def check(decoded: Decoded) -> None:
    value = decoded.value
    for rule in rules_of(value):
        check_rule(rule)
    match value:
        case Policy():
            assert canonical(value.selector) == value.selector
            assert not (value.pre_dnat and (value.egress or value.egress_rules or value.do_not_track))
            if value.key.namespace:
                assert (value.pre_dnat, value.do_not_track, value.apply_on_forward) == (False, False, False)
                assert not any(parse(value.selector).matches(labels or {}) for labels in ENDPOINTS if not in_n(labels))
        case HostEndpoint():
            assert value.node
            assert value.interface or value.expected_ips
            assert value.isolated == bool(decoded.problems)
        case WorkloadEndpoint():
            assert value.node
            assert value.interface not in ("", "*")
            assert value.isolated == bool(decoded.problems)
            assert value.isolated or value.addresses
            check_addresses(value.addresses)
            assert all(parse_net(net, bare=False) == net for net in value.spoofable)
            assert value.labels[NAMESPACE] == value.namespace
            assert not any(label.startswith(("pcns.", "pcsa.")) for label in value.labels)
        case EndpointSlice():
            assert value.service
            check_addresses(value.addresses)
            assert all(protocol in PORT_PROTOCOLS and 0 <= port <= 65535 for protocol, port in value.ports)
        case NetworkSet():
            assert all(parse_net(net, bare=False) == net for net in value.nets)
            assert value.labels.get(NAMESPACE, "") == ("n" if value.profiles else "")
        case Tier():
            assert value.default_action in (Action.DENY, Action.PASS)
        case _:
            pass


@given(st.sampled_from(KEYS), st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@example(KEYS[0], b"{" * 3000)
def test_any_bytes(key: ResourceKey, raw: bytes) -> None:
    check(decode(key, raw))


WORDS = "spec metadata kind status labels nets node interfaceName expectedIPs profiles ports order defaultAction ingress egress"
MORE = "types preDNAT clusterGUID datastoreReady labelsToApply services endpoints addresses"
FIELDS = st.sampled_from([*WORDS.split(), *MORE.split(), *SIDE, *GOOD, *WHOLE])


SOME = st.dictionaries(FIELDS, JSON, max_size=4)


@given(
    st.sampled_from(KEYS),
    st.dictionaries(FIELDS, st.dictionaries(FIELDS, JSON | st.lists(SOME, max_size=2), max_size=4) | JSON),
)
def test_any_json(key: ResourceKey, document: dict[str, Any]) -> None:
    check(decode(key, json.dumps(document).encode()))


@given(POLICIES)
def test_whatever_is_made_of_known_fields(policy: tuple[ResourceKey, dict[str, Any]]) -> None:
    key, spec = policy
    decoded = decoded_of(key, spec)
    check(decoded)
    if not decoded.problems:
        assert not any(rule.never for rule in rules_of(decoded.value))
        assert decoded == decoded_of(key, json.loads(json.dumps(spec)))


# --- damage -------------------------------------------------------------------------------------------------------------
JUNK: list[object] = [{"junk": 1}, [{"junk": 1}], 1e30, "\0 junk", True]


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place inside a JSON value."""
    for step, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, step)
        yield from places(inner, (*path, step))


def damaged(spec: dict[str, Any], path: tuple[str | int, ...], junk: object, insert: bool) -> dict[str, Any]:
    """The spec with junk at the place, or beside it."""
    result: Any = copy.deepcopy(spec)
    holder = result
    for step in path[:-1]:
        holder = holder[step]
    if not insert:
        holder[path[-1]] = junk
    elif isinstance(holder, list):
        holder.append(junk)
    else:
        holder["junk"] = junk
    return dict(result)


# Every way in which the labels that the selectors name can be present; and no labels: an unknown address.
USED = ("a", "b", "pcns.a", "pcns.b", "projectcalico.org/serviceaccount", "pcsa.s")
ENDPOINTS: list[dict[str, str] | None] = [
    None,
    *(
        {label: "n" if "account" in label else "b" for i, label in enumerate(USED) if bits >> i & 1} | where
        for bits in range(64)
        for where in ({}, {NAMESPACE: "n"}, {NAMESPACE: "m"})
    ),
]


def in_n(labels: dict[str, str] | None) -> bool:
    return labels is not None and labels.get(NAMESPACE) == "n"


def admits(entity: Entity, labels: dict[str, str] | None) -> bool:
    """Whether a side's selectors match the address of an endpoint with these labels, or an unknown one (R-23)."""
    if entity.selector is not None and (labels is None or not parse(entity.selector).matches(labels)):
        return False
    return entity.not_selector is None or labels is None or not parse(entity.not_selector).matches(labels)


def covers(wide: Rule, narrow: Rule) -> bool:
    """Whether a rule matches at least what another does: each criterion is the same or absent, selectors by what they match."""
    header, side = (
        ("ip_version", "protocol", "not_protocol", "icmp", "not_icmp"),
        ("nets", "not_nets", "ports", "not_ports", "service"),
    )
    pairs: list[tuple[Any, Any, Any, tuple[str, ...]]] = [(wide, narrow, Rule(wide.action), header)]
    for one, other in ((wide.source, narrow.source), (wide.destination, narrow.destination)):
        pairs.append((one, other, Entity(), side))
        if any(admits(other, labels) and not admits(one, labels) for labels in ENDPOINTS):
            return False
    return all(
        getattr(one, name) in (getattr(absent, name), getattr(other, name))
        for one, other, absent, names in pairs
        for name in names
    )


PLACE = ("selector", "order", "types")
TAKES_JUNK = {"order": 1e30} | dict.fromkeys(FLAGS, True)
TAKES_JUNK |= dict.fromkeys(("tier", "names", "annotations", "name", "namespace"), "\0 junk")


@given(POLICIES, st.sampled_from(JUNK), st.booleans(), st.data())
def test_damage_allows_nothing_and_denies_nothing_less(
    policy: tuple[ResourceKey, dict[str, Any]], junk: object, insert: bool, data: st.DataObject
) -> None:
    key, spec = policy
    undamaged = decoded_of(key, spec)
    before = undamaged.value
    everywhere = list(places(spec))
    if not everywhere or not isinstance(before, Policy):
        return
    odd = {problem.path.partition("]")[0] for problem in undamaged.problems}
    path = data.draw(st.sampled_from(everywhere))
    after = decoded_of(key, damaged(spec, path, junk, insert))
    check(after)
    if not after.problems:
        assert any(TAKES_JUNK.get(step) == junk for step in path if isinstance(step, str))
        return
    new = after.value
    if not isinstance(new, Policy):
        assert path[0] in PLACE
        return
    if path[0] not in (*FLAGS, *PLACE):
        was = (before.selector, before.order, before.ingress, before.egress)
        assert (new.selector, new.order, new.ingress, new.egress) == was
    for direction in ("ingress", "egress"):
        old_rules, new_rules = getattr(before, f"{direction}_rules"), getattr(new, f"{direction}_rules")
        for index, rule in enumerate(new_rules):
            if rule.action in (Action.ALLOW, Action.PASS) and not rule.never:
                assert old_rules[index] == rule
        if path == (direction,) and not insert:
            assert new_rules == ((Rule(Action.DENY),) if getattr(new, direction) else ())
        elif path[0] not in (*FLAGS, *PLACE):
            assert len(new_rules) - len(old_rules) in (0, 1)
            for index, (old, rule) in enumerate(zip(old_rules, new_rules, strict=False)):
                if old.action is Action.DENY and f"spec.{direction}[{index}" not in odd:
                    assert rule.action is Action.DENY
                    assert covers(rule, old)


ANY_TEXT = ("profiles", "orchestrator", "serviceAccountName", "node")
UNREAD = ["workload", "containerID", "pod", "endpoint", "ipNATs", "ipv4Gateway", "mac", "qosControls", "hostPort", "hostIP"]
NAMELESS = [("ports", i) for i, port in enumerate(WHOLE["ports"]) if not port.get("name")]


@given(st.sampled_from(sorted(places(WHOLE), key=repr)), st.sampled_from(JUNK), st.booleans())
def test_damage_to_a_workload_endpoint_cuts_it_off(path: tuple[str | int, ...], junk: object, insert: bool) -> None:
    key = ResourceKey("WorkloadEndpoint", "n", "x")
    after = decoded_of(key, damaged(WHOLE, path, junk, insert))
    check(after)
    if not after.problems and path[0] not in ANY_TEXT:
        assert path[:2] in NAMELESS or any(step in UNREAD for step in path)
        assert after == decoded_of(key, WHOLE)


@given(st.sampled_from(sorted(places(SLICE), key=repr)), st.sampled_from(JUNK), st.booleans())
def test_damage_to_a_slice_adds_nothing(path: tuple[str | int, ...], junk: object, insert: bool) -> None:
    key = ResourceKey("KubernetesEndpointSlice", "kube-system", "dns-x1")
    before = decode(key, json.dumps(SLICE).encode()).value
    after = decode(key, json.dumps(damaged(SLICE, path, junk, insert)).encode())
    check(after)
    assert isinstance(before, EndpointSlice)
    if isinstance(after.value, EndpointSlice):
        assert set(after.value.addresses) <= set(before.addresses)
        assert set(after.value.ports) <= set(before.ports)


@given(
    st.dictionaries(
        st.sampled_from([*SIDE, "services", "junk"]), JSON | SERVICES | st.lists(NETS | PORTS | TEXTS, max_size=3), min_size=1
    ),
    st.sampled_from([POLICY, NAMESPACED]),
)
def test_an_allow_restricts_what_its_text_restricts(side: dict[str, Any], key: ResourceKey) -> None:
    """An Allow with anything in a list or text on a side, understood or not, never allows every address and port."""
    spec = {"ingress": [{"action": "Allow", "protocol": "TCP", "source": side}]}
    decoded = decoded_of(key, spec)
    assert isinstance(decoded.value, Policy)
    rule = decoded.value.ingress_rules[0]
    check(decoded)
    if any(value for value in side.values()) and side.get("serviceAccounts") in (None, "", []):
        assert rule.never or rule.source != Entity()
