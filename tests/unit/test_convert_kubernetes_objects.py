"""Namespaces, service accounts, pods and nodes of Kubernetes to v3 (`statements.md` kubernetes 1.1, 1.3-1.5)."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy

import pytest

from hostward.convert import kubernetes, kubernetes_nodes, kubernetes_pods
from hostward.convert.defaults import filled
from hostward.convert.validate import problems


def convert(kind, metadata, **rest):
    one = {"apiVersion": "v1", "kind": kind, "metadata": metadata, **rest}
    copy = deepcopy(one)
    found = kubernetes.to_v3(one)
    assert one == copy
    assert [problems(document) for document in found.documents] == [[] for _ in found.documents]
    assert [filled(document)["spec"] for document in found.documents] == [document["spec"] for document in found.documents]
    return found


def only(kind, metadata, **rest):
    (document,), found = convert(kind, metadata, **rest)
    assert found == ()
    return document


def test_a_namespace():
    document = only("Namespace", {"name": "shop", "labels": {"team": "x", "kubernetes.io/metadata.name": "shop"}, "uid": "u"})
    assert (document["kind"], document["metadata"]) == ("Profile", {"name": "kns.shop"})
    assert document["spec"] == {
        "ingress": [{"action": "Allow"}],
        "egress": [{"action": "Allow"}],
        "labelsToApply": {
            "pcns.team": "x",
            "pcns.kubernetes.io/metadata.name": "shop",
            "pcns.projectcalico.org/name": "shop",
        },
    }


def test_a_label_as_long_as_kubernetes_allows_is_lent_whole():
    key = "k" * 63
    assert only("Namespace", {"name": "n", "labels": {key: "v"}})["spec"]["labelsToApply"][f"pcns.{key}"] == "v"


@pytest.mark.parametrize("namespace", ["shop", "", None])
def test_a_service_account(namespace):
    document = only("ServiceAccount", {"name": "bot.v2", "namespace": namespace, "labels": {"a": "b"}})
    assert document["metadata"] == {"name": f"ksa.{namespace or 'default'}.bot.v2"}
    assert document["spec"] == {"labelsToApply": {"pcsa.a": "b", "pcsa.projectcalico.org/name": "bot.v2"}}


@pytest.mark.parametrize("kind", ["Namespace", "ServiceAccount", "Pod", "Node"])
def test_labels_that_arent_understood_leave_the_object_out(kind):
    """With one label missing a NotIn elsewhere would match; what was stored before stays instead (D4)."""
    documents, found = convert(kind, {"name": "n", "labels": {"a": ["b"]}}, spec={"nodeName": "w"})
    assert documents == ()
    assert str(found[0]) == "metadata.labels.a: expected a text, not a list; quote it"


def pod(spec=None, status=None, **metadata):
    spec = {"nodeName": "w-1", "serviceAccountName": "bot"} | (spec or {})
    status = {"phase": "Running", "podIP": "10.0.0.1"} | (status or {})
    return convert("Pod", {"name": "web-0", "namespace": "shop"} | metadata, spec=spec, status=status)


def only_pod(*args, **metadata):
    (document,), found = pod(*args, **metadata)
    assert found == ()
    return document


def test_a_pod():
    document = only_pod(
        {
            "containers": [
                {
                    "name": "c",
                    "image": "x",
                    "ports": [
                        {"name": "http", "containerPort": 8080},
                        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                        {"containerPort": 9},
                        {"containerPort": 10, "hostPort": 30010, "hostIP": "192.0.2.1"},
                    ],
                },
                {"name": "none"},
            ],
            "initContainers": [{"ports": [{"name": "early", "containerPort": 1, "protocol": "SCTP"}]}],
        },
        {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "2001:DB8::1"}]},
        labels={"app": "web"},
        annotations={"cni.projectcalico.org/containerID": "c0ffee"},
    )
    assert document["kind"] == "WorkloadEndpoint"
    assert document["metadata"] == {
        "name": "w--1-k8s-web--0-eth0",
        "namespace": "shop",
        "labels": {
            "app": "web",
            "projectcalico.org/namespace": "shop",
            "projectcalico.org/orchestrator": "k8s",
            "projectcalico.org/serviceaccount": "bot",
        },
    }
    assert document["spec"] == {
        "orchestrator": "k8s",
        "node": "w-1",
        "pod": "web-0",
        "endpoint": "eth0",
        "containerID": "c0ffee",
        "interfaceName": "cali" + hashlib.sha1(b"shop.web-0", usedforsecurity=False).hexdigest()[:11],
        "ipNetworks": ["10.0.0.1/32", "2001:db8::1/128"],
        "profiles": ["kns.shop", "ksa.shop.bot"],
        "serviceAccountName": "bot",
        "ports": [
            {"name": "http", "protocol": "TCP", "port": 8080},
            {"name": "dns", "protocol": "UDP", "port": 53},
            {"hostPort": 30010, "hostIP": "192.0.2.1", "protocol": "TCP", "port": 10},
            {"name": "early", "protocol": "SCTP", "port": 1},
        ],
    }


def test_interface_names_are_those_of_calicos_network_plugin():
    """A pair that Calico's own tests use."""
    assert kubernetes_pods.interface_name("default", "podA", "cali") == "cali7f94ce7c295"


