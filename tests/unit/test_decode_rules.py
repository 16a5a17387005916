"""Rules: what is understood, as leniently as Calico's readers, and what stays of what isn't (decision D4)."""

from __future__ import annotations

from typing import Any

import pytest

from hostward.model.rules import Action, Entity, Icmp, PortRange, Ports, Rule, Service
from tests.unit.decoding import policy, rule, rule_in, understood_rule

ALLOW, DENY, LOG, PASS = Action
WEB = Ports((PortRange(80, 80),))
NETS = ("10.0.0.0/8",)
HTTP = Entity(ports=Ports((), ("http",)))
NAMED = {"name": "s", "namespace": "n"}
SERVICE = Entity(service=Service("n", "s", ports=False))
HAS_C, NOT_C = Entity(selector="has(c)"), Entity(not_selector="has(c)")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"action": "Allow"}, Rule(ALLOW)),
        ({"action": "allow"}, Rule(ALLOW)),
        ({"action": "DENY"}, Rule(DENY)),
        ({"action": "log"}, Rule(LOG)),
        ({"action": "pass"}, Rule(PASS)),
        ({"action": "next-tier"}, Rule(PASS)),
        ({"action": "Allow", "source": {}, "destination": {}, "metadata": {}, "icmp": None, "protocol": None}, Rule(ALLOW)),
        ({"action": "Allow", "ipVersion": 6}, Rule(ALLOW, 6)),
        ({"action": "Allow", "protocol": "TCP"}, Rule(ALLOW, protocol=6)),
        ({"action": "Allow", "protocol": "udplite"}, Rule(ALLOW, protocol=136)),
        ({"action": "Allow", "protocol": 47}, Rule(ALLOW, protocol=47)),
        ({"action": "Allow", "protocol": "47"}, Rule(ALLOW, protocol=47)),
        ({"action": "Allow", "notProtocol": "sctp"}, Rule(ALLOW, not_protocol=132)),
        # A name limits to its IP version, a number doesn't, unless a type is matched, which only one version can.
        ({"action": "Allow", "protocol": "ICMP"}, Rule(ALLOW, 4, 1)),
        ({"action": "Allow", "protocol": "icmpv6"}, Rule(ALLOW, 6, 58)),
        ({"action": "Allow", "protocol": 1}, Rule(ALLOW, protocol=1)),
        ({"action": "Allow", "protocol": "58"}, Rule(ALLOW, protocol=58)),
        ({"action": "Allow", "notProtocol": "ICMPv6"}, Rule(ALLOW, not_protocol=58)),
        ({"action": "Allow", "protocol": 58, "icmp": {"type": 128}}, Rule(ALLOW, 6, 58, icmp=Icmp(128))),
        ({"action": "Allow", "protocol": "ICMP", "icmp": {"type": 3, "code": 4}}, Rule(ALLOW, 4, 1, icmp=Icmp(3, 4))),
        ({"action": "Deny", "protocol": "ICMP", "notICMP": {"type": 8}}, Rule(DENY, 4, 1, not_icmp=Icmp(8))),
        ({"action": "Allow", "protocol": "ICMP", "icmp": {}}, Rule(ALLOW, 4, 1)),
        (
            {"action": "Deny", "metadata": {"annotations": {"b": "2", "a": "1"}}},
            Rule(DENY, annotations=(("a", "1"), ("b", "2"))),
        ),
    ],
)
def test_headers(fields: dict[str, Any], expected: Rule) -> None:
    assert understood_rule(**fields) == expected


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        ({"nets": ["10.1.2.3/8", "192.0.2.1", "2001:DB8::1"]}, Entity(("10.0.0.0/8", "192.0.2.1/32", "2001:db8::1/128"))),
        ({"nets": ["10.0.0.0/8", "10.9.9.9/8"], "notNets": ["10.1.0.0/16"]}, Entity(NETS, ("10.1.0.0/16",))),
        ({"nets": [], "ports": [], "selector": "", "notNets": None}, Entity()),
        ({"nets": ["0.0.0.0/0"]}, Entity(("0.0.0.0/0",))),
        (
            {"ports": [80, "80", "443", "1000:2000"]},
            Entity(ports=Ports((PortRange(80, 80), PortRange(443, 443), PortRange(1000, 2000)))),
        ),
        ({"ports": ["http", "1-2", 80]}, Entity(ports=Ports((PortRange(80, 80),), ("http", "1-2")))),
        ({"notPorts": ["0:1023"]}, Entity(not_ports=Ports((PortRange(0, 1023),)))),
        ({"selector": "a=='b'"}, Entity(selector='a == "b"')),
        ({"selector": " "}, Entity(selector="all()")),
        ({"notSelector": "has(a)"}, Entity(not_selector="has(a)")),
        ({"selector": "has(a)", "notSelector": "has(b)"}, Entity(selector="(has(a) && !has(b))")),
        ({"namespaceSelector": "global()"}, Entity(selector="!has(projectcalico.org/namespace)")),
        (
            {"namespaceSelector": "all()", "notSelector": "has(b)"},
            Entity(selector="(has(projectcalico.org/namespace) && !has(b))"),
        ),
        (
            {"namespaceSelector": "e == 'p'", "selector": "has(a)", "serviceAccounts": {"names": ["n"], "selector": "has(s)"}},
            Entity(
                selector='(pcns.e == "p" && (projectcalico.org/serviceaccount in {"n"} && has(pcsa.s)) && has(a))',
            ),
        ),
        ({"serviceAccounts": {}}, Entity()),
    ],
)
def test_sides(side: dict[str, Any], expected: Entity) -> None:
    assert understood_rule(action="Allow", protocol="TCP", source=side) == Rule(ALLOW, protocol=6, source=expected)
    assert understood_rule(action="Deny", protocol=6, destination=side) == Rule(DENY, protocol=6, destination=expected)


