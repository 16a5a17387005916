"""Every verdict of the public conformance data, on what the converter makes of its objects (README.md beside this file)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from hostward.convert import kubernetes
from hostward.convert.defaults import filled
from hostward.convert.validate import problems
from tests.lab.pod_model import Packet, World

FILE = Path(__file__).with_name("networkpolicy-cases.json.gz")
CASES = json.loads(gzip.decompress(FILE.read_bytes()))
POLICY = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
PORTS = [
    {"containerPort": port, "name": f"serve-{port}-{protocol.lower()}", "protocol": protocol}
    for port in (80, 81)
    for protocol in ("TCP", "UDP", "SCTP")
]
VERDICTS = 123_669
SELF_PROBES = 13_713


def objects(step):
    """The Kubernetes objects of a step's cluster."""
    for name, labels in step["namespaces"].items():
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    for name, pod in step["pods"].items():
        namespace, _, own = name.partition("/")
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": own, "namespace": namespace, "labels": pod["labels"]},
            "spec": {"nodeName": "w1", "containers": [{"name": "serve", "ports": PORTS}]},
            "status": {"phase": "Running", "podIP": pod["ip"]},
        }
    for policy in step["policies"] or ():
        yield POLICY | policy


def world(step):
    found = []
    for one in objects(step):
        converted = kubernetes.to_v3(one)
        assert converted.problems == ()
        assert [problems(document) for document in converted.documents] == [[]]
        found += [filled(document) for document in converted.documents]
    return World(found)


def probes(step):
    for name, expected in step["results"].items():
        pods, _, service = name.rpartition(":")
        source, destination = pods.split(">")
        protocol, port = service.split("/")
        yield name, Packet(step["pods"][source]["ip"], step["pods"][destination]["ip"], protocol, int(port)), expected


@pytest.mark.parametrize("case", CASES, ids=[f"{index:03}" for index in range(len(CASES))])
def test_case(case):
    wrong = [
        (number, name, f"expected {expected}, got {got}")
        for number, step in enumerate(case["steps"])
        for model in [world(step)]
        for name, packet, expected in probes(step)
        if (got := "".join(str(int(bit)) for bit in model.verdict(packet))) != expected
    ]
    assert wrong == [], case["description"]


def test_nothing_of_the_data_is_left_out():
    asked = [name.rpartition(":")[0].split(">") for case in CASES for step in case["steps"] for name in step["results"]]
    assert len(asked) == VERDICTS
    assert sum(source == destination for source, destination in asked) == SELF_PROBES
    assert all(step["probe"] is None for case in CASES for step in case["steps"])
