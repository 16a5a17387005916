"""Warnings about what is legal and probably wrong: each one fires, and doesn't on its sound neighbour."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostward.convert import lint
from hostward.convert.satisfiable import never_matches
from hostward.convert.validate import problems
from hostward.model import selectors
from hostward.model.keys import ResourceKey
from tests.unit.test_convert_validate import doc


def warned(*documents):
    for document in documents:
        assert problems(document) == []
    keyed = [(ResourceKey(one["kind"], "", one["metadata"]["name"]), one) for one in documents]
    return [(number, path) for number, path, _ in lint.warnings(keyed)]


def gnp(name="a", **spec):
    return doc("GlobalNetworkPolicy", spec, name)


def np(name="a", **spec):
    return doc("NetworkPolicy", spec, name, namespace="shop")


IN_SHOP = {"role": "a", "projectcalico.org/namespace": "shop"}
ALLOW, DENY, LOG = {"action": "Allow"}, {"action": "Deny"}, {"action": "Log"}
TCP80 = {"protocol": "TCP", "destination": {"ports": [80]}}
UNTRACKED = {"doNotTrack": True, "applyOnForward": True}
PRE_DNAT = {"preDNAT": True, "applyOnForward": True}
ENDPOINT = doc("HostEndpoint", {"node": "n", "interfaceName": "eth0"}, "h", labels={"role": "a"})
POOL = doc("IPPool", {"cidr": "172.30.0.0/16"}, "p")


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ([gnp(ingress=[LOG])], [(0, "spec.ingress")]),
        ([gnp(ingress=[LOG, ALLOW], egress=[LOG | TCP80, DENY])], []),
        ([gnp(ingress=[ALLOW | TCP80], **UNTRACKED)], [(0, "spec.ingress[0]")]),
        ([gnp(ingress=[ALLOW | TCP80], egress=[ALLOW], **UNTRACKED)], []),
        ([gnp(ingress=[ALLOW | TCP80], **UNTRACKED), gnp("b", egress=[ALLOW], **UNTRACKED)], []),
        (
            [gnp(ingress=[ALLOW | TCP80], **UNTRACKED), gnp("b", egress=[ALLOW], selector="has(x)", **UNTRACKED)],
            [(0, "spec.ingress[0]"), (1, "spec.egress[0]")],
        ),
        ([gnp(ingress=[DENY], **UNTRACKED)], []),
        ([gnp(ingress=[DENY | TCP80], **PRE_DNAT)], [(0, "spec.ingress[0].destination.ports[0]")]),
        ([gnp(ingress=[DENY | {"protocol": "TCP", "destination": {"ports": ["30000:32767", 31000]}}], **PRE_DNAT)], []),
        ([gnp(ingress=[DENY | {"protocol": "TCP", "destination": {"ports": [80], "nets": ["192.0.2.1/32"]}}], **PRE_DNAT)], []),
        ([POOL, gnp(ingress=[DENY | {"destination": {"nets": ["172.30.1.0/24"]}}], **PRE_DNAT)],
         [(1, "spec.ingress[0].destination.nets[0]")]),
        ([POOL, gnp(ingress=[DENY | {"destination": {"nets": ["172.30.1.0/24"]}}])], []),
        ([gnp(selector="a == 'b' && a == 'c'")], [(0, "spec.selector")]),
        ([gnp(ingress=[ALLOW | {"source": {"selector": "has(a) && !has(a)"}}])], [(0, "spec.ingress[0].source.selector")]),
        ([gnp(ingress=[ALLOW | {"source": {"notSelector": "has(a) && !has(a)"}}])], []),
        ([gnp(ingress=[ALLOW | {"source": {"namespaceSelector": "global()"}}])], []),
        ([gnp(ingress=[ALLOW, DENY, DENY])], [(0, "spec.ingress[1]")]),
        ([gnp(ingress=[ALLOW | {"source": {}}, DENY])], [(0, "spec.ingress[1]")]),
        ([gnp(ingress=[LOG, ALLOW | TCP80, DENY])], []),
        ([doc("Profile", {"egress": [DENY, ALLOW]})], [(0, "spec.egress[1]")]),
        ([gnp(), gnp()], [(1, "metadata.name")]),
        ([ENDPOINT], [(0, "metadata.labels")]),
        ([ENDPOINT, gnp(selector="role == 'a'", ingress=[ALLOW])], []),
        ([ENDPOINT, gnp(selector="role == 'b'", ingress=[ALLOW])], [(0, "metadata.labels")]),
        ([ENDPOINT, gnp(selector="role == 'a'", namespaceSelector="all()")], [(0, "metadata.labels")]),
        ([ENDPOINT | {"spec": ENDPOINT["spec"] | {"profiles": ["x"]}}], []),
        ([doc("StagedGlobalNetworkPolicy", {"selector": "all()"}, "s"), ENDPOINT], [(1, "metadata.labels")]),
        # A policy in a namespace selects no host, whatever the host's labels claim.
        ([np(selector="all()", ingress=[ALLOW]), ENDPOINT], [(1, "metadata.labels")]),
        ([np(selector="role == 'a'"), ENDPOINT | {"metadata": {"name": "h", "labels": IN_SHOP}}], [(1, "metadata.labels")]),
        ([np(ingress=[ALLOW | {"source": {"services": {"name": "a"}}}, DENY])], []),
        ([np(ingress=[LOG])], [(0, "spec.ingress")]),
    ],
)  # fmt: skip
def test_warnings(documents, expected):
    assert warned(*documents) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a == 'b' && a == 'c'",
        "a in {'b'} && a not in {'b'}",
        "has(a) && !has(a)",
        "a == 'b' && !has(a)",
        "!all()",
        "a == 'has blank'",
        "a starts with 'x' && a == 'y'",
        "a == 'b' && (a == 'c' || a == 'd')",
        "a in {}",
    ],
)
def test_selectors_that_never_match(text):
    assert never_matches(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "all()",
        "a == 'b' || a == 'c'",
        "a == ''",
        "a != 'b' && has(a)",
        "a starts with 'x' && a ends with 'y' && a contains 'mid'",
        "a contains 'p' && a contains 'q' && !(a contains 'pq')",
        "a starts with 'x' && !(a contains 'y')",
        "!has(a) && a not in {'b'}",
        "ibm.role in { 'worker_public', 'master_public' }",
        " && ".join(f"a{n} != 'x'" for n in range(40)),
    ],
)
def test_selectors_that_may_match(text):
    assert not never_matches(text)


ATOM = st.sampled_from(
    ["a == '1'", "a != '1'", "has(a)", "!has(a)", "a in {'1', '2'}", "a not in {'2'}", "b == '1'", "has(b)", "all()", "b == ''"]
)
TEXT = st.recursive(
    ATOM, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["&&", "||"]), inner), max_leaves=6
)
VALUES = [None, "", "1", "2", "3"]


@given(TEXT)
@settings(max_examples=300, deadline=None)
def test_it_is_exact_for_what_policies_usually_use(text):
    matches = selectors.parse(text).matches
    any_match = any(
        matches({name: value for name, value in (("a", a), ("b", b)) if value is not None}) for a in VALUES for b in VALUES
    )
    assert never_matches(text) is not any_match
