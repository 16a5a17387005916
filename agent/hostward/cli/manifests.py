"""Manifest files to valid v3 documents with their keys; everything that is wrong with all of them at once (D13).

v1 documents are converted here and nowhere later. Knows no datastore. The commands' own thread.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hostward.cli.failures import CommandError
from hostward.convert import v1, validate
from hostward.datastore.documents import DocumentError, Parsed, parse
from hostward.model.keys import KINDS, ResourceKey

Document = dict[str, Any]

_ENDINGS = (".yaml", ".yml", ".json")
_MOST_SHOWN = 100
DEFAULT_NAMESPACE = "default"


class Manifest(NamedTuple):
    """A valid v3 document of a file. `key` has the name that the user gave it; `v1_name` is "" for a v3 document."""

    key: ResourceKey
    document: Document
    place: str
    v1_name: str
    v1_kind: str


def load(files: Sequence[str], namespace: str | None, *, recursive: bool = False) -> list[Manifest]:
    """All documents of the files, in their order. Raises CommandError with everything that is wrong in any of them."""
    if not files:
        raise CommandError("failed to execute command: no files are given")
    manifests: list[Manifest] = []
    wrong: list[str] = []
    for path in _paths(files, recursive):
        name = "stdin" if path is None else str(path)
        try:
            parsed = parse(_read(path), name)
        except DocumentError as error:
            wrong.append(str(error))
            continue
        for one in parsed:
            found = _manifest(one, namespace)
            if isinstance(found, Manifest):
                manifests.append(found)
            else:
                wrong.extend(found)
    if wrong:
        raise CommandError(f"failed to execute command: {_joined([_one_line(text) for text in wrong])}")
    if not manifests:
        raise CommandError(f"failed to execute command: no resources specified in {', '.join(files)}")
    return manifests


def _joined(wrong: list[str]) -> str:
    if len(wrong) == 1:
        return wrong[0]
    left_out = len(wrong) - _MOST_SHOWN
    more = [f"and {left_out} more"] if left_out > 0 else []
    return "\n  ".join([f"{len(wrong)} problems, so nothing was done:", *wrong[:_MOST_SHOWN], *more])


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _paths(files: Iterable[str], recursive: bool) -> Iterable[Path | None]:
    """The files to read, None for stdin; a directory's manifests in the order of their names (C.3)."""
    for file in files:
        path = Path(file)
        if file == "-":
            yield None
        elif path.is_dir():
            inside = path.rglob("*") if recursive else path.iterdir()
            yield from sorted(one for one in inside if one.name.endswith(_ENDINGS) and not one.is_dir())
        else:
            yield path


def _read(path: Path | None) -> bytes:
    try:
        return sys.stdin.buffer.read() if path is None else path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CommandError(f"failed to execute command: {path or 'stdin'}: {reason}") from error


def _manifest(parsed: Parsed, namespace: str | None) -> Manifest | list[str]:
    document, source = parsed
    v1_name = v1_kind = ""
    try:
        if v1.is_v1(document):
            v1_kind = str(document.get("kind"))
            document, v1_name = v1.to_v3(document)
        problems = validate.problems(document)
    except v1.V1Error as error:
        problems = error.problems
    reasons = [(problem.path, str(problem)) for problem in problems]
    key = None
    if not reasons:
        key, reason = _key(document, namespace)
        reasons = [("metadata.namespace", f"metadata.namespace: {reason}")] if reason else []
    if key is None or reasons:
        return [f"{source.where(path)}: document {source.number}: {reason}" for path, reason in reasons]
    return Manifest(key, document, source.where(), v1_name, v1_kind)


def _key(document: Document, namespace: str | None) -> tuple[ResourceKey, str]:
    """The key of a valid document, and what is wrong with its namespace or with -n (C.3)."""
    kind, meta = document["kind"], document["metadata"]
    if not KINDS[kind].namespaced:
        reason = f"{kind} lives in no namespace, so -n {namespace} can't be meant for it" if namespace else ""
        return ResourceKey(kind, "", meta["name"]), reason
    own = meta.get("namespace")
    reason = f"{own!r} is not the namespace given with -n, {namespace!r}" if own and namespace and own != namespace else ""
    meta["namespace"] = own or namespace or DEFAULT_NAMESPACE
    return ResourceKey(kind, meta["namespace"], meta["name"]), reason
