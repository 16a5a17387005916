"""The real name of a policy, which may differ from the name it is stored under (`statements.md` A.3).

Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hostward.model import document as json_document
from hostward.model.document import DocumentError
from hostward.model.keys import ResourceKey

DEFAULT_TIER: Final = "default"
NAME_ANNOTATION: Final = "projectcalico.org/metadata"
POLICY_KINDS: Final = frozenset(
    (
        "GlobalNetworkPolicy",
        "NetworkPolicy",
        "StagedGlobalNetworkPolicy",
        "StagedNetworkPolicy",
    )
)
"""The kinds that live in tiers and have a historical name. A StagedKubernetesNetworkPolicy does neither."""


def display_name(key: ResourceKey, document: Mapping[str, Any]) -> str:
    """What the user typed as the name of the resource stored at `key`, whichever release wrote it.

    Of a policy: the name in the annotation; else, in the default tier, the stored name without one leading `default.`; else the
    stored name. Of other kinds the stored name. Raises DocumentError when the annotation holds no JSON object with a name.
    """
    if key.kind not in POLICY_KINDS:
        return key.name
    note = _mapping(_mapping(document.get("metadata")).get("annotations")).get(NAME_ANNOTATION)
    if note:
        name = json_document.read(note).get("name") if isinstance(note, str) else None
        if not isinstance(name, str) or not name:
            raise DocumentError("holds no name")
        return name
    return stored_name(key, _mapping(document.get("spec")).get("tier"))


def stored_name(key: ResourceKey, tier: object) -> str:
    """The name that the key and the tier alone give (rules 2 and 3 of A.3)."""
    if tier in (None, "", DEFAULT_TIER):
        return key.name.removeprefix(f"{DEFAULT_TIER}.") or key.name
    return key.name


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