def test_the_prefix_of_interfaces_and_the_namespace_come_from_outside():
    found = kubernetes.to_v3(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "w"}},
        namespace="default",
        interface_prefix="tap",
    )
    spec = found.documents[0]["spec"]
    assert spec["interfaceName"] == "tap" + hashlib.sha1(b"default.p", usedforsecurity=False).hexdigest()[:11]
    assert spec["profiles"] == ["kns.default"]


CNI, CNIS, AWS = "cni.projectcalico.org/podIP", "cni.projectcalico.org/podIPs", "vpc.amazonaws.com/pod-ips"


@pytest.mark.parametrize(
    ("status", "notes", "networks"),
    [
        ({"podIPs": [{"ip": "10.0.0.2"}]}, {}, ["10.0.0.2/32"]),
        ({"podIPs": []}, {CNI: "10.0.0.3"}, ["10.0.0.1/32"]),
        ({"podIP": ""}, {CNIS: "10.0.0.3/32,2001:db8::3/128", CNI: "10.0.0.4"}, ["10.0.0.3/32", "2001:db8::3/128"]),
        ({"podIP": None}, {CNI: "10.0.0.4/32", AWS: "10.0.0.5"}, ["10.0.0.4/32"]),
        ({"podIP": None}, {AWS: "10.0.0.5, 10.0.0.6"}, ["10.0.0.5/32", "10.0.0.6/32"]),
        ({"podIP": None}, {}, []),
        ({"phase": "Succeeded"}, {}, []),
        ({"phase": "Failed"}, {}, []),
        ({"phase": "Completed"}, {}, []),
        ({"phase": "Pending"}, {}, ["10.0.0.1/32"]),
        ({"phase": None}, {CNI: ""}, ["10.0.0.1/32"]),
    ],
)
def test_addresses_of_pods(status, notes, networks):
    assert only_pod({}, status, annotations=notes)["spec"]["ipNetworks"] == networks


@pytest.mark.parametrize(
    ("notes", "networks"), [({}, ["10.0.0.1/32"]), ({CNI: "10.0.0.1"}, ["10.0.0.1/32"]), ({CNI: ""}, []), ({AWS: ""}, [])]
)
def test_a_terminating_pod_keeps_its_address_until_the_plugin_took_it(notes, networks):
    document = only_pod({}, {}, annotations=notes, deletionTimestamp="2026-01-02T03:04:05Z")
    assert document["spec"]["ipNetworks"] == networks


