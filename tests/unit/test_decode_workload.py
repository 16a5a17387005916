"""Workload endpoints, sets in namespaces and slices of services: what is understood and what D4 makes of the rest."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from hostward.model.decode import Decoded, decode
from hostward.model.keys import ResourceKey
from hostward.model.resources import EndpointSlice, NamedPort, NetworkSet, WorkloadEndpoint
from tests.unit.decoding import paths, stored

NAME = "w1-k8s-web--0-eth0"
# As Calico's CNI plugin and its Kubernetes controllers write it.
WHOLE: dict[str, Any] = {
    "orchestrator": "k8s",
    "node": "w1",
    "pod": "web-0",
    "containerID": "c0ffee",
    "endpoint": "eth0",
    "serviceAccountName": "default",
    "ipNetworks": ["172.30.1.5/32", "2001:DB8:0::5/128"],
    "ipNATs": [{"internalIP": "172.30.1.5", "externalIP": "192.0.2.9"}],
    "ipv4Gateway": "169.254.1.1",
    "profiles": ["kns.shop", "ksa.shop.default"],
    "interfaceName": "cali1234567890a",
    "mac": "ee:ee:ee:ee:ee:ee",
    "ports": [
        {"name": "http", "protocol": "TCP", "port": 8080, "hostPort": 0, "hostIP": ""},
        {"name": "", "protocol": "TCP", "port": 81, "hostPort": 81},
        {"protocol": "UDP", "port": 82, "hostPort": 82},
        {"name": "dns", "protocol": 17, "port": 53},
    ],
    "allowSpoofedSourcePrefixes": ["10.9.8.7/16", "2001:db8:1::/48"],
    "qosControls": {"ingressBandwidth": 1},
}
LABELS = {
    "app": "web",
    "projectcalico.org/namespace": "shop",
    "projectcalico.org/orchestrator": "k8s",
    "projectcalico.org/serviceaccount": "default",
}
UNDERSTOOD = WorkloadEndpoint(
    "shop",
    NAME,
    "w1",
    "cali1234567890a",
    ("172.30.1.5", "2001:db8::5"),
    ("kns.shop", "ksa.shop.default"),
    (NamedPort("http", 6, 8080), NamedPort("dns", 17, 53)),
    LABELS,
    ("10.9.0.0/16", "2001:db8:1::/48"),
)
FIELDS = ("node", "interface", "addresses", "profiles", "labels", "spoofable")


def workload(labels: object = None, **changes: Any) -> tuple[WorkloadEndpoint | None, list[str]]:
    """The whole endpoint with some fields changed, or without those that are "gone"; and where its problems are."""
    spec = {name: value for name, value in (WHOLE | changes).items() if value != "gone"}
    decoded = stored("WorkloadEndpoint", spec, NAME, "shop", labels={"app": "web"} if labels is None else labels)
    assert decoded.value is None or isinstance(decoded.value, WorkloadEndpoint)
    return decoded.value, paths(decoded)


# --- workload endpoints -------------------------------------------------------------------------------------------------
def test_a_workload_endpoint() -> None:
    assert workload() == (UNDERSTOOD, [])


@pytest.mark.parametrize(
    ("labels", "changes", "expected"),
    [
        # Nobody gets another namespace, or another's labels, by labelling a pod (M-17).
        ({"projectcalico.org/namespace": "kube-system"}, {}, {"projectcalico.org/namespace": "shop"}),
        ({"pcns.team": "admins", "pcsa.team": "admins"}, {}, {}),
        ({"pcns": "kept", "xpcns.a": "kept"}, {}, {"pcns": "kept", "xpcns.a": "kept"}),
        ({"projectcalico.org/serviceaccount": "admin", "projectcalico.org/orchestrator": "cni"}, {}, {}),
        ({}, {"serviceAccountName": "admin"}, {"projectcalico.org/serviceaccount": "admin"}),
        ({}, {"orchestrator": "cni"}, {"projectcalico.org/orchestrator": "cni"}),
    ],
)
def test_labels_that_an_endpoint_has_from_its_place(
    labels: dict[str, str], changes: dict[str, Any], expected: dict[str, str]
) -> None:
    value, problems = workload(labels, **changes)
    assert value is not None
    assert (dict(value.labels), problems) == ({name: LABELS[name] for name in LABELS if name != "app"} | expected, [])


def test_an_endpoint_without_a_service_account_or_orchestrator_has_no_such_label() -> None:
    value, problems = workload({}, serviceAccountName="gone", orchestrator="")
    assert value is not None
    assert (dict(value.labels), problems) == ({"projectcalico.org/namespace": "shop"}, [])


@pytest.mark.parametrize(
    ("networks", "addresses"),
    [
        (["10.0.0.1/32", "10.0.0.1"], ("10.0.0.1",)),
        (["2001:db8:0:0::1"], ("2001:db8::1",)),
        (["2001:db8::1/128", "10.0.0.1/32"], ("2001:db8::1", "10.0.0.1")),
    ],
)
def test_addresses(networks: list[str], addresses: tuple[str, ...]) -> None:
    value, problems = workload(ipNetworks=networks)
    assert value is not None
    assert (value.addresses, problems) == (addresses, [])


@pytest.mark.parametrize("changes", [{"ipNetworks": []}, {"ipNetworks": None}, {"ipNetworks": "gone"}])
@pytest.mark.parametrize("more", [{}, {"node": ""}, {"interfaceName": "gone"}])
def test_an_endpoint_without_addresses_is_absent(changes: dict[str, Any], more: dict[str, Any]) -> None:
    """As a finished pod's is (M-6); its interface, if it is still there, is cut off as unknown (H-52)."""
    assert workload(**changes, **more) == (None, [])


