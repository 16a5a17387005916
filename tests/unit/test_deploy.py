"""What is shipped beside the code agrees with it: the DaemonSet, make's own files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hostward.dataplane.prepare import MODULES
from hostward.model.setting_sources import resolve
from hostward.model.settings import BUILT_IN

ROOT = Path(__file__).parents[2]
DEPLOYED = ROOT / "deploy/daemonset.yaml"
CAPABILITIES = {"NET_ADMIN", "NET_RAW"}


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    documents = list(yaml.safe_load_all(DEPLOYED.read_text(encoding="utf-8")))
    assert [document["kind"] for document in documents] == ["DaemonSet"]
    spec: dict[str, Any] = documents[0]["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    template: dict[str, Any] = spec["template"]["spec"]
    return template


@pytest.fixture(scope="module")
def agent(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    found: dict[str, Any] = container
    return found


def test_the_probes_ask_where_the_agent_answers(agent: dict[str, Any]) -> None:
    settings = resolve({e["name"]: e["value"] for e in agent["env"] if "value" in e}, {}, None, None, "worker").settings
    assert settings.health_enabled
    assert settings.health_host == "127.0.0.1"
    felix = {BUILT_IN.health_port, BUILT_IN.prometheus_metrics_port}
    assert felix.isdisjoint({settings.health_port, settings.prometheus_metrics_port}), "calico-node answers there"
    for probe, path in (("livenessProbe", "/liveness"), ("readinessProbe", "/readiness")):
        asked = agent[probe]["httpGet"]
        assert (asked["host"], asked["port"], asked["path"]) == (settings.health_host, settings.health_port, path)


def test_the_pod_has_what_enforcement_needs_and_no_more(pod: dict[str, Any], agent: dict[str, Any]) -> None:
    assert pod["hostNetwork"] is True
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    context = agent["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"]["drop"] == ["ALL"]
    assert set(context["capabilities"]["add"]) == CAPABILITIES
    assert "privileged" not in context
    assert "limits" not in agent["resources"]


def test_root_is_only_who_prepares_the_node(pod: dict[str, Any], agent: dict[str, Any]) -> None:
    (prepare,) = pod["initContainers"]
    assert prepare["image"] == agent["image"]
    assert prepare["securityContext"]["runAsUser"] == 0
    assert prepare["securityContext"]["capabilities"]["drop"] == ["ALL"]
    mounted = {mount["name"] for mount in prepare["volumeMounts"]}
    assert mounted == {"modules", "xtables-lock", "state"}, "what it prepares, and no certificate"


def test_what_the_agent_writes_is_mounted_from_the_host(pod: dict[str, Any], agent: dict[str, Any]) -> None:
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in agent["volumeMounts"]}
    lock, state = mounts[BUILT_IN.iptables_lock_file_path], mounts[BUILT_IN.state_dir]
    assert volumes[lock["name"]]["hostPath"] == {"path": BUILT_IN.iptables_lock_file_path, "type": "FileOrCreate"}
    assert volumes[state["name"]]["hostPath"] == {"path": BUILT_IN.state_dir, "type": "DirectoryOrCreate"}
    assert "readOnly" not in lock
    assert "readOnly" not in state
    assert mounts["/lib/modules"]["readOnly"] is True


def test_etcd_comes_from_calicos_own_names(pod: dict[str, Any], agent: dict[str, Any]) -> None:
    keys = {entry["name"]: entry["valueFrom"].get("configMapKeyRef") for entry in agent["env"] if "valueFrom" in entry}
    assert {name: ref["key"] for name, ref in keys.items() if ref} == {
        "ETCD_ENDPOINTS": "etcd_endpoints",
        "ETCD_CA_CERT_FILE": "etcd_ca",
        "ETCD_CERT_FILE": "etcd_cert",
        "ETCD_KEY_FILE": "etcd_key",
    }
    assert all(ref["name"] == "calico-config" for ref in keys.values() if ref)
    (secret,) = (volume["secret"] for volume in pod["volumes"] if "secret" in volume)
    assert (secret["secretName"], secret["defaultMode"], secret["optional"]) == ("calico-etcd-secrets", 0o440, True)
    assert pod["securityContext"]["fsGroup"] == agent["securityContext"]["runAsGroup"], "the group that may read them"


def test_its_environment_is_no_bad_setting(agent: dict[str, Any]) -> None:
    resolved = resolve({entry["name"]: entry.get("value", "worker") for entry in agent["env"]}, {}, None, None, "elsewhere")
    assert not resolved.errors
    assert resolved.settings.node_name == "worker"


def test_the_daemonset_names_the_modules_that_are_loaded() -> None:
    comment = DEPLOYED.read_text(encoding="utf-8").split("The agent itself is not root.\n")[1].split("#\n")[0]
    assert set(comment.replace("#", "").split()) == set(MODULES)


def test_the_lock_pins_every_requirement_with_hashes_and_names_no_index() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    assert "--index" not in lock
    pinned = re.findall(r"^([a-z0-9-]+)==\S+ \\\n    --hash=sha256:", lock, flags=re.MULTILINE)
    assert len(pinned) == len(re.findall(r"^[a-z0-9]", lock, flags=re.MULTILINE))
    wanted = re.findall(r'^    "([A-Za-z0-9-]+)', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert {name.lower() for name in wanted} & {"etcd3", "ruff", "click"} <= set(pinned)
    assert {"pip", "setuptools", "wheel", "packaging"} <= set(pinned)


@pytest.mark.parametrize("script", ["scripts/bootstrap.sh", "scripts/lock.sh", ".ci/run"])
def test_scripts_are_executable_and_parse(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    shell = path.read_text().splitlines()[0].removeprefix("#!")
    assert subprocess.run([shell, "-n", str(path)], timeout=30, check=False).returncode == 0
