"""What `deploy/` has, in all its variants: fields as Kubernetes' schemas have them, and each variant does what its name says."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from hostward.model.setting_sources import resolve
from tests.lab.kustomize import canonical, render

DEPLOY = Path(__file__).parents[2] / "deploy"
OPERATOR = json.loads((Path(__file__).parents[1] / "manifests/prometheus-operator.json").read_text(encoding="utf-8"))
"""Of the two kinds of the Prometheus operator that we use the fields that we use, as its documentation has them."""
VARIANTS = ("base", "monitoring", "overlays/etcd-tls", "overlays/podmonitor", "overlays/privileged")
TOGETHER = (
    "resources:\n- ../base\ncomponents:\n- ../components/etcd-tls\n- ../components/podmonitor\n- ../components/privileged\n"
)
RELEASES = ("1.25", "1.30", "1.37")
Document = dict[str, Any]


def validate(document: Document, release: str) -> None:
    if document["kind"] in OPERATOR:
        jsonschema.validate(document, OPERATOR[document["kind"]])
    else:
        kubernetes_validate.validate(document, release, strict=True)


def manifests() -> dict[str, list[Document]]:
    """Everything that can be applied, by the file or folder that one names."""
    found = {name: render(DEPLOY / name) for name in VARIANTS}
    for file in DEPLOY.glob("*.yaml"):
        found[file.name] = [one for one in yaml.safe_load_all(file.read_text(encoding="utf-8")) if one]
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_every_manifest_has_the_fields_of_kubernetes(release: str) -> None:
    everything = manifests()
    assert {"daemonset.yaml", "kube-controller.yaml", *VARIANTS} <= set(everything)
    for documents in everything.values():
        assert documents
        for document in documents:
            validate(document, release)


def test_a_misspelt_field_is_found() -> None:
    (daemon_set,) = render(DEPLOY / "base")
    daemon_set["spec"]["template"]["spec"]["hostNetwerk"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="hostNetwerk"):
        validate(daemon_set, RELEASES[-1])
    monitor = next(one for one in render(DEPLOY / "monitoring") if one["kind"] == "PodMonitor")
    monitor["spec"]["podMetricsEndpoints"][0]["intervall"] = "1s"
    with pytest.raises(jsonschema.ValidationError, match="intervall"):
        validate(monitor, RELEASES[-1])


@pytest.mark.skipif(shutil.which("kustomize") is None, reason="needs kustomize")
@pytest.mark.parametrize("variant", VARIANTS)
def test_kustomize_itself_makes_the_same(variant: str) -> None:
    done = subprocess.run(["kustomize", "build", str(DEPLOY / variant)], capture_output=True, text=True, check=True, timeout=60)
    assert canonical(list(yaml.safe_load_all(done.stdout))) == canonical(render(DEPLOY / variant))


def pod_of(folder: Path) -> Document:
    (daemon_set,) = (one for one in render(folder) if one["kind"] == "DaemonSet")
    pod: Document = daemon_set["spec"]["template"]["spec"]
    return pod


def environment(pod: Document) -> dict[str, Any]:
    (agent,) = pod["containers"]
    found = {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in agent["env"]}
    assert len(found) == len(agent["env"]), "a variable is there twice"
    return found


def test_the_plain_file_is_the_base() -> None:
    assert list(yaml.safe_load_all((DEPLOY / "daemonset.yaml").read_text())) == render(DEPLOY / "base")


def test_etcd_tls_has_a_certificate_of_its_own_and_needs_it() -> None:
    pod = pod_of(DEPLOY / "overlays/etcd-tls")
    env = environment(pod)
    assert env["ETCD_ENDPOINTS"] == {"configMapKeyRef": {"name": "hostward-etcd", "key": "endpoints"}}
    (secret,) = (volume for volume in pod["volumes"] if "secret" in volume)
    assert secret["secret"] == {"secretName": "hostward-etcd-tls", "defaultMode": 0o440, "optional": False}
    (mount,) = (mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == secret["name"])
    assert mount["readOnly"] is True
    files = {"ETCD_CA_CERT_FILE": "ca.crt", "ETCD_CERT_FILE": "tls.crt", "ETCD_KEY_FILE": "tls.key"}
    assert {name: env[name] for name in files} == {name: f"{mount['mountPath']}/{key}" for name, key in files.items()}
    assert not [value for value in json.dumps(pod).split('"') if value.startswith("calico-")]


def test_podmonitor_asks_where_the_agent_answers() -> None:
    folder = DEPLOY / "overlays/podmonitor"
    documents = {one["kind"]: one for one in render(folder)}
    assert set(documents) == {"DaemonSet", "PodMonitor", "PrometheusRule", "ConfigMap"}
    pod = pod_of(folder)
    env = environment(pod)
    assert env["HOSTWARD_PROMETHEUS_METRICS_HOST"] == {"fieldRef": {"fieldPath": "status.hostIP"}}
    settings = resolve({name: value for name, value in env.items() if isinstance(value, str)}, {}, None, None, "worker")
    assert (settings.errors, settings.settings.prometheus_metrics_enabled) == ((), True)
    (port,) = pod["containers"][0]["ports"]
    assert port["containerPort"] == port["hostPort"] == settings.settings.prometheus_metrics_port
    monitor = documents["PodMonitor"]["spec"]
    assert [endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]] == [port["name"]]
    labels = documents["DaemonSet"]["spec"]["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert len({one["metadata"]["namespace"] for one in documents.values()}) == 1
    dashboard = documents["ConfigMap"]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["dashboard.json"])["panels"]


def test_privileged_is_root_with_everything() -> None:
    pod = pod_of(DEPLOY / "overlays/privileged")
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"] == {
            "privileged": True, "runAsUser": 0, "runAsGroup": 0, "readOnlyRootFilesystem": True,
        }  # fmt: skip # allowPrivilegeEscalation: false beside it would be refused


def test_all_components_together(tmp_path: Path) -> None:
    """As an operator's own folder has it beside ours (docs/deploy.md)."""
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    (tmp_path / "deploy/own").mkdir()
    (tmp_path / "deploy/own/kustomization.yaml").write_text(TOGETHER)
    pod = pod_of(tmp_path / "deploy/own")
    assert pod["containers"][0]["securityContext"]["privileged"] is True
    assert {"HOSTWARD_PROMETHEUS_METRICS_HOST", "ETCD_KEY_FILE", "NODENAME"} <= set(environment(pod))
    for document in render(tmp_path / "deploy/own"):
        validate(document, RELEASES[-1])
