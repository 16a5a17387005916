"""Names of workload endpoints: made of node, orchestrator, workload and endpoint (`statements.md` A.4).

Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

KIND: Final = "WorkloadEndpoint"
_THIRD: Final = {"k8s": "pod", "cni": "containerID"}
"""The field that names the workload, by orchestrator; `libnetwork` repeats its own name, all others have `workload`."""


def third_field(orchestrator: object) -> str:
    """The name of the field that the third part of a name comes from."""
    if orchestrator == "libnetwork":
        return "orchestrator"
    return _THIRD.get(orchestrator, "workload") if isinstance(orchestrator, str) else "workload"


def name_of(spec: Mapping[str, Any]) -> str | None:
    """The name that a workload endpoint must have; None when a part of it is missing or can't be part of a name."""
    orchestrator = spec.get("orchestrator")
    parts = [spec.get(field) for field in ("node", "orchestrator", third_field(orchestrator), "endpoint")]
    if not all(isinstance(part, str) and part and part.strip("-") == part for part in parts):
        return None
    return "-".join(str(part).replace("-", "--") for part in parts)


def parts_of(name: str) -> tuple[str, str, str, str] | None:
    """Node, orchestrator, workload and endpoint of a name; None if it has not these four parts."""
    parts, start, at = [], 0, 1
    while at < len(name):
        if name[at] == "-":
            if name[at + 1 : at + 2] == "-":
                at += 1
            else:
                parts.append(name[start:at])
                start = at + 1
        at += 1
    parts.append(name[start:])
    if len(parts) != 4 or not all(parts):
        return None
    node, orchestrator, workload, endpoint = (part.replace("--", "-") for part in parts)
    return node, orchestrator, workload, endpoint


def named(document: dict[str, Any]) -> dict[str, Any]:
    """A document of any kind; a workload endpoint without a name has the one that its fields make."""
    meta, spec = document.get("metadata"), document.get("spec")
    if document.get("kind") != KIND or not isinstance(spec, dict) or not isinstance(meta, dict | None):
        return document
    if (meta or {}).get("name") or not (name := name_of(spec)):
        return document
    return document | {"metadata": {**(meta or {}), "name": name}}