OWN = 'projectcalico.org/namespace == "n"'


@pytest.mark.parametrize(
    ("side", "selector"),
    [
        # Who, but not where: in the policy's own namespace.
        ({"selector": "has(a)"}, f"({OWN} && has(a))"),
        ({"selector": " "}, f"({OWN} && all())"),
        ({"notSelector": "has(a)"}, f"({OWN} && !has(a))"),
        ({"selector": "has(a)", "notSelector": "has(b)", "namespaceSelector": ""}, f"({OWN} && has(a) && !has(b))"),
        ({"serviceAccounts": {"names": ["s"]}}, f'({OWN} && projectcalico.org/serviceaccount in {{"s"}})'),
        ({"serviceAccounts": {}}, OWN),
        # Where is said.
        ({"namespaceSelector": "has(e)"}, "has(pcns.e)"),
        ({"namespaceSelector": "all()", "selector": "has(a)"}, "(has(projectcalico.org/namespace) && has(a))"),
        ({"namespaceSelector": "global()", "selector": "has(a)"}, "(!has(projectcalico.org/namespace) && has(a))"),
        ({"namespaceSelector": "has(e)", "serviceAccounts": {}}, "has(pcns.e)"),
        # Neither: anybody, on this side.
        ({}, None),
        ({"nets": ["10.0.0.0/8"], "ports": ["http"], "selector": "", "serviceAccounts": None}, None),
    ],
)
def test_a_side_is_limited_to_the_namespace_only_by_who(side: dict[str, Any], selector: str | None) -> None:
    for name in ("source", "destination"):
        value, problems = rule_in("n", "ingress", {"action": "Allow", name: side})
        entity = getattr(value, name)
        assert (problems, entity.selector, entity.not_selector) == ([], selector, None)


