"""The controller's manifest agrees with the program: what it watches it may read, and nothing else; ports, account, etcd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from hostward.cli.kube_controller import CONTROLLERS, command
from hostward.controller import resources

MANIFEST = Path(__file__).parents[2] / "deploy/kube-controller.yaml"


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    found = list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))
    assert len({one["kind"] for one in found}) == len(found)
    return {one["kind"]: one for one in found}


@pytest.fixture(scope="module")
def pod(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = documents["Deployment"]["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    template: dict[str, Any] = spec["template"]["spec"]
    return template


def options() -> dict[str, Any]:
    return {one.name: one.default for one in command.params if isinstance(one, click.Option) and one.name}


def test_it_may_list_and_watch_what_it_watches_and_nothing_else(documents: dict[str, dict[str, Any]]) -> None:
    allowed = set()
    for rule in documents["ClusterRole"]["rules"]:
        assert set(rule) == {"apiGroups", "resources", "verbs"}
        assert rule["verbs"] == ["list", "watch"]
        allowed |= {(group, plural) for group in rule["apiGroups"] for plural in rule["resources"]}
    watched = set()
    for resource in (one for several in resources.CONTROLLERS.values() for one in several):
        assert resource.path.startswith(("/api/v1", "/apis/"))
        group = "" if resource.path == "/api/v1" else resource.path.split("/")[2]
        watched.add((group, resource.plural))
    assert allowed == watched


def test_the_account_is_the_one_that_is_bound(documents: dict[str, dict[str, Any]], pod: dict[str, Any]) -> None:
    account = documents["ServiceAccount"]["metadata"]
    (subject,) = documents["ClusterRoleBinding"]["subjects"]
    assert subject == {"kind": "ServiceAccount", **account}
    assert documents["ClusterRoleBinding"]["roleRef"]["name"] == documents["ClusterRole"]["metadata"]["name"]
    assert pod["serviceAccountName"] == account["name"]
    assert documents["Deployment"]["metadata"]["namespace"] == account["namespace"]


def test_it_is_nobody_and_can_do_nothing_on_its_node(pod: dict[str, Any]) -> None:
    about = pod["securityContext"]
    assert about["runAsNonRoot"] is True
    assert about["runAsUser"] > 0
    assert about["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all("hostPath" not in volume for volume in pod["volumes"])
    assert pod["priorityClassName"] == "system-cluster-critical"
    assert pod["enableServiceLinks"] is False


def test_the_probes_ask_where_it_answers(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    defaults = options()
    for probe, path in (("livenessProbe", "/liveness"), ("readinessProbe", "/readiness")):
        asked = container[probe]["httpGet"]
        assert (asked["host"], asked["port"], asked["path"]) == (defaults["health_host"], defaults["health_port"], path)
    assert pod["hostNetwork"] is True, "or the kubelet couldn't reach its loopback"


def test_etcd_comes_from_calicos_own_names(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    keys = {entry["name"]: entry["valueFrom"].get("configMapKeyRef") for entry in container["env"]}
    assert {name: ref["key"] for name, ref in keys.items() if ref} == {
        "ETCD_ENDPOINTS": "etcd_endpoints",
        "ETCD_CA_CERT_FILE": "etcd_ca",
        "ETCD_CERT_FILE": "etcd_cert",
        "ETCD_KEY_FILE": "etcd_key",
    }
    (volume,) = pod["volumes"]
    assert volume["secret"] == {"secretName": "calico-etcd-secrets", "defaultMode": 0o440}
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"], "the group that may read them"


def test_its_command_is_one_that_parses(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    program, verb, *arguments = container["command"] + container.get("args", [])
    assert (program, verb) == ("hostward", command.name)
    with command.make_context(verb, arguments):
        pass


def test_the_command_knows_all_controllers() -> None:
    assert tuple(resources.CONTROLLERS) == CONTROLLERS