@pytest.mark.parametrize("address", ["10.0.0", "10.0.0.0/24", "2001:db8::/64"])
def test_an_address_that_isnt_understood_leaves_the_pod_out(address):
    documents, found = pod({}, {"podIP": address})
    assert documents == ()
    assert [str(one) for one in found] == [f"status.podIP: {address!r} is no address"]


@pytest.mark.parametrize("spec", [{"hostNetwork": True}, {"nodeName": ""}, {"nodeName": None}])
def test_pods_without_an_endpoint(spec):
    assert pod(spec) == ((), ())


def test_long_names_of_service_accounts_are_no_label():
    for length, labelled in ((62, True), (63, False)):
        document = only_pod({"serviceAccountName": "s" * length})
        assert ("projectcalico.org/serviceaccount" in document["metadata"]["labels"]) is labelled
        assert document["spec"]["profiles"][1] == f"ksa.shop.{'s' * length}"


def test_a_port_that_isnt_understood_is_left_out():
    ports = [{"name": "a", "containerPort": 0}, {"name": "B", "containerPort": 1}, {"name": "c", "containerPort": 2}]
    (document,), found = pod({"containers": [{"ports": ports}]})
    assert document["spec"]["ports"] == [{"name": "c", "protocol": "TCP", "port": 2}]
    assert [one.path for one in found] == ["spec.containers[0].ports[0].containerPort", "spec.containers[0].ports[1].name"]


def node(labels, **status):
    return only("Node", {"name": "w1", "labels": labels}, spec={"podCIDR": "10.0.0.0/24"}, status=status)


def test_a_node():
    addresses = [
        {"type": "InternalIP", "address": "192.0.2.1"},
        {"type": "InternalIP", "address": "2001:DB8::1"},
        {"type": "Hostname", "address": "w1"},
        {"type": "ExternalIP", "address": "198.51.100.1"},
    ]
    document = node({"b": "2", "a": "1"}, addresses=addresses)
    assert document["metadata"] == {
        "name": "w1",
        "labels": {"b": "2", "a": "1"},
        "annotations": {"projectcalico.org/kube-labels": '{"a":"1","b":"2"}'},
    }
    assert document["spec"] == {
        "orchRefs": [{"nodeName": "w1", "orchestrator": "k8s"}],
        "addresses": [
            {"address": "192.0.2.1", "type": "InternalIP"},
            {"address": "2001:db8::1", "type": "InternalIP"},
            {"address": "198.51.100.1", "type": "ExternalIP"},
        ],
    }
    assert kubernetes_nodes.is_of_kubernetes(document)
    assert not kubernetes_nodes.is_of_kubernetes({"spec": {"bgp": {}}})


def test_labels_that_vanish_from_a_node_go_and_a_users_own_stay():
    stored = node({"old": "1", "role": "edge"})
    stored["metadata"]["labels"]["mine"] = "yes"
    stored["metadata"]["annotations"]["note"] = "kept"
    stored["spec"]["bgp"] = {"ipv4Address": "192.0.2.1/24"}
    copy = deepcopy(stored)
    now = kubernetes_nodes.with_labels(stored, {"role": "worker", "mine": "theirs"})
    assert stored == copy
    assert now["metadata"]["labels"] == {"role": "worker", "mine": "theirs"}
    assert now["spec"] == stored["spec"]
    assert json.loads(now["metadata"]["annotations"]["projectcalico.org/kube-labels"]) == {"role": "worker", "mine": "theirs"}
    assert now["metadata"]["annotations"]["note"] == "kept"
    assert kubernetes_nodes.with_labels(copy, {})["metadata"]["labels"] == {"mine": "yes"}


def test_a_damaged_memory_of_labels_removes_none():
    stored = node({"old": "1"})
    for memory in ("{", "[]", "7"):
        stored["metadata"]["annotations"]["projectcalico.org/kube-labels"] = memory
        assert kubernetes_nodes.with_labels(stored, {"new": "2"})["metadata"]["labels"] == {"old": "1", "new": "2"}
