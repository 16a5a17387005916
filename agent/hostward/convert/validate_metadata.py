"""What metadata of v3 documents may say (`statements.md` A.10 Common metadata).

Fields that only servers write are let through, so that what `get` prints can be applied again. Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hostward.convert import names
from hostward.convert.checks import Check, Report, anything, each_of, fields, mapping, matching, text, under
from hostward.model.fields import show

_MAX_ANNOTATIONS: Final = 256 * 1024
NAMESPACE_LABEL: Final = "projectcalico.org/namespace"


def _wrong_annotation_key(key: str) -> str | None:
    return names.wrong_label_key(key.lower())


def label_value(value: Any, path: str, report: Report) -> None:
    """A label's value."""
    if not isinstance(value, str):
        report(path, f"expected a text, not {show(value)}; quote it")
    elif reason := names.wrong_label_value(value):
        report(path, f"{value!r}: {reason}")


labels: Final = mapping(names.wrong_label_key, label_value)
"""Labels: qualified names to values."""


def _not_too_large(value: Any, path: str, report: Report) -> None:
    if isinstance(value, dict):
        size = sum(len(f"{key}{item}".encode("utf-8", "surrogatepass")) for key, item in value.items())
        if size > _MAX_ANNOTATIONS:
            report(path, f"{size} bytes; all annotations together have at most {_MAX_ANNOTATIONS}")


_ANNOTATIONS: Final = each_of(mapping(_wrong_annotation_key, text), _not_too_large)


def name(wrong: Callable[[str], str | None]) -> Check:
    """A name, judged by a function that says what is wrong with it."""

    def check(value: Any, path: str, report: Report) -> None:
        if not isinstance(value, str):
            report(path, f"expected a name, not {show(value)}; quote it")
        elif reason := wrong(value):
            report(path, f"{show(value)} is no name for this: {reason}")

    return check


plain_name: Final = name(names.wrong_name)
"""A name of DNS labels."""
_REVISION: Final = matching(r"[1-9][0-9]{0,18}", "a revision that `get` printed")


def metadata(name_check: Check, *, namespaced: bool, labels_check: Check = labels) -> Check:
    """The metadata of a kind of resource."""

    def also(value: dict[str, Any], path: str, report: Report) -> None:
        if not namespaced and value.get("namespace"):
            report(under(path, "namespace"), "this kind lives in no namespace")

    return fields(
        {
            "name": name_check,
            "namespace": name(names.wrong_tier_name) if namespaced else text,
            "labels": labels_check,
            "annotations": _ANNOTATIONS,
            "resourceVersion": _REVISION,
            "uid": text,
            "creationTimestamp": text,
            **dict.fromkeys(
                ("generation", "generateName", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"), anything
            ),
            **dict.fromkeys(("ownerReferences", "finalizers", "managedFields"), anything),
        },
        required=("name",),
        also=also,
    )
