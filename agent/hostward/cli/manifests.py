"""Manifest files to valid v3 documents with their keys; everything that is wrong with all of them at once (D13).

v1 documents and objects of Kubernetes are converted here and nowhere later. Knows no datastore. The commands' own thread.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hostward.cli.failures import CommandError
from hostward.convert import kubernetes, v1, validate, workload_names
from hostward.datastore.documents import DocumentError, Parsed, Source, parse
from hostward.model.fields import Problem
from hostward.model.keys import API_VERSION, KINDS, ResourceKey

Document = dict[str, Any]

_ENDINGS = (".yaml", ".yml", ".json")
_MOST_SHOWN = 100
DEFAULT_NAMESPACE = "default"


class Manifest(NamedTuple):
    """A valid v3 document of a file. `key` has the name that the user gave it; `v1_name` is "" for a v3 document.

    Of an object of Kubernetes, `v1_name` and `v1_kind` are that object's.
    """

    key: ResourceKey
    document: Document
    place: str
    v1_name: str
    v1_kind: str
    source: Source | None = None
    of_kubernetes: bool = False


class Finding(NamedTuple):
    """Something about a file: `line` and `document` count from 1, `document` is 0 where the file can't be taken apart."""

    file: str
    line: int
    document: int
    path: str
    message: str

    def __str__(self) -> str:
        number = f"document {self.document}: " if self.document else ""
        path = f"{self.path}: " if self.path else ""
        return _one_line(f"{self.file}:{self.line}: {number}{path}{self.message}")


class Files(NamedTuple):
    """What files hold: the valid documents, and all that is wrong with the others."""

    manifests: list[Manifest]
    wrong: list[Finding]


def load(files: Sequence[str], namespace: str | None, *, recursive: bool = False, may_be_empty: bool = False) -> list[Manifest]:
    """All documents of the files, in their order. Raises CommandError with everything that is wrong in any of them."""
    found = read(files, namespace, recursive=recursive)
    if found.wrong:
        raise CommandError(f"failed to execute command: {_joined(list(map(str, found.wrong)))}")
    if not found.manifests and not may_be_empty:
        raise CommandError(f"failed to execute command: no resources specified in {', '.join(files)}")
    return found.manifests


def read(files: Sequence[str], namespace: str | None, *, recursive: bool = False, judges: bool = True) -> Files:
    """All documents of the files, in their order, good and bad. Raises CommandError for a file that can't be read at all.

    Without `judges` a v3 document needs no more than a kind and a name.
    """
    found = Files([], [])
    for path in _paths(files, recursive):
        name = "stdin" if path is None else str(path)
        try:
            parsed = parse(_read(path), name)
        except DocumentError as error:
            found.wrong.append(Finding(error.file, error.line, 0, "", error.reason))
            continue
        for one in parsed:
            if kubernetes.is_kubernetes(one.document):
                _add_kubernetes(one, namespace, found, judges=judges)
            else:
                _add(_manifest(one, namespace, judges=judges), found)
    return found


def _add(judged: Manifest | list[Finding], found: Files) -> None:
    if isinstance(judged, Manifest):
        found.manifests.append(judged)
    else:
        found.wrong.extend(judged)


def _add_kubernetes(parsed: Parsed, namespace: str | None, found: Files, *, judges: bool) -> None:
    """All that an object of Kubernetes becomes, which may be nothing; here any problem is an error (D13)."""
    original, source = parsed
    converted = kubernetes.to_v3(original, namespace=namespace or DEFAULT_NAMESPACE)
    if converted.problems:
        found.wrong.extend(_findings(source, converted.problems))
        return
    for document in converted.documents:
        own = namespace if KINDS[document["kind"]].namespaced else None
        judged = _manifest(Parsed(document, source), own, judges=judges)
        if isinstance(judged, Manifest):
            judged = judged._replace(v1_name=original["metadata"]["name"], v1_kind=original["kind"], of_kubernetes=True)
        _add(judged, found)


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


def _manifest(parsed: Parsed, namespace: str | None, *, judges: bool) -> Manifest | list[Finding]:
    document, source = parsed
    v1_name = v1_kind = ""
    try:
        if v1.is_v1(document):
            v1_kind = str(document.get("kind"))
            document, v1_name = v1.to_v3(document)
        document = workload_names.named(document)
        problems = validate.problems(document) if judges else _unnamed(document)
    except v1.V1Error as error:
        problems = error.problems
    if not problems:
        key, reason = _key(document, namespace)
        if not reason:
            return Manifest(key, document, source.where(), v1_name, v1_kind, source)
        problems = [Problem("metadata.namespace", reason)]
    return _findings(source, problems)


def _findings(source: Source, problems: Iterable[Problem]) -> list[Finding]:
    return [Finding(source.file, source.line(one.path), source.number, one.path, one.reason) for one in problems]


def _unnamed(document: Document) -> list[Problem]:
    """What keeps a document from having a key."""
    meta = document.get("metadata")
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in KINDS or document.get("apiVersion") != API_VERSION:
        return [one for one in validate.problems(document) if one.path in ("", "kind", "apiVersion")]
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str):
        return [Problem("metadata.name", "missing")]
    return []


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
