"""A real API server takes every variant of `deploy/`, field by field; kubectl's own kustomize makes the same of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.kubernetes import BIN, ApiServer
from tests.lab.kustomize import canonical, render
from tests.lab.netns import run
from tests.unit.test_kustomize import DEPLOY, OPERATOR, VARIANTS, commands, own_variant, pod_of

FILES = sorted(DEPLOY.glob("*.yaml"))


def definition(kind: str) -> dict[str, Any]:
    """Lets the server know a kind of the Prometheus operator, with the fields that our own schema of it has."""
    plural, group = f"{kind.lower()}s", "monitoring.coreos.com"
    schema = structural(OPERATOR[kind])
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": kind, "plural": plural}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def structural(schema: Any) -> Any:
    """A JSON schema as the server has them: kinds of its own words, unknown fields refused without being told."""
    if isinstance(schema, list):
        return [structural(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == ["string", "integer"]:
        return {"x-kubernetes-int-or-string": True}
    left_out = {name for name in schema if name == "const" or (name == "additionalProperties" and schema[name] is False)}
    found = {name: structural(value) for name, value in schema.items() if name not in left_out}
    if "const" in schema or "enum" in schema:
        found["type"] = "string"
    if found.get("properties", {}).get("metadata"):
        found["properties"]["metadata"] = {"type": "object"}
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with ApiServer() as api:
        api.apply(*map(definition, OPERATOR))
        for kind in OPERATOR:
            api.kubectl("wait", "--for=condition=established", f"crd/{kind.lower()}s.monitoring.coreos.com")
        yield api


def accepted(server: ApiServer, documents: list[dict[str, Any]], folder: Path) -> int:
    """How many objects the server would take, all defaults and rules of its own applied."""
    (folder / "all.yaml").write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    # kubectl refuses fields that the server's schema doesn't have; the server checks their values.
    applied = server.kubectl("apply", "--dry-run=server", "--validate=true", "-f", str(folder / "all.yaml"), "-o", "name")
    return len(applied.split())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_manifest_is_accepted(server: ApiServer, file: Path) -> None:
    documents = [document for document in yaml.safe_load_all(file.read_text(encoding="utf-8")) if document]
    assert documents
    applied = server.kubectl("apply", "--dry-run=server", "--validate=true", "-f", str(file), "-o", "name").split()
    assert len(applied) == len(documents)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_accepted(server: ApiServer, variant: str, tmp_path: Path) -> None:
    documents = render(DEPLOY / variant)
    assert accepted(server, documents, tmp_path) == len(documents)


def test_a_variant_of_ones_own_is_accepted(server: ApiServer, tmp_path: Path) -> None:
    documents = render(own_variant(tmp_path))
    assert accepted(server, documents, tmp_path) == len(documents)


def test_what_etcd_tls_needs_is_made_as_the_page_says(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ca.crt", "tls.crt", "tls.key"):
        (tmp_path / name).write_text(name)
    created = [command[1:] for command in commands() if "create" in command]
    made = [json.loads(server.kubectl(*command, "--dry-run=client", "-o", "json")) for command in created]
    pod = json.dumps(pod_of(DEPLOY / "overlays/etcd-tls"))
    assert [one["kind"] for one in made] == ["ConfigMap", "Secret"]
    assert list(made[0]["data"]) == ["endpoints"]
    assert set(made[1]["data"]) == {"ca.crt", "tls.crt", "tls.key"}
    for one in made:
        assert f'"{one["metadata"]["name"]}"' in pod


def test_a_field_that_is_misspelt_is_refused(server: ApiServer, tmp_path: Path) -> None:
    (daemon_set,) = render(DEPLOY / "base")
    daemon_set["spec"]["template"]["spec"]["hostNetwerk"] = True
    with pytest.raises(RuntimeError, match="hostNetwerk"):
        accepted(server, [daemon_set], tmp_path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_kubectls_kustomize_makes_the_same(variant: str, tmp_path: Path) -> None:
    """kubectl 1.20.2 has kustomize 2, which knows no components: it gets what they say in the words of its time."""
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    for file in (tmp_path / "deploy" / name / "kustomization.yaml" for name in {"base", "monitoring", variant}):
        what = yaml.safe_load(file.read_text(encoding="utf-8"))
        folders = [name for name in what.get("resources", []) if (file.parent / name).is_dir()]
        for name in what.pop("components", []):
            component = DEPLOY / variant / name  # as it was written
            inner = yaml.safe_load((component / "kustomization.yaml").read_text(encoding="utf-8"))
            for patch in inner.get("patches", []):
                shutil.copy(component / patch["path"], file.parent)
            folders += [f"{name}/{folder}" for folder in inner.get("resources", [])]
            what["patches"] = inner.get("patches", [])
        if patches := what.pop("patches", []):
            what["patchesStrategicMerge"] = [patch["path"] for patch in patches]
        what["resources"] = [name for name in what.get("resources", []) if name not in folders]
        what["bases"] = folders
        what["kind"], what["apiVersion"] = "Kustomization", "kustomize.config.k8s.io/v1beta1"
        file.write_text(json.dumps(what), encoding="utf-8")
    made = run(str(BIN / "kubectl"), "kustomize", str(tmp_path / "deploy" / variant))
    assert canonical(list(yaml.safe_load_all(made))) == canonical(render(DEPLOY / variant))
