"""Policies, profiles and their names: what is understood and what D4 makes of the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hostward.model.decode import decode
from hostward.model.document import DocumentError
from hostward.model.keys import API_VERSION, ResourceKey
from hostward.model.names import display_name
from hostward.model.resources import BUILT_IN_PROFILES, Policy, Profile
from hostward.model.rules import Action, Entity, PortRange, Ports, Rule
from tests.unit.decoding import paths, policy, stored, understood_policy

ALLOW, DENY, LOG, PASS = Action
FOUR = [{"action": action.value} for action in (ALLOW, DENY, LOG, PASS)]
WORKING = (Rule(ALLOW), Rule(DENY), Rule(LOG), Rule(PASS))
CLOSED = (Rule(ALLOW, never=True), Rule(DENY), Rule(LOG), Rule(PASS, never=True))


def test_the_policy_against_node_ports_as_calico_stores_it() -> None:
    raw = b"""{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3",
      "metadata":{"name":"default.deny-np","uid":"u","creationTimestamp":"2026-01-02T03:04:05Z","finalizers":["x"],
        "ownerReferences":[{}],"managedFields":[{"a":{"b":null}}],"labels":{"projectcalico.org/tier":"default"},
        "annotations":{"projectcalico.org/metadata":"{\\"name\\":\\"deny-np\\"}"}},
      "spec":{"tier":"default","order":1100,"selector":"ibm.role == 'worker_public'","types":["Ingress"],
        "preDNAT":true,"applyOnForward":true,
        "ingress":[{"action":"Deny","protocol":"TCP","source":{},"destination":{"ports":["30000:32767"]}}]},
      "status":{"any":"thing"}}"""
    key = ResourceKey("GlobalNetworkPolicy", "", "default.deny-np")
    deny = Rule(DENY, protocol=6, destination=Entity(ports=Ports((PortRange(30000, 32767),))))
    decoded = decode(key, raw)
    assert decoded.problems == ()
    assert decoded.value == Policy(
        key,
        "deny-np",
        "default",
        1100.0,
        'ibm.role == "worker_public"',
        True,
        False,
        (deny,),
        pre_dnat=True,
        apply_on_forward=True,
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, {"tier": "default", "order": None, "selector": "all()", "ingress": True, "egress": True}),
        ({"tier": "", "order": None, "selector": None, "types": []}, {"tier": "default", "selector": "all()", "egress": True}),
        ({"tier": "t", "order": 0.5}, {"tier": "t", "order": 0.5}),
        ({"order": 10**20}, {"order": 1e20}),
        ({"types": ["ingress"]}, {"ingress": True, "egress": False}),
        ({"types": ["EGRESS", "Egress"]}, {"ingress": False, "egress": True}),
        ({"types": ["Egress", "Ingress"]}, {"ingress": True, "egress": True}),
        ({"types": ["Egress"], "ingress": FOUR, "egress": FOUR}, {"ingress_rules": (), "egress_rules": WORKING}),
        ({"ingress": FOUR, "egress": FOUR[:1]}, {"ingress_rules": WORKING, "egress_rules": WORKING[:1]}),
        ({"doNotTrack": True, "applyOnForward": True}, {"do_not_track": True, "apply_on_forward": True, "egress": True}),
        ({"preDNAT": True, "applyOnForward": True}, {"pre_dnat": True, "ingress": True, "egress": False}),
        ({"preDNAT": False, "doNotTrack": False}, {"pre_dnat": False, "do_not_track": False, "apply_on_forward": False}),
        ({"performanceHints": ["AssumeNeededOnEveryNode"]}, {"selector": "all()"}),
        ({"selector": "has(a)", "namespaceSelector": "all()"}, {"selector": "(has(a) && has(projectcalico.org/namespace))"}),
    ],
)
def test_policy_fields(spec: dict[str, Any], expected: dict[str, Any]) -> None:
    value = understood_policy(spec)
    assert {name: getattr(value, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"selector": "a = 'b'"}, "spec.selector"),
        ({"selector": 5}, "spec.selector"),
        ({"selector": "global()"}, "spec.selector"),
        ({"selector": "has(" + "a" * 1020 + ")"}, "spec.selector"),
        ({"selector": "(" * 5000}, "spec.selector"),
        ({"namespaceSelector": "a"}, "spec.namespaceSelector"),
        ({"namespaceSelector": "global()"}, "spec.namespaceSelector"),
        ({"serviceAccountSelector": []}, "spec.serviceAccountSelector"),
        ({"namespaceSelector": f"has({'a' * 510})"}, "spec.selector"),
        ({"order": "100"}, "spec.order"),
        ({"order": True}, "spec.order"),
        ({"order": 10**400}, "spec.order"),
        ({"types": "Ingress"}, "spec.types"),
        ({"types": ["Ingress", "Sideways"]}, "spec.types[1]"),
        ({"types": [None]}, "spec.types[0]"),
    ],
)
def test_without_its_place_a_policy_is_absent(fields: dict[str, Any], where: str) -> None:
    assert policy({**fields, "ingress": FOUR}) == (None, [where])


IN_N = 'projectcalico.org/namespace == "n"'


@pytest.mark.parametrize(
    ("fields", "selector"),
    [
        ({}, IN_N),
        ({"selector": " "}, IN_N),
        ({"selector": "has(a) || has(b)"}, f"((has(a) || has(b)) && {IN_N})"),
        ({"selector": "all()"}, f"(all() && {IN_N})"),
        ({"serviceAccountSelector": "has(s)"}, f"({IN_N} && has(pcsa.s))"),
        ({"selector": "has(a)", "serviceAccountSelector": "has(s)"}, f"((has(a) && {IN_N}) && has(pcsa.s))"),
        ({"selector": "all()", "serviceAccountSelector": "all()"},
         f"((has(projectcalico.org/serviceaccount) && {IN_N}) && has(projectcalico.org/serviceaccount))"),
    ],
)  # fmt: skip
def test_a_policy_in_a_namespace_selects_there_alone(fields: dict[str, Any], selector: str) -> None:
    value, problems = policy({**fields, "ingress": FOUR, "types": ["Ingress"]}, "n")
    assert (value, problems) == (
        Policy(ResourceKey("NetworkPolicy", "n", "x"), "x", "default", None, selector, True, False, WORKING),
        [],
    )


@pytest.mark.parametrize("field", ["doNotTrack", "preDNAT", "applyOnForward", "namespaceSelector"])
@pytest.mark.parametrize("value", [True, False, "all()"])
def test_what_only_global_policies_say_closes_a_policy_in_a_namespace(field: str, value: object) -> None:
    found, problems = policy({"ingress": FOUR, "types": ["Ingress"], field: value}, "n")
    assert problems == [f"spec.{field}"]
    closed = Policy(ResourceKey("NetworkPolicy", "n", "x"), "x", "default", None, IN_N, True, False, CLOSED)
    assert found == closed


@pytest.mark.parametrize(
    ("stored_as", "tier", "name"),
    [
        ("knp.default.x", "default", "knp.default.x"),
        ("default.x", "default", "x"),
        ("default.x", None, "x"),
        ("x", "default", "x"),
        ("mine.x", "mine", "mine.x"),
    ],
)
def test_names_of_policies_in_namespaces(stored_as: str, tier: str | None, name: str) -> None:
    decoded = stored("NetworkPolicy", {"tier": tier}, stored_as, "n")
    assert isinstance(decoded.value, Policy)
    assert (decoded.value.name, decoded.value.key, paths(decoded)) == (name, ResourceKey("NetworkPolicy", "n", stored_as), [])


def test_a_namespace_that_no_selector_can_express_leaves_its_policies_out() -> None:
    assert policy({"ingress": FOUR}, "a'b\"c") == (None, ["spec.selector"])


@pytest.mark.parametrize("spec", [None, [], "all()", 5])
def test_without_a_spec_a_policy_is_absent_and_does_not_guard_everything(spec: object) -> None:
    assert policy(spec) == (None, ["spec"])


@pytest.mark.parametrize(
    ("fields", "where", "expected"),
    [
        ({"colour": 1}, ["spec.colour"], {}),
        ({"a b\n": 1}, ["spec['a b\\n']"], {}),
        ({"tier": 5}, ["spec.tier"], {"tier": "default"}),
        ({"performanceHints": ["Faster"]}, ["spec.performanceHints"], {}),
        ({"performanceHints": [1]}, ["spec.performanceHints[0]"], {}),
        ({"doNotTrack": "true", "applyOnForward": True}, ["spec.doNotTrack"], {"do_not_track": True}),
        ({"doNotTrack": "no"}, ["spec.doNotTrack"], {"do_not_track": False}),
        ({"preDNAT": "True", "applyOnForward": True}, ["spec.preDNAT"], {"pre_dnat": True}),
        ({"preDNAT": [1]}, ["spec.preDNAT"], {"pre_dnat": False}),
        ({"applyOnForward": "no"}, ["spec.applyOnForward"], {"apply_on_forward": True}),
        ({"doNotTrack": True}, ["spec.applyOnForward"], {"do_not_track": True}),
        ({"preDNAT": True, "applyOnForward": False}, ["spec.applyOnForward"], {"pre_dnat": True}),
        (
            {"doNotTrack": True, "preDNAT": True, "applyOnForward": True},
            ["spec.preDNAT"],
            {"do_not_track": True, "pre_dnat": False, "egress": True},
        ),
        ({"preDNAT": True, "applyOnForward": True, "types": ["Ingress", "Egress"]}, ["spec.types"], {"egress": False}),
        ({"preDNAT": True, "applyOnForward": True, "egress": FOUR}, ["spec.egress"], {"egress": False, "egress_rules": ()}),
        ({"egress": "all"}, ["spec.egress"], {"egress_rules": (Rule(DENY),)}),
    ],
)
def test_any_other_field_lets_denies_stand_and_allows_never(
    fields: dict[str, Any], where: list[str], expected: dict[str, Any]
) -> None:
    value, problems = policy({"selector": "has(a)", "ingress": FOUR, **fields})
    assert problems == where
    assert value is not None
    assert value.ingress_rules == CLOSED
    assert (value.selector, value.ingress) == ("has(a)", True)
    assert {name: getattr(value, name) for name in expected} == expected


def test_an_unreadable_direction_denies_and_the_other_allows_nothing() -> None:
    value, problems = policy({"ingress": {}, "egress": FOUR})
    assert value is not None
    assert (value.ingress_rules, value.egress_rules, problems) == ((Rule(DENY),), CLOSED, ["spec.ingress"])


def test_a_bad_rule_leaves_the_other_rules_working() -> None:
    bad = {"action": "Pass", "colour": "red"}
    value, problems = policy({"ingress": [*FOUR, bad], "egress": FOUR})
    assert value is not None
    assert (value.ingress_rules, value.egress_rules) == ((*WORKING, Rule(DENY)), WORKING)
    assert problems == ["spec.ingress[4].colour"]


@pytest.mark.parametrize(
    ("envelope", "where"),
    [({"kind": "Tier"}, "kind"), ({"apiVersion": "v1"}, "apiVersion"), ({"extra": 1}, "extra"), ({"kind": 5}, "kind")],
)
def test_an_odd_envelope_is_a_field_of_the_policy(envelope: dict[str, Any], where: str) -> None:
    document = {"kind": "GlobalNetworkPolicy", "apiVersion": API_VERSION, "spec": {"ingress": FOUR}, **envelope}
    decoded = decode(ResourceKey("GlobalNetworkPolicy", "", "x"), json.dumps(document).encode())
    assert isinstance(decoded.value, Policy)
    assert (decoded.value.ingress_rules, paths(decoded)) == (CLOSED, [where])


def test_kind_version_and_metadata_may_be_missing_or_odd() -> None:
    for metadata in (None, [], {"name": 5, "labels": [], "annotations": 3}):
        decoded = decode(ResourceKey("GlobalNetworkPolicy", "", "x"), json.dumps({"metadata": metadata, "spec": {}}).encode())
        assert (decoded.problems, getattr(decoded.value, "name", None)) == ((), "x")


# --- names (A.3) --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("stored_as", "tier", "annotation", "real"),
    [
        ("default.foo", None, None, "foo"),  # v3.0 - v3.29
        ("default.foo", "default", None, "foo"),
        ("default.foo", "", None, "foo"),
        ("default.default.foo", "default", None, "default.foo"),
        ("knp.default.foo", "default", None, "knp.default.foo"),
        ("t.foo", "t", None, "t.foo"),  # v3.29, other tiers
        ("default.foo", "t", None, "default.foo"),
        ("default.foo", "default", '{"name":"foo"}', "foo"),  # v3.30 - v3.31
        ("default.foo", "default", '{"name":"default.foo","extra":1}', "default.foo"),
        ("t.foo", "t", '{"name":"t.foo"}', "t.foo"),
        ("foo", "default", '{"name":"foo"}', "foo"),  # v3.32
        ("foo", "default", "", "foo"),
        ("foo", None, None, "foo"),
    ],
)
def test_real_names(stored_as: str, tier: str | None, annotation: str | None, real: str) -> None:
    metadata = {} if annotation is None else {"annotations": {"projectcalico.org/metadata": annotation}}
    for kind in ("GlobalNetworkPolicy", "NetworkPolicy", "StagedGlobalNetworkPolicy"):
        key = ResourceKey(kind, "", stored_as)
        assert display_name(key, {"metadata": metadata, "spec": {"tier": tier}}) == real
    value = understood_policy({"tier": tier}, name=stored_as, **metadata)
    assert (value.name, value.key.name) == (real, stored_as)


def test_only_policies_have_two_names() -> None:
    document = {"metadata": {"annotations": {"projectcalico.org/metadata": '{"name":"a"}'}}, "spec": {}}
    assert display_name(ResourceKey("Tier", "", "default.foo"), document) == "default.foo"


@pytest.mark.parametrize("annotation", ["{", "[]", "{}", '{"name":5}', '{"name":""}', "[" * 5000, 5])
def test_a_bad_name_annotation_is_a_problem_of_its_policy(annotation: object) -> None:
    metadata = {"annotations": {"projectcalico.org/metadata": annotation}}
    value, problems = policy({"ingress": FOUR}, name="default.foo", **metadata)
    assert value is not None
    assert (value.name, value.ingress_rules) == ("foo", CLOSED)
    assert problems == ["metadata.annotations['projectcalico.org/metadata']"]
    with pytest.raises(DocumentError):
        display_name(ResourceKey("NetworkPolicy", "n", "foo"), {"metadata": metadata})


# --- profiles -----------------------------------------------------------------------------------------------------------
def test_profiles() -> None:
    decoded = stored("Profile", {"ingress": FOUR, "egress": FOUR[:1], "labelsToApply": {"pcns.a": "b", "n": None}}, "kns.a")
    assert decoded.problems == ()
    assert decoded.value == Profile("kns.a", WORKING, WORKING[:1], {"pcns.a": "b"})


@pytest.mark.parametrize(
    ("spec", "expected", "where"),
    [
        (
            {"ingress": [{"action": "Allow", "x": 1}, *FOUR]},
            Profile("p", (Rule(ALLOW, never=True), *WORKING)),
            "spec.ingress[0].x",
        ),
        ({"ingress": FOUR, "colour": 1}, Profile("p", CLOSED), "spec.colour"),
        (
            {"ingress": FOUR, "labelsToApply": {"a": "b", "c": 5}},
            Profile("p", CLOSED, labels={"a": "b"}),
            "spec.labelsToApply.c",
        ),
        ({"ingress": FOUR, "labelsToApply": []}, Profile("p", CLOSED), "spec.labelsToApply"),
        ({"ingress": "x"}, Profile("p", (Rule(DENY),)), "spec.ingress"),
        (None, None, "spec"),
    ],
)
def test_profiles_that_are_not_understood(spec: object, expected: Profile | None, where: str) -> None:
    decoded = stored("Profile", spec, "p")
    assert (decoded.value, paths(decoded)) == (expected, [where])


def test_the_built_in_profile_is_never_what_is_stored() -> None:
    decoded = stored("Profile", {"ingress": [{"action": "Deny"}], "x": 1}, "projectcalico-default-allow")
    assert (decoded.value, decoded.problems) == (BUILT_IN_PROFILES["projectcalico-default-allow"], ())
