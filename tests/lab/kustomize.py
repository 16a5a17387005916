"""What kustomize makes of a folder, as far as ours go: resources, components, strategic merge patches, config maps from files.

Refuses every other field, so that nothing of ours goes unrendered unseen. Tests compare it with the real program where that is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]
_FIELDS = {
    "apiVersion", "kind", "resources", "components", "patches", "configMapGenerator", "generatorOptions", "images", "labels",
}  # fmt: skip # one thought
_MERGE_KEYS = {
    "containers": "name", "initContainers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath",
    "ports": "containerPort", "tolerations": "key",
}  # fmt: skip # as Kubernetes' own types say


def render(folder: Path) -> list[Document]:
    """The documents of a folder with a kustomization, in no order that means anything."""
    return _render(folder.resolve(), [])


def _render(folder: Path, documents: list[Document]) -> list[Document]:
    what = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    if unknown := set(what) - _FIELDS:
        raise ValueError(f"{folder}: {sorted(unknown)} isn't known here")
    documents = list(documents)
    for name in what.get("resources", ()):
        path = (folder / name).resolve()
        documents += _render(path, []) if path.is_dir() else _read(_inside(folder, name))
    for entry in what.get("configMapGenerator", ()):
        documents.append(_config_map(folder, entry, what["generatorOptions"]))
    for name in what.get("components", ()):
        documents = _render((folder / name).resolve(), documents)
    for entry in what.get("patches", ()):
        for patch in _read(_inside(folder, entry["path"])):
            (index,) = (number for number, one in enumerate(documents) if _identity(one) == _identity(patch))
            documents[index] = merged(documents[index], patch)
    for entry in what.get("images", ()):
        documents = [_renamed(one, entry) for one in documents]
    for entry in what.get("labels", ()):
        documents = [merged(one, {"metadata": {"labels": entry["pairs"]}}) for one in documents]
    identities = [_identity(one) for one in documents]
    if len(set(identities)) != len(identities):
        raise ValueError(f"{folder}: something is there twice: {identities}")
    return documents


def _inside(folder: Path, name: str) -> Path:
    """kustomize reads no file outside of the folder."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        raise ValueError(f"{folder}: {name} is outside of it")
    return path


def _read(path: Path) -> list[Document]:
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def _identity(document: Document) -> tuple[str, ...]:
    metadata = document["metadata"]
    return document["apiVersion"], document["kind"], metadata.get("namespace", ""), metadata["name"]


def _config_map(folder: Path, entry: Document, options: Document) -> Document:
    if not options.get("disableNameSuffixHash") or set(entry) != {"name", "namespace", "files"}:
        raise ValueError(f"{folder}: this config map isn't known here: {entry}")
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": entry["name"], "namespace": entry["namespace"], "labels": options["labels"]},
        "data": {name: _inside(folder, name).read_text(encoding="utf-8") for name in entry["files"]},
    }


def _renamed(value: Any, image: Document) -> Any:
    """Everything with the image of a container by its new name and tag."""
    if isinstance(value, list):
        return [_renamed(one, image) for one in value]
    if not isinstance(value, dict):
        return value
    found = {name: _renamed(one, image) for name, one in value.items()}
    if isinstance(old := value.get("image"), str) and old.rpartition(":")[0] == image["name"]:
        found["image"] = f"{image['newName']}:{image['newTag']}"
    return found


def merged(old: Any, patch: Any, field: str = "") -> Any:
    """A strategic merge patch: mappings by field, lists by what names their elements; null and `$patch` take away."""
    if isinstance(patch, dict) and isinstance(old, dict):
        if patch.get("$patch") == "replace":
            return {name: value for name, value in patch.items() if name != "$patch"}
        found = {name: value for name, value in old.items() if patch.get(name, value) is not None}
        for name, value in patch.items():
            if value is not None:
                found[name] = merged(old.get(name), value, name)
        return found
    if isinstance(patch, list) and isinstance(old, list) and field in _MERGE_KEYS:
        return _merged_list(old, patch, _MERGE_KEYS[field])
    if isinstance(patch, dict):
        return {name: merged(None, value, name) for name, value in patch.items() if value is not None}
    if isinstance(patch, list):
        return [merged(None, value) for value in patch]
    return patch


def _merged_list(old: list[Document], patch: list[Document], key: str) -> list[Document]:
    found = list(old)
    for one in patch:
        at = next((number for number, other in enumerate(found) if other[key] == one[key]), None)
        if one.get("$patch") == "delete":
            found = [other for other in found if other[key] != one[key]]
        elif at is None:
            found.append(merged(None, one))
        else:
            found[at] = merged(found[at], one)
    return found


def canonical(documents: list[Document]) -> list[str]:
    """Documents in an order of their own, and lists too, as the order of a list of containers' variables means nothing."""
    return sorted(json.dumps(_ordered(document), sort_keys=True) for document in documents)


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _ordered(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return sorted((_ordered(inner) for inner in value), key=lambda inner: json.dumps(inner, sort_keys=True))
    return value