@pytest.mark.parametrize(
    ("side", "where", "selector"),
    [
        # Nobody knows whether what isn't understood said who, so the Deny is for everybody.
        ({"selector": "b ="}, ["selector"], None),
        ({"serviceAccounts": {"names": [5]}}, ["serviceAccounts.names[0]"], None),
        ({"selector": "b =", "notSelector": "has(a)"}, ["selector"], f"({OWN} && !has(a))"),
        ({"selector": "has(a)", "notSelector": 5}, ["notSelector"], f"({OWN} && has(a))"),
        # Nor where.
        ({"selector": "has(a)", "namespaceSelector": "b ="}, ["namespaceSelector"], "has(a)"),
        ({"selector": "has(a)", "namespaceSelector": False}, ["namespaceSelector"], "has(a)"),
    ],
)
def test_a_deny_covers_every_reading_of_a_side_in_a_namespace(
    side: dict[str, Any], where: list[str], selector: str | None
) -> None:
    value, problems = rule_in("n", "egress", {"action": "Deny", "destination": side})
    assert problems == [f"destination.{field}" for field in where]
    assert value == Rule(DENY, destination=Entity(selector=selector))
    assert rule_in("n", "egress", {"action": "Allow", "destination": side})[0] == Rule(ALLOW, never=True)


@pytest.mark.parametrize(
    ("namespace", "direction", "side", "others", "service"),
    [
        ("n", "ingress", "source", {"name": "s"}, Service("n", "s", ports=False)),
        ("n", "ingress", "source", {"name": "s", "namespace": ""}, Service("n", "s", ports=False)),
        ("n", "ingress", "source", {"name": "s", "namespace": "m"}, Service("m", "s", ports=False)),
        ("", "ingress", "source", {"name": "s", "namespace": "m"}, Service("m", "s", ports=False)),
        ("n", "egress", "destination", {"name": "s"}, Service("n", "s", ports=True)),
        ("", "egress", "destination", {"name": "s", "namespace": "m"}, Service("m", "s", ports=True)),
    ],
)
def test_services_are_where_the_traffics_other_end_is(
    namespace: str, direction: str, side: str, others: dict[str, Any], service: Service
) -> None:
    empty = {
        "nets": [],
        "notNets": [],
        "selector": "",
        "namespaceSelector": None,
        **({"ports": []} if side != "source" else {}),
    }
    for beside in ({}, empty):
        value, problems = rule_in(namespace, direction, {"action": "Allow", side: {"services": others, **beside}})
        assert (value, problems) == (Rule(ALLOW, **{side: Entity(service=service)}), [])
    ports = {"ports": [80]}
    value, problems = rule_in(namespace, direction, {"action": "Allow", "protocol": 6, side: {"services": others, **ports}})
    if side == "source":
        assert (value, problems) == (Rule(ALLOW, protocol=6, source=Entity(ports=WEB, service=service)), [])
    else:
        assert (value, problems) == (Rule(ALLOW, never=True), ["destination.services"])


@pytest.mark.parametrize(("direction", "side"), [("ingress", "destination"), ("egress", "source")])
def test_services_are_not_on_the_policys_own_side(direction: str, side: str) -> None:
    fields = {"protocol": 6, side: {"services": {"name": "s"}, "ports": [80]}}
    value, problems = rule_in("n", direction, {"action": "Deny", **fields})
    assert (value, problems) == (Rule(DENY, protocol=6, **{side: Entity(ports=WEB)}), [f"{side}.services"])
    assert rule_in("n", direction, {"action": "Allow", **fields})[0] == Rule(ALLOW, never=True)


def test_names_of_ports_need_no_protocol() -> None:
    assert understood_rule(action="Allow", source={"ports": ["http"]}).source.ports.names == ("http",)


SELECTOR_OF_1024 = f"has({'a' * 500}) || has({'b' * 510})"

