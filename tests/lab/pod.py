"""What a manifest of Kubernetes makes of its containers on one node: users, capabilities, mounts, environment.

A directory stands for the node's own files; `tests.lab.container` runs the result. Knows the fields that our manifests have and
refuses others of a security context, so that no setting of theirs goes untried unseen.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.container import CAPABILITIES, Mount, Spec
from tests.lab.image import Image

DEFAULT_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
)
"""What runtimes give a container that drops nothing."""
_KNOWN = {
    "runAsUser", "runAsGroup", "runAsNonRoot", "fsGroup", "supplementalGroups", "allowPrivilegeEscalation",
    "readOnlyRootFilesystem", "capabilities", "seccompProfile",
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """Where a pod runs: its name, which is the pod's own here, too; its files; what the cluster keeps for it.

    That is {name: {key: text}}.
    """

    name: str
    files: Path
    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def containers(pod: Mapping[str, Any], image: Image, node: Node) -> dict[str, Spec]:
    """The pod's containers by name, in the order in which the kubelet runs them: init containers first."""
    return {
        container["name"]: _spec(container, pod, image, node)
        for container in (*pod.get("initContainers", ()), *pod["containers"])
    }


def _spec(container: Mapping[str, Any], pod: Mapping[str, Any], image: Image, node: Node) -> Spec:
    shared = pod.get("securityContext", {})
    context = shared | container.get("securityContext", {})
    if unknown := context.keys() - _KNOWN:
        raise ValueError(f"container {container['name']}: {unknown} isn't known here")
    user = context.get("runAsUser", image.user)
    if user == 0 and context.get("runAsNonRoot"):
        raise ValueError(f"container {container['name']}: the kubelet refuses to run it as root")
    groups = [*context.get("supplementalGroups", ()), *([context["fsGroup"]] if "fsGroup" in context else ())]
    volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
    return Spec(
        str(image.root),
        [*container.get("command", image.entrypoint), *container.get("args", () if "command" in container else image.command)],
        {**image.env, **_environment(container, node)},
        [
            Mount(_source(volumes[mount["name"]], shared, node), mount["mountPath"], mount.get("readOnly", False))
            for mount in container.get("volumeMounts", ())
        ],
        user=user,
        group=context.get("runAsGroup", image.group if user == image.user else 0),
        groups=groups,
        capabilities=_capabilities(context.get("capabilities", {})),
        no_new_privileges=context.get("allowPrivilegeEscalation") is False,
        seccomp=context.get("seccompProfile") == {"type": "RuntimeDefault"},
        read_only=context.get("readOnlyRootFilesystem", False),
    )


def _capabilities(wanted: Mapping[str, Any]) -> list[str]:
    dropped = wanted.get("drop", ())
    given = set() if "ALL" in dropped else set(DEFAULT_CAPABILITIES) - set(dropped)
    return [name for name in CAPABILITIES if name in given | set(wanted.get("add", ()))]


def _environment(container: Mapping[str, Any], node: Node) -> dict[str, str]:
    found = {}
    for entry in container.get("env", ()):
        match entry:
            case {"name": name, "value": value}:
                found[name] = value
            case {"name": name, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName" | "metadata.name"}}}:
                found[name] = node.name
            case {"name": name, "valueFrom": {"configMapKeyRef": ref}}:
                value = node.config_maps.get(ref["name"], {}).get(ref["key"])
                if value is not None:
                    found[name] = value
                elif not ref.get("optional"):
                    raise ValueError(f"the kubelet doesn't start a container without {ref}")
            case _:
                raise ValueError(f"this entry of an environment isn't known here: {json.dumps(entry)}")
    return found


def _source(volume: Mapping[str, Any], shared: Mapping[str, Any], node: Node) -> str:
    """Where a volume's content is; made as the kubelet makes it."""
    match volume:
        case {"hostPath": {"path": path, **how}}:
            place = node.files / path.lstrip("/")
            match how.get("type"):
                case "FileOrCreate" if not place.exists():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.touch(0o644)
                case "DirectoryOrCreate" | None:
                    place.mkdir(parents=True, exist_ok=True)
            return str(place)
        case {"secret": secret}:
            return str(_secret(node, secret, shared.get("fsGroup")))
        case {"emptyDir": _}:
            return "tmpfs"
        case _:
            raise ValueError(f"this volume isn't known here: {json.dumps(volume)}")


def _secret(node: Node, secret: Mapping[str, Any], group: int | None) -> Path:
    """A secret's files, root's own. The kubelet gives them to the pod's group where there is one, who may then read them."""
    place: Path = node.files / "secrets" / secret["secretName"]
    place.mkdir(parents=True, exist_ok=True)
    for key, text in node.secrets.get(secret["secretName"], {}).items():
        file = place / key
        file.write_text(text, encoding="utf-8")
        if group is not None:
            os.chown(file, 0, group)
        file.chmod(secret.get("defaultMode", 0o644) | (0o440 if group is not None else 0))
    return place
