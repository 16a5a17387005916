"""Resources as text: tables, YAML, JSON and templates, in the shapes that calicoctl prints (`statements.md` C.3).

Pure; any thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from hostward.cli import tables
from hostward.datastore.yaml_text import to_yaml
from hostward.model.keys import API_VERSION

Document = dict[str, Any]

FORMATS: Final = ("ps", "wide", "yaml", "json")
_PARAMETRIC: Final = {"custom-columns": "NAME,...", "go-template": "TEMPLATE", "go-template-file": "FILE"}


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


class FormatError(ValueError):
    """A format that can't be used; the text says why and what could."""


class Format(NamedTuple):
    """How to print: one of FORMATS or of _PARAMETRIC, and what belongs to it."""

    name: str
    columns: tuple[str, ...] = ()
    template: tuple[Any, ...] = ()


def parse_format(text: str, read_file: Callable[[str], str]) -> Format:
    """What `-o` says. `read_file` gives a template file's text. FormatError."""
    name, equals, value = text.partition("=")
    if name in FORMATS and not equals:
        return Format(name)
    if name not in _PARAMETRIC:
        raise FormatError(
            f"unrecognized output format '{text}'; known are {', '.join((*FORMATS, *map('{}=...'.format, _PARAMETRIC)))}"
        )
    if not value:
        raise FormatError(f"{name} needs a value: {name}={_PARAMETRIC[name]}")
    if name == "custom-columns":
        return Format(name, tuple(column.strip().upper() for column in value.split(",")))
    from hostward.cli import template  # noqa: PLC0415 # few ask for it

    try:
        nodes = template.parse(read_file(value) if name == "go-template-file" else value)
    except template.TemplateError as error:
        raise FormatError(f"{name}: {error}") from error
    return Format("go-template", (), tuple(nodes))


def render(found: Listing | Named | Sequence[Listing], form: Format | str) -> str:
    """What was found, as text: one object is an object, several are a sequence, all of a kind are a `<Kind>List`.

    Raises FormatError.
    """
    form = Format(form) if isinstance(form, str) else form
    if form.name == "yaml":
        return to_yaml(_value(found), sort_keys=True)
    if form.name == "json":
        return json.dumps(_value(found), indent=2, ensure_ascii=False)
    if form.name == "go-template":
        return _templated(found, form)
    return _tables(found, form)


def _templated(found: Listing | Named | Sequence[Listing], form: Format) -> str:
    """As calicoctl gives a template a list: of one list of a kind, or of the objects that were named (C.3)."""
    from hostward.cli import template  # noqa: PLC0415 # as in parse_format

    value = _value(found)
    try:
        return template.run(form.template, value if isinstance(value, list) else [value])
    except template.TemplateError as error:
        raise FormatError(f"go-template: {error}") from error


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


def _tables(found: Listing | Named | Sequence[Listing], form: Format) -> str:
    match found:
        case Listing():
            return _table(found.kind, found.documents, form, with_namespace=found.with_namespace)
        case Named():
            kinds = dict.fromkeys(document["kind"] for document in found.documents)
            return "".join(
                _table(
                    kind,
                    [document for document in found.documents if document["kind"] == kind],
                    form,
                    with_namespace=found.with_namespace and "namespace" in found.documents[0]["metadata"],
                )
                for kind in kinds
            )
        case _:
            filled = [listing for listing in found if listing.documents] or found[:1]
            return "".join(_tables(listing, form) for listing in filled)


def _table(kind: str, documents: Sequence[Document], form: Format, *, with_namespace: bool) -> str:
    if form.name != "custom-columns":
        return tables.render(kind, documents, wide=form.name == "wide", with_namespace=with_namespace)
    known = tables.headings(kind)
    if odd := [column for column in form.columns if column not in known]:
        raise FormatError(f"unknown column {odd[0]!r}; {kind} has {', '.join(known)}")
    return tables.render_columns(kind, documents, form.columns)
