"""Names: B.4's vectors, and the two real ones that an upgraded cluster shows."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostward.convert import names

NODE = "kube-dal10-cr22657aefce704abc9cb81d7228aabfbe-{}.cloud.ibm"


@pytest.mark.parametrize(
    ("v1", "v3"),
    [
        ("deny-kube-node-port-services", "deny-kube-node-port-services"),
        ("Block_NodePorts", "block-nodeports-6df207f1"),
        ("team.a/deny", "team-a-deny-3a008ab3"),
    ],
)
def test_policy_names(v1, v3):
    assert names.policy(v1) == v3


@pytest.mark.parametrize(("worker", "digest"), [("w1", "6c83d95d"), ("w3", "65385c1d")])
def test_host_endpoint_names_agree_with_a_real_upgrade(worker, digest):
    node = NODE.format(worker)
    assert names.host_endpoint(node, f"{node}_worker_public") == f"{node}.{node}-worker-public-{digest}"


def test_normalising_joins_separators():
    assert names.normalise("A_B/c--.-_d.") == "a-b.c.d"
    assert names.normalise("Node_1.Example") == "node-1.example"  # a node gets no hash
    assert names.profile("k8s_ns.shop") == "kns.shop"
    assert names.profile("k8s_ns.Shop").startswith("kns.shop-")
    assert names.ip_pool("10.0.0.0/16") == "10-0-0-0-16"


@given(st.text(st.characters(categories=("L", "N"), include_characters="-._/"), min_size=1, max_size=40))
def test_every_converted_name_is_a_v3_name_or_nothing_is_left(name):
    converted = names.policy(name)
    assert names.wrong_policy_name(converted, namespaced=False) is None
    assert converted == name or re.search(r"[0-9a-f]{8}$", converted)


@pytest.mark.parametrize("name", ["a", "a.b", "a-b.c-d", "0", "x" * 253])
def test_good_names(name):
    assert names.wrong_name(name) is None


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a/b", "x" * 254, "a\n", "é"])
def test_bad_names(name):
    assert names.wrong_name(name)


def test_a_bad_name_comes_with_one_that_would_do():
    assert "'block-nodeports' would do" in str(names.wrong_name("Block_NodePorts"))


@pytest.mark.parametrize(
    ("name", "namespaced", "good"),
    [
        ("a.b", False, True),
        ("a.b.c", False, False),
        ("knp.default.a.b.c", True, True),
        ("knp.default.a.b.c", False, False),
    ],
)
def test_policy_names_have_one_dot(name, namespaced, good):
    assert (names.wrong_policy_name(name, namespaced=namespaced) is None) is good


@pytest.mark.parametrize("key", ["a", "ibm.role", "projectcalico.org/tier", "A_b", "x" * 63])
def test_good_label_keys(key):
    assert names.wrong_label_key(key) is None


@pytest.mark.parametrize("key", ["", "/a", "a/", "A/b", "a/b/c", "-a", "x" * 64, "a b", "a\n"])
def test_bad_label_keys(key):
    assert names.wrong_label_key(key)


@pytest.mark.parametrize("name", ["http", "a-1", "1a"])
def test_good_port_names(name):
    assert names.wrong_port_name(name) is None


@pytest.mark.parametrize("name", ["", "80", "1-2", "-a", "a-", "a--b", "HTTP", "x" * 16])
def test_bad_port_names(name):
    assert names.wrong_port_name(name)