BAD_PORTS: list[object] = [
    {"name": "a", "protocol": "ICMP", "port": 1},
    {"name": "a", "protocol": "TCP", "port": 0},
    {"name": "a", "protocol": "TCP", "port": 65536},
    {"name": "a", "protocol": "TCP", "port": "22"},
    {"name": "a", "protocol": "TCP", "port": True},
    {"name": "a b", "protocol": "TCP", "port": 1},
    {"name": 5, "protocol": "TCP", "port": 1},
    {"name": "a", "protocol": "TCP", "port": 1, "x": 1},
    {"name": "a", "port": 1},
    "http",
    None,
]


@pytest.mark.parametrize(
    ("changes", "where", "kept"),
    [
        ({"colour": 1}, ["spec.colour"], {}),
        ({"expectedIPs": ["10.0.0.1"]}, ["spec.expectedIPs"], {}),
        ({"profiles": ["a", 5]}, ["spec.profiles[1]"], {"profiles": ()}),
        ({"profiles": "a"}, ["spec.profiles"], {"profiles": ()}),
        ({"allowSpoofedSourcePrefixes": ["10.0.0.0/8", "x"]}, ["spec.allowSpoofedSourcePrefixes[1]"], {"spoofable": ()}),
        ({"allowSpoofedSourcePrefixes": "0.0.0.0/0"}, ["spec.allowSpoofedSourcePrefixes"], {"spoofable": ()}),
        # Its other addresses still count for selectors; none may be left, and the interface is still denied by name.
        ({"ipNetworks": ["10.0.0.1/32", "10.0.0.0/24"]}, ["spec.ipNetworks[1]"], {"addresses": ("10.0.0.1",)}),
        ({"ipNetworks": ["2001:db8::1/32"]}, ["spec.ipNetworks[0]"], {"addresses": ()}),
        ({"ipNetworks": ["10.0.0.1/"]}, ["spec.ipNetworks[0]"], {"addresses": ()}),
        ({"ipNetworks": ["10.0.0.1/128"]}, ["spec.ipNetworks[0]"], {"addresses": ()}),
        ({"ipNetworks": ["1" * 100_000, 5, None]}, [f"spec.ipNetworks[{i}]" for i in range(3)], {"addresses": ()}),
        ({"ipNetworks": "10.0.0.1/32"}, ["spec.ipNetworks"], {"addresses": ()}),
        ({"ipNetworks": [], "colour": 1}, ["spec.colour"], {"addresses": ()}),
        (
            {"serviceAccountName": 5, "orchestrator": ["k8s"]},
            ["spec.orchestrator", "spec.serviceAccountName"],
            {"labels": {"app": "web", "projectcalico.org/namespace": "shop"}},
        ),
        *(({"ports": [port]}, ["spec.ports[0]"], {}) for port in BAD_PORTS),
        ({"ports": {}}, ["spec.ports"], {}),
    ],
)
def test_an_endpoint_that_is_not_understood_is_isolated(
    changes: dict[str, Any], where: list[str], kept: dict[str, object]
) -> None:
    value, problems = workload(**changes)
    assert problems == where
    assert value is not None
    assert value.isolated
    assert {name: getattr(value, name) for name in FIELDS} == {
        name: kept.get(name, getattr(UNDERSTOOD, name)) for name in FIELDS
    }
    assert value.ports == (() if "ports" in changes else UNDERSTOOD.ports)


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({"kind": "HostEndpoint"}, "kind"),
        ({"apiVersion": "projectcalico.org/v4"}, "apiVersion"),
        ({"colour": 1}, "colour"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"labels": {"a": 5}}}, "metadata.labels.a"),
        ({"metadata": {"labels": "a"}}, "metadata.labels"),
    ],
)
def test_an_odd_document_isolates_too(document: dict[str, Any], where: str) -> None:
    decoded = decode(ResourceKey("WorkloadEndpoint", "shop", NAME), json.dumps({"spec": WHOLE} | document).encode())
    assert isinstance(decoded.value, WorkloadEndpoint)
    assert (decoded.value.isolated, decoded.value.addresses, paths(decoded)) == (True, UNDERSTOOD.addresses, [where])


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"node": ""}, ["spec.node"]),
        ({"node": "gone"}, ["spec.node"]),
        ({"node": 5}, ["spec.node", "spec.node"]),
        ({"interfaceName": "gone"}, ["spec.interfaceName"]),
        ({"interfaceName": "*"}, ["spec.interfaceName"]),
        ({"interfaceName": "sixteen-letters."}, ["spec.interfaceName", "spec.interfaceName"]),
        ({"interfaceName": "cali+"}, ["spec.interfaceName", "spec.interfaceName"]),
        ({"node": "", "interfaceName": ""}, ["spec.node"]),
    ],
)
def test_an_endpoint_of_no_node_or_interface_can_only_be_reported(changes: dict[str, Any], where: list[str]) -> None:
    assert workload(**changes) == (None, where)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"spec":' + b"[" * 5000])