# Per case: fields beside the action; where the problem is; what a Deny still goes by.
NOT_UNDERSTOOD: list[tuple[dict[str, Any], list[str], Rule]] = [
    ({"colour": "red", "protocol": "TCP"}, ["colour"], Rule(DENY, protocol=6)),
    ({"source": {"colour": 1, "nets": NETS}}, ["source.colour"], Rule(DENY, source=Entity(NETS))),
    ({"source": 5, "protocol": "TCP"}, ["source"], Rule(DENY, protocol=6)),
    ({"http": {"methods": ["GET"]}, "protocol": "TCP"}, ["http"], Rule(DENY, protocol=6)),
    ({"http": {}}, ["http"], Rule(DENY)),
    # A service without a name or namespace, in the wrong place, or beside another way to say who it is.
    ({"source": {"services": {"name": "s"}}, "protocol": 6}, ["source.services"], Rule(DENY, protocol=6)),
    ({"source": {"services": NAMED | {"port": 1}}}, ["source.services.port"], Rule(DENY, source=SERVICE)),
    ({"source": {"services": {"namespace": "n"}, "ports": ["http"]}}, ["source.services"], Rule(DENY, source=HTTP)),
    ({"source": {"services": "s"}}, ["source.services", "source.services"], Rule(DENY)),
    ({"source": {"services": {"name": 5, "namespace": "n"}}}, ["source.services.name", "source.services"], Rule(DENY)),
    ({"destination": {"services": NAMED, "nets": NETS}}, ["destination.services"], Rule(DENY, destination=Entity(NETS))),
    *(
        ({"source": {"services": NAMED, "ports": ["http"], name: value}}, ["source.services"], Rule(DENY, source=HTTP))
        for name, value in (
            *(("nets", NETS), ("notNets", NETS), ("selector", "has(c)"), ("notSelector", "has(c)")),
            *(("namespaceSelector", "has(c)"), ("serviceAccounts", {"names": ["a"]}), ("serviceAccounts", {})),
        )
    ),
    ({"metadata": {"annotations": {"a": 1}}, "protocol": "TCP"}, ["metadata.annotations.a"], Rule(DENY, protocol=6)),
    ({"metadata": {"labels": {}}}, ["metadata.labels"], Rule(DENY)),
    ({"ipVersion": 5}, ["ipVersion"], Rule(DENY)),
    ({"ipVersion": "4", "protocol": "TCP"}, ["ipVersion"], Rule(DENY, protocol=6)),
    ({"ipVersion": True}, ["ipVersion"], Rule(DENY)),
    ({"protocol": "gre"}, ["protocol"], Rule(DENY)),
    ({"protocol": 0}, ["protocol"], Rule(DENY)),
    ({"protocol": 256}, ["protocol"], Rule(DENY)),
    ({"protocol": 6.0}, ["protocol"], Rule(DENY)),
    ({"protocol": True}, ["protocol"], Rule(DENY)),
    ({"protocol": "²"}, ["protocol"], Rule(DENY)),
    ({"notProtocol": "", "protocol": 6}, ["notProtocol"], Rule(DENY, protocol=6)),
    # A list with a bad element isn't understood, whatever else is in it.
    ({"source": {"nets": ["10.0.0.0/8", "10.0.0.0/33"]}}, ["source.nets[1]"], Rule(DENY)),
    ({"source": {"nets": ["10.0.0.0/8", None]}}, ["source.nets[1]"], Rule(DENY)),
    ({"source": {"nets": "10.0.0.0/8"}}, ["source.nets"], Rule(DENY)),
    ({"source": {"notNets": ["10.0.0.0/8", "x"], "nets": NETS}}, ["source.notNets[1]"], Rule(DENY, source=Entity(NETS))),
    ({"source": {"notNets": ["0.0.0.0/0"]}}, ["source.notNets[0]"], Rule(DENY)),
    ({"source": {"notNets": ["::/0"]}}, ["source.notNets[0]"], Rule(DENY)),
    ({"protocol": 6, "source": {"ports": [80, 65536]}}, ["source.ports[1]"], Rule(DENY, protocol=6)),
    ({"protocol": 6, "source": {"ports": ["9:8"]}}, ["source.ports[0]"], Rule(DENY, protocol=6)),
    ({"protocol": 6, "source": {"ports": [-1]}}, ["source.ports[0]"], Rule(DENY, protocol=6)),
    ({"protocol": 6, "source": {"ports": [80.0]}}, ["source.ports[0]"], Rule(DENY, protocol=6)),
    ({"protocol": 6, "source": {"ports": [True]}}, ["source.ports[0]"], Rule(DENY, protocol=6)),
    ({"protocol": 6, "source": {"ports": [[80]]}}, ["source.ports[0]"], Rule(DENY, protocol=6)),
    ({"protocol": 6, "source": {"ports": ["123456"]}}, ["source.ports[0]"], Rule(DENY, protocol=6)),
    ({"protocol": 6, "source": {"ports": ["80\n"]}}, ["source.ports[0]"], Rule(DENY, protocol=6)),
    ({"protocol": 6, "source": {"ports": ["a b"]}}, ["source.ports[0]"], Rule(DENY, protocol=6)),
    ({"protocol": 6, "source": {"notPorts": [""]}}, ["source.notPorts[0]"], Rule(DENY, protocol=6)),
    # Numbers of ports need a protocol that has ports (M-50). Of a contradiction neither side is taken at its word.
    ({"source": {"ports": [80], "nets": NETS}}, ["source.ports"], Rule(DENY, source=Entity(NETS))),
    ({"destination": {"notPorts": [80, "http"]}}, ["destination.notPorts"], Rule(DENY)),
    ({"protocol": "ICMP", "source": {"ports": [80]}}, ["source.ports"], Rule(DENY)),
    ({"protocol": 47, "source": {"ports": ["http"], "nets": NETS}}, ["source.ports"], Rule(DENY, source=Entity(NETS))),
    ({"protocol": "tpc", "source": {"ports": [80]}}, ["protocol"], Rule(DENY)),
    ({"notProtocol": "TCP", "source": {"ports": [80]}}, ["source.ports"], Rule(DENY, not_protocol=6)),
    ({"protocol": "tpc", "source": {"ports": ["http"]}}, ["protocol"], Rule(DENY, source=Entity(ports=Ports((), ("http",))))),
    # ICMP types need the protocol.
    ({"icmp": {"type": 8}}, ["icmp"], Rule(DENY)),
    ({"notICMP": {"type": 8}}, ["notICMP"], Rule(DENY)),
    ({"protocol": "TCP", "icmp": {"type": 8}}, ["icmp"], Rule(DENY)),
    ({"protocol": "TCP", "icmp": {"type": 8}, "source": {"ports": [1]}}, ["icmp"], Rule(DENY)),
    ({"protocol": "ICMP", "icmp": {"code": 1}}, ["icmp.code"], Rule(DENY, 4, 1)),
    ({"protocol": "ICMP", "icmp": {"type": 255}}, ["icmp.type"], Rule(DENY, 4, 1)),
    ({"protocol": "ICMP", "icmp": {"type": 8, "code": 256}}, ["icmp.code"], Rule(DENY, 4, 1)),
    ({"protocol": "ICMP", "icmp": {"type": "8"}}, ["icmp.type"], Rule(DENY, 4, 1)),
    ({"protocol": "ICMP", "icmp": {"type": True}}, ["icmp.type"], Rule(DENY, 4, 1)),
    ({"protocol": "ICMP", "icmp": {"kind": 8}}, ["icmp.kind"], Rule(DENY, 4, 1)),
    # IP versions that contradict.
    ({"protocol": "ICMP", "ipVersion": 6, "source": {"nets": NETS}}, ["protocol", "source.nets"], Rule(DENY)),
    ({"protocol": 58, "ipVersion": 4}, ["protocol"], Rule(DENY)),
    ({"notProtocol": "ICMPv6", "ipVersion": 4, "protocol": 6}, ["notProtocol"], Rule(DENY, protocol=6)),
    ({"ipVersion": 6, "protocol": 6, "source": {"nets": NETS}}, ["source.nets"], Rule(DENY, protocol=6)),
    ({"ipVersion": 6, "protocol": 6, "source": {"notNets": NETS}}, ["source.notNets"], Rule(DENY, protocol=6)),
    # Selectors.
    ({"source": {"selector": "a = 'b'", "nets": NETS}}, ["source.selector"], Rule(DENY, source=Entity(NETS))),
    ({"source": {"selector": "a in {'b'", "notSelector": "has(c)"}}, ["source.selector"], Rule(DENY, source=NOT_C)),
    ({"source": {"selector": "has(c)", "notSelector": "b"}}, ["source.notSelector"], Rule(DENY, source=HAS_C)),
    ({"source": {"selector": "global()"}}, ["source.selector"], Rule(DENY)),
    ({"source": {"selector": 5}}, ["source.selector"], Rule(DENY)),
    ({"source": {"selector": f"{SELECTOR_OF_1024} "}}, ["source.selector"], Rule(DENY)),
    ({"source": {"selector": "has(c)", "namespaceSelector": "b"}}, ["source.namespaceSelector"], Rule(DENY, source=HAS_C)),
    ({"source": {"serviceAccounts": {"names": ["a", 5]}}}, ["source.serviceAccounts.names[1]"], Rule(DENY)),
    ({"source": {"serviceAccounts": {"names": ["'\""]}}}, ["source.serviceAccounts.names"], Rule(DENY)),
    ({"source": {"serviceAccounts": {"selector": "x"}}}, ["source.serviceAccounts.selector"], Rule(DENY)),
    ({"source": {"serviceAccounts": {"colour": "x"}}}, ["source.serviceAccounts.colour"], Rule(DENY)),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "where", "denied"), NOT_UNDERSTOOD)
