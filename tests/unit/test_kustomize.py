"""All variants of what `deploy/` has: fields as Kubernetes' schemas have them, and each variant does what its name says."""

from __future__ import annotations

import json
import re
import shlex
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
from tests.lab.pages import block

DEPLOY = Path(__file__).parents[2] / "deploy"
OPERATOR = json.loads((Path(__file__).parents[1] / "manifests/prometheus-operator.json").read_text(encoding="utf-8"))
"""Of the two kinds of the Prometheus operator that we use the fields that we use, as its documentation has them."""
VARIANTS = ("base", "monitoring", "overlays/cleanup", "overlays/etcd-tls", "overlays/podmonitor", "overlays/privileged")
PAGE = DEPLOY.parent / "docs/deploy.md"
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
    assert canonical(kustomize(DEPLOY / variant)) == canonical(render(DEPLOY / variant))


def kustomize(folder: Path) -> list[Document]:
    done = subprocess.run(["kustomize", "build", str(folder)], capture_output=True, text=True, check=True, timeout=60)
    return list(yaml.safe_load_all(done.stdout))


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


def test_cleanup_removes_rules_where_the_agent_was() -> None:
    pod, plain = pod_of(DEPLOY / "overlays/cleanup"), pod_of(DEPLOY / "base")
    (once,), (waits,) = pod["initContainers"], pod["containers"]
    assert (once["command"], waits["command"]) == (["hostward", "cleanup"], ["sleep", "infinity"])
    assert once["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["DAC_OVERRIDE", "NET_ADMIN", "NET_RAW"]}
    assert once["volumeMounts"] == plain["initContainers"][0]["volumeMounts"]
    assert not {"livenessProbe", "readinessProbe"} & set(waits)
    assert waits["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_variant_of_ones_own(tmp_path: Path) -> None:
    """As docs/deploy.md shows it."""
    folder = own_variant(tmp_path)
    documents = render(folder)
    for document in documents:
        validate(document, RELEASES[-1])
        assert document["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    pod = pod_of(folder)
    assert {"HOSTWARD_PROMETHEUS_METRICS_HOST", "ETCD_KEY_FILE", "NODENAME"} <= set(environment(pod))
    (monitor,) = (one for one in documents if one["kind"] == "PodMonitor")
    speaks_tls_to_prometheus_alone(pod, monitor["spec"]["podMetricsEndpoints"])
    images = {container["image"] for container in (*pod["initContainers"], *pod["containers"])}
    assert images == {"registry.example.com/hostward:0.1.0"}
    if shutil.which("kustomize"):
        assert canonical(kustomize(folder)) == canonical(documents)


def speaks_tls_to_prometheus_alone(pod: Document, endpoints: list[Document]) -> None:
    env = environment(pod)
    settings = resolve({name: value for name, value in env.items() if isinstance(value, str)}, {}, None, None, "worker")
    taken = settings.settings
    assert (settings.errors, taken.prometheus_metrics_client_auth) == ((), "RequireAndVerifyClientCert")
    (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if one["mountPath"].endswith("/metrics"))
    (volume,) = (one for one in pod["volumes"] if one["name"] == mount["name"])
    assert volume["secret"] == {"secretName": "hostward-metrics-tls", "defaultMode": 0o440}
    files = taken.prometheus_metrics_ca_file, taken.prometheus_metrics_cert_file, taken.prometheus_metrics_key_file
    assert files == tuple(f"{mount['mountPath']}/{name}" for name in ("ca.crt", "tls.crt", "tls.key"))
    (endpoint,) = endpoints
    plain = next(one for one in render(DEPLOY / "monitoring") if one["kind"] == "PodMonitor")["spec"]["podMetricsEndpoints"][0]
    assert {name: value for name, value in endpoint.items() if name not in ("scheme", "tlsConfig")} == plain
    assert endpoint["scheme"] == "https"
    assert {"ca", "cert", "keySecret", "serverName"} == set(endpoint["tlsConfig"])


def own_variant(folder: Path) -> Path:
    shutil.copytree(DEPLOY, folder / "deploy")
    (folder / "deploy/own").mkdir()
    (folder / "deploy/own/kustomization.yaml").write_text(block(PAGE, "kustomization.yaml"))
    return folder / "deploy/own"


def commands() -> list[list[str]]:
    found = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for text in found for line in text.splitlines()]


def test_the_pages_commands_name_what_is_there() -> None:
    (daemon_set,) = render(DEPLOY / "base")
    metadata, applied = daemon_set["metadata"], []
    for command in commands():
        match command:
            case ["kubectl", "apply", "-f", path]:
                assert list(yaml.safe_load_all((DEPLOY.parent / path).read_text(encoding="utf-8")))
            case ["kubectl", "apply", "-k", path]:
                applied.append(path.removeprefix("deploy/"))
            case ["kubectl", "-n", namespace, "rollout", "status", what] | ["kubectl", "-n", namespace, "exec", what, *_]:
                assert (namespace, what) == (metadata["namespace"], f"daemonset/{metadata['name']}")
            case ["kubectl", "-n", namespace, "delete", kind, what]:
                assert (namespace, kind, what) == (metadata["namespace"], "daemonset", metadata["name"])
            case ["kubectl", "-n", namespace, "create", *_]:
                assert namespace == metadata["namespace"]  # tests/kube runs it
            case _:
                pytest.fail(f"nothing tries {command}")
    assert applied == [variant for variant in VARIANTS if variant.startswith("overlays/")]