def test_an_endpoint_that_cannot_be_read_can_only_be_reported(raw: bytes) -> None:
    for kind in ("WorkloadEndpoint", "KubernetesEndpointSlice", "NetworkSet", "NetworkPolicy"):
        decoded = decode(ResourceKey(kind, "n", "x"), raw)
        assert (decoded.value, paths(decoded)) == (None, [""])


@pytest.mark.parametrize("spec", [None, [], "x"])
def test_an_endpoint_without_a_spec(spec: object) -> None:
    decoded = stored("WorkloadEndpoint", spec, NAME, "shop")
    assert (decoded.value, paths(decoded)) == (None, [] if spec is None else ["spec", "spec.node"])


# --- sets in namespaces -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("spec", "labels", "nets", "kept", "where"),
    [
        ({"nets": ["10.0.0.1/8"]}, {"role": "m"}, ("10.0.0.0/8",), {"role": "m"}, []),
        ({"nets": ["10.0.0.0/8", "bad"]}, {"a": 5}, ("10.0.0.0/8",), {}, ["metadata.labels.a", "spec.nets[1]"]),
        ({}, {"projectcalico.org/namespace": "kube-system"}, (), {}, []),
        (None, {}, (), {}, ["spec"]),
    ],
)
def test_a_network_set_in_a_namespace(
    spec: object, labels: dict[str, Any], nets: tuple[str, ...], kept: dict[str, str], where: list[str]
) -> None:
    """It has the namespace's label, whatever it says itself, and inherits the namespace's own labels (M-7)."""
    decoded = stored("NetworkSet", spec, "s", "shop", labels=labels)
    expected = NetworkSet("s", nets, {"projectcalico.org/namespace": "shop", **kept}, ("kns.shop",))
    assert (decoded.value, paths(decoded)) == (expected, where)


