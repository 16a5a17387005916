"""Tables like Go's tabwriter, YAML and JSON like calicoctl's, and text that reads back as what it was."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostward.cli import tables
from hostward.cli.output import Listing, Named, render
from hostward.cli.results import Outcome
from hostward.datastore.documents import parse
from hostward.model.keys import KINDS


def doc(kind, spec, name="a", **metadata):
    return {"kind": kind, "apiVersion": "projectcalico.org/v3", "metadata": {"name": name} | metadata, "spec": spec}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "<nil>"),
        (0, "0"),
        (1900, "1900"),
        (1500.0, "1500"),
        (10.5, "10.5"),
        (-3, "-3"),
        (100000, "100000"),
        (999999.5, "999999.5"),
        (1000000, "1e+06"),
        (1234567, "1.234567e+06"),
        (-1e7, "-1e+07"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1.5e300, "1.5e+300"),
        (10**400, "+Inf"),
        ("x", "<nil>"),
    ],
)
def test_numbers_as_go_prints_them(value, text):
    assert tables.go_float(value) == text


def test_layout():
    # each column 3 wider than its longest cell, at least 5; the last one padded too
    assert tables.layout([["NAME", "A"], ["x" * 25, "b"]]) == "NAME" + " " * 24 + "A    \n" + "x" * 25 + "   b    \n\n"


def test_wide_policies():
    policies = [
        doc("GlobalNetworkPolicy", {"order": 1900, "selector": "has(a)", "tier": "default"}),
        doc("GlobalNetworkPolicy", {"selector": "all()"}, "bc"),
    ]
    assert render([Listing("GlobalNetworkPolicy", 5, policies)], "wide") == (
        "NAME   TIER      ORDER   SELECTOR   \n"
        "a      default   1900    has(a)     \n"
        "bc     default   <nil>   all()      \n\n"
    )  # fmt: skip


def test_host_endpoints_and_sets():
    endpoint = doc(
        "HostEndpoint", {"node": "w1", "interfaceName": "eth0", "expectedIPs": ["1.1.1.1", "::1"], "profiles": ["p"]}
    )
    assert tables.render("HostEndpoint", [endpoint], wide=False, with_namespace=False) == "NAME   NODE   \na      w1     \n\n"
    wide = tables.render("HostEndpoint", [endpoint], wide=True, with_namespace=False).splitlines()
    assert wide[1].split() == ["a", "w1", "eth0", "1.1.1.1,::1", "p"]
    nets = doc("NetworkSet", {"nets": ["10.0.0.0/8"] * 10}, namespace="shop")
    lines = tables.render("NetworkSet", [nets], wide=True, with_namespace=True).splitlines()
    assert lines[0].split() == ["NAMESPACE", "NAME", "NETS"]
    assert lines[1].split() == ["shop", "a", ("10.0.0.0/8," * 10)[:80] + "..."]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "spec", [{}, None, [], {"order": "x", "nets": 5, "bgp": [], "labelsToApply": {"a": None}, "ipNATs": [1]}]
)
def test_every_kind_has_tables_for_whatever_is_stored(kind, spec):
    for wide in (False, True):
        assert tables.render(kind, [doc(kind, spec)], wide=wide, with_namespace=True).endswith("\n\n")


def test_control_characters_stay_off_the_terminal():
    assert "\x1b" not in tables.render("Node", [doc("Node", {}, "\x1b[2J\na")], wide=False, with_namespace=False)


def test_shapes():
    one, two = doc("Tier", {}), doc("Tier", {}, "b")
    assert json.loads(render(Named([one], False), "json")) == one
    assert json.loads(render(Named([one], True), "json")) == [one]
    whole = json.loads(render([Listing("Tier", 7, [one, two])], "json"))
    assert whole["kind"] == "TierList"
    assert whole["metadata"] == {"resourceVersion": "7"}
    assert whole["items"] == [one, two]
    policies = [Listing("GlobalNetworkPolicy", 7, []), Listing("NetworkPolicy", 7, [])]
    assert json.loads(render(policies, "json"))["kind"] == "GlobalNetworkPolicyList"
    policies[1] = Listing("NetworkPolicy", 7, [doc("NetworkPolicy", {}, namespace="x")], True)
    assert json.loads(render(policies, "json"))["kind"] == "NetworkPolicyList"
    policies[0] = Listing("GlobalNetworkPolicy", 7, [doc("GlobalNetworkPolicy", {})])
    assert [each["kind"] for each in json.loads(render(policies, "json"))] == ["GlobalNetworkPolicyList", "NetworkPolicyList"]
    assert (
        render(policies, "ps")
        == "NAME   TIER      \na      default   \n\nNAMESPACE   NAME   TIER      \nx           a      default   \n\n"
    )


def test_json_has_two_spaces_and_no_newline_at_the_end():
    assert render(Named([doc("Tier", {})], False), "json").startswith('{\n  "kind": "Tier",')
    assert render(Named([doc("Tier", {})], False), "json").endswith("}")


ODD = [
    "53:54",
    "20:22",
    "0112",
    "yes",
    "on",
    "1e5",
    "0x1f",
    "1_000",
    "null",
    "~",
    "",
    " a",
    "a: b",
    "2026-01-02",
    "é",
    "-",
    "0o7",
    ".5",
]
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co")), max_size=12) | st.sampled_from(ODD)
VALUE = st.recursive(
    st.booleans() | st.integers(-(10**18), 10**18) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@given(VALUE)
def test_printed_yaml_and_json_read_back(value):
    document = doc("Tier", {"x": value})
    for form in ("yaml", "json"):
        (parsed,) = parse(render(Named([document], False), form), "out")
        assert parsed.document == document


@given(st.dictionaries(st.sampled_from(ODD), st.sampled_from(ODD)))
def test_odd_texts_read_back(value):
    (parsed,) = parse(render(Named([doc("Tier", value)], False), "yaml"), "out")
    assert parsed.document["spec"] == value


def test_yaml_has_sorted_keys_and_double_quotes():
    text = render(Named([doc("Node", {"z": 1, "a": "53:54"}, creationTimestamp="2026-01-02T03:04:05Z")], False), "yaml")
    assert text == (
        "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata:\n"
        '  creationTimestamp: "2026-01-02T03:04:05Z"\n  name: a\nspec:\n  a: "53:54"\n  z: 1\n'
    )


def test_results():
    assert Outcome("apply", "applied", ["Tier"] * 3, 3).success() == "Successfully applied 3 'Tier' resource(s)"
    assert Outcome("apply", "applied", ["Tier", "Node"], 2).success() == "Successfully applied 2 resource(s)"
    assert Outcome("apply", "applied", ["Tier"], 0, ["x"]).failure() == "failed to apply 'Tier' resource: [x]"
    assert Outcome("apply", "applied", ["Tier"] * 2, 0, ["x", "y"]).failure() == "failed to apply any 'Tier' resources: [x, y]"
    assert Outcome("apply", "applied", ["Tier", "Node"], 0, ["x"]).failure() == "failed to apply any resources: [x]"
    assert Outcome("apply", "applied", ["Tier"] * 3, 2, ["x"]).failure() == (
        "Partial success: applied the first 2 out of 3 'Tier' resources:\nhit error: [x]"
    )
