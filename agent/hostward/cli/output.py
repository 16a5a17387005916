"""Resources as text: tables, YAML and JSON, in the shapes that calicoctl prints (`datamodel-and-cli.md` C.3).

Pure; any thread.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from hostward.cli import tables
from hostward.datastore.yaml_text import to_yaml
from hostward.model.keys import API_VERSION

Document = dict[str, Any]

FORMATS: Final = ("ps", "wide", "yaml", "json")


class Listing(NamedTuple):
    """All resources of a kind, as shown, at a revision."""

    kind: str
    revision: int
    documents: Sequence[Document]
    with_namespace: bool = False


class Named(NamedTuple):
    """Resources that were asked for by name, as shown. `several`: more than one was asked for, however many were found."""

    documents: Sequence[Document]
    several: bool
    with_namespace: bool = False


def render(found: Listing | Named | Sequence[Listing], form: str) -> str:
    """What was found, in one of FORMATS. One object is an object, several are a sequence, all of a kind are a `<Kind>List`."""
    if form == "yaml":
        return to_yaml(_value(found), sort_keys=True)
    if form == "json":
        return json.dumps(_value(found), indent=2, ensure_ascii=False)
    return _tables(found, wide=form == "wide")


def _value(found: Listing | Named | Sequence[Listing]) -> Any:
    match found:
        case Listing():
            return {
                "kind": f"{found.kind}List",
                "apiVersion": API_VERSION,
                "metadata": {"resourceVersion": str(found.revision)},
                "items": list(found.documents),
            }
        case Named():
            return list(found.documents) if found.several else found.documents[0]
        case _:
            # kubectl prints no list for a kind of which there is nothing; the first stands when there is nothing at all.
            filled = [listing for listing in found if listing.documents] or found[:1]
            return _value(filled[0]) if len(filled) == 1 else [_value(listing) for listing in filled]


def _tables(found: Listing | Named | Sequence[Listing], *, wide: bool) -> str:
    match found:
        case Listing():
            return tables.render(found.kind, found.documents, wide=wide, with_namespace=found.with_namespace)
        case Named():
            kinds = dict.fromkeys(document["kind"] for document in found.documents)
            return "".join(
                tables.render(
                    kind,
                    [document for document in found.documents if document["kind"] == kind],
                    wide=wide,
                    with_namespace=found.with_namespace and "namespace" in found.documents[0]["metadata"],
                )
                for kind in kinds
            )
        case _:
            filled = [listing for listing in found if listing.documents] or found[:1]
            return "".join(_tables(listing, wide=wide) for listing in filled)