def test_a_rule_that_is_not_understood(fields: dict[str, Any], where: list[str], denied: Rule) -> None:
    for action in ("Deny", "Pass", "Reject"):
        value, problems = rule(action=action, **fields)
        assert value == denied
        assert sorted(problems) == sorted((["action"] if action == "Reject" else []) + where)
    for action in (ALLOW, LOG):
        value, problems = rule(action=action.value, **fields)
        assert value == Rule(action, never=True)
        assert problems == where


def test_a_selector_may_be_as_long_as_it_may_be() -> None:
    assert len(SELECTOR_OF_1024) == 1024
    assert understood_rule(action="Allow", source={"selector": SELECTOR_OF_1024}).source.selector == f"({SELECTOR_OF_1024})"


def test_selectors_that_are_too_deep_only_together() -> None:
    deep = "has(x)"
    for _ in range(48):
        deep = f"!({deep} && has(y))"
    assert not rule(action="Allow", source={"selector": deep})[1]
    deepest = f"(!({deep} && has(y)) || has(z))"
    assert not rule(action="Allow", source={"selector": deepest})[1]
    assert rule(action="Allow", source={"selector": deepest, "notSelector": deepest}) == (Rule(ALLOW, never=True), ["source"])


@pytest.mark.parametrize("action", ["Reject", "", None, 5, ["Allow"], {"Allow": 1}, "Allow "])
def test_an_unknown_action_denies_on_the_criteria(action: object) -> None:
    fields = {"protocol": "TCP", "source": {"nets": list(NETS)}, "destination": {"ports": [80]}}
    expected = Rule(DENY, protocol=6, source=Entity(NETS), destination=Entity(ports=WEB))
    assert rule(action=action, **fields) == (expected, ["action"])


@pytest.mark.parametrize("broken", ["Allow", None, 5, ["Allow"], True])
def test_what_is_no_rule_denies_and_its_neighbours_work(broken: object) -> None:
    value, problems = policy({"selector": "all()", "ingress": [{"action": "Allow", "protocol": "TCP"}, broken]})
    assert value is not None
    assert value.ingress_rules == (Rule(ALLOW, protocol=6), Rule(DENY))
    assert problems == ["spec.ingress[1]"]
