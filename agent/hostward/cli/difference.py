"""Changes of resources as a unified diff of their YAML, without what servers add (`--dry-run`). Pure; any thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import unified_diff

from hostward.cli.lookup import real_name
from hostward.cli.rehearsal import Change
from hostward.convert.defaults import exported, shown
from hostward.datastore.store import Document, Found
from hostward.datastore.yaml_text import to_yaml
from hostward.model.keys import ResourceKey

_CONTEXT = 3  # lines
_NOTHING = "/dev/null"


def difference(changes: Sequence[Change]) -> str:
    """The diff of every resource that changes; "" if nothing does."""
    return "".join(f"{line}\n" for change in changes for line in _lines(change))


def summary(changes: Sequence[Change]) -> str:
    """How many resources would be created, changed, deleted or left, for people."""
    created = sum(change.before is None and not change.unreadable for change in changes)
    deleted = sum(change.after is None for change in changes)
    same = sum(not any(_lines(change)) for change in changes)
    changed = len(changes) - created - deleted - same
    return f"dry run, nothing was written: {created} to create, {changed} to change, {deleted} to delete, {same} to stay as is"


def _lines(change: Change) -> Iterator[str]:
    before, after = _text(change.key, change.before), _text(change.key, change.after)
    if change.unreadable:
        before = ["(not a JSON object)"]
    old = f"{change.key} (stored)" if before else _NOTHING
    new = f"{change.key} (after)" if after else _NOTHING
    yield from unified_diff(before, after, old, new, n=_CONTEXT, lineterm="")


def _text(key: ResourceKey, document: Document | None) -> list[str]:
    if document is None:
        return []
    found = Found(key, document, 0)
    return to_yaml(exported(shown(key, real_name(found), document, "")), sort_keys=True).splitlines()
