"""Names of workload endpoints, and what writers fill in for them and for staged kinds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostward.convert import workload_names
from hostward.convert.defaults import filled
from tests.unit.test_convert_validate import doc, workload


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ({"orchestrator": "k8s", "pod": "web-5f-x", "node": "kube-node-1"}, "kube--node--1-k8s-web--5f--x-eth0"),
        ({"orchestrator": "cni", "containerID": "abc", "node": "n"}, "n-cni-abc-eth0"),
        ({"orchestrator": "libnetwork", "node": "n"}, "n-libnetwork-libnetwork-eth0"),
        ({"orchestrator": "openstack", "workload": "vm", "node": "n"}, "n-openstack-vm-eth0"),
        ({"orchestrator": "k8s", "workload": "vm", "node": "n"}, None),
        ({"orchestrator": "k8s", "pod": "-x", "node": "n"}, None),
        ({"orchestrator": ["k8s"], "pod": "x", "node": "n"}, None),
    ],
)
def test_names(spec, name):
    assert workload_names.name_of({"endpoint": "eth0"} | spec) == name


PART = st.from_regex(r"[a-z0-9.]([a-z0-9.-]{0,8}[a-z0-9.])?", fullmatch=True)


@given(PART, PART, PART)
def test_names_read_back(node, pod, endpoint):
    spec = {"node": node, "orchestrator": "k8s", "pod": pod, "endpoint": endpoint}
    assert workload_names.parts_of(workload_names.name_of(spec)) == (node, "k8s", pod, endpoint)


@pytest.mark.parametrize("name", ["", "a", "a-b-c", "a-b-c-d-e", "a-b--c-d"])
def test_what_is_no_name(name):
    assert workload_names.parts_of(name) is None


def test_an_endpoint_gets_its_name_and_labels():
    given_document = workload()
    del given_document["metadata"]["name"]
    named = workload_names.named(given_document)
    assert named["metadata"] == {"namespace": "shop", "name": "w1-k8s-web--0-eth0"}
    assert workload_names.named({"kind": "Tier"}) == {"kind": "Tier"}
    forged = named | {"metadata": named["metadata"] | {"labels": {"projectcalico.org/namespace": "admin", "a": "b"}}}
    assert filled(forged)["metadata"]["labels"] == {
        "a": "b",
        "projectcalico.org/namespace": "shop",
        "projectcalico.org/orchestrator": "k8s",
    }


def test_staged_kinds():
    assert filled(doc("StagedGlobalNetworkPolicy", {"egress": [{"action": "Deny"}]}))["spec"] == {
        "egress": [{"action": "Deny"}],
        "stagedAction": "Set",
        "types": ["Egress"],
        "tier": "default",
    }
    assert filled(doc("StagedNetworkPolicy", {"stagedAction": "Delete"}, namespace="x"))["spec"] == {
        "stagedAction": "Delete",
        "tier": "default",
    }
    kubernetes = filled(doc("StagedKubernetesNetworkPolicy", {"podSelector": {}}, namespace="x"))
    assert kubernetes["spec"] == {"podSelector": {}, "stagedAction": "Set"}
    assert kubernetes["metadata"] == {"name": "a", "namespace": "x"}