# --- slices of services -------------------------------------------------------------------------------------------------
SLICE: dict[str, Any] = {
    "kind": "KubernetesEndpointSlice",
    "apiVersion": "projectcalico.org/v3",
    "metadata": {"name": "dns-x1", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "dns"}},
    "addressType": "IPv4",
    "endpoints": [
        {"addresses": ["10.0.0.2"], "conditions": {"ready": False}, "nodeName": "w1", "targetRef": {"kind": "Pod"}},
        {"addresses": ["10.0.0.1", "10.0.0.2", "2001:DB8::1", "a.name", 5, None]},
        {"addresses": []},
        {"addresses": None},
        {},
    ],
    "ports": [
        {"name": "dns", "protocol": "UDP", "port": 53, "appProtocol": "x"},
        {"name": "dns-tcp", "port": 53},
        {"protocol": None, "port": 53},
        {"name": "all", "protocol": "TCP", "port": None},
        {"name": "all"},
        {"protocol": "SCTP", "port": 7},
    ],
}
ADDRESSES, PORTS = ("10.0.0.2", "10.0.0.1", "2001:db8::1"), ((17, 53), (6, 53), (132, 7))


def a_slice(**changes: Any) -> Decoded:
    document = copy.deepcopy(SLICE) | changes
    return decode(ResourceKey("KubernetesEndpointSlice", "kube-system", "dns-x1"), json.dumps(document).encode())


def test_a_slice() -> None:
    assert a_slice() == Decoded(EndpointSlice("kube-system", "dns", ADDRESSES, PORTS))
    assert a_slice(endpoints=None, ports=None) == Decoded(EndpointSlice("kube-system", "dns"))


@pytest.mark.parametrize("labels", [None, {}, {"kubernetes.io/service-name": ""}, {"other": "dns"}])
def test_a_slice_of_no_service_is_nothing(labels: object) -> None:
    assert a_slice(metadata={"name": "dns-x1", "labels": labels}) == Decoded(None)


@pytest.mark.parametrize(
    ("changes", "where", "addresses", "ports"),
    [
        ({"endpoints": [{"addresses": ["10.0.0.1"]}, 5, {"addresses": "10.0.0.2"}]},
         ["endpoints[1]", "endpoints[2]"], ("10.0.0.1",), PORTS),
        ({"endpoints": {}}, ["endpoints"], (), PORTS),
        ({"endpoints": [{"addresses": ["1" * 100_000]}]}, [], (), PORTS),
        ({"ports": [{"protocol": "ICMP", "port": 1}, {"port": 1}]}, ["ports[0]"], ADDRESSES, ((6, 1),)),
        ({"ports": [{"port": "80"}, {"port": 65536}, {"port": -1}, {"port": True}, "x"]},
         [f"ports[{i}]" for i in range(5)], ADDRESSES, ()),
        ({"ports": "x"}, ["ports"], ADDRESSES, ()),
        ({"spec": {}}, [], ADDRESSES, PORTS),
        ({"colour": 1}, ["colour"], ADDRESSES, PORTS),
        ({"kind": "EndpointSlice"}, ["kind"], ADDRESSES, PORTS),
    ],
)  # fmt: skip
def test_of_a_slice_what_is_understood(
    changes: dict[str, Any], where: list[str], addresses: tuple[str, ...], ports: tuple[tuple[int, int], ...]
) -> None:
    decoded = a_slice(**changes)
    assert (decoded.value, paths(decoded)) == (EndpointSlice("kube-system", "dns", addresses, ports), where)
